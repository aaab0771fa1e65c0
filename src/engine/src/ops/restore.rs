//! `restore`: a container from the files of a checkpoint.

use sys::process::Exit;

use super::create::{check, probe, with_planned};
use super::delete::delete_own;
use super::foreground::{Session, follow};
use super::run::{Stay, check_terminal};
use super::{Context, checkpoint, update};
use crate::bundle::Bundle;
use crate::criu::{self, Service};
use crate::error::{Error, Result};
use crate::options::{CgroupsMode, CreateOptions, RestoreOptions};
use crate::plan::plan_restore;
use crate::state::Store;

/// Restores a container. Returns how it ended, or `None` when detached.
///
/// The bundle decides on groups, limits, device rules, mounts and hooks; what the processes are comes from the images.
///
/// # Errors
/// [`Error::Criu`] with the first error of CRIU's log; nothing of the container is left then. [`Error::Unsupported`] without
/// CRIU, or for what it cannot restore.
pub fn restore(
    context: &Context<'_>,
    bundle: &Bundle,
    options: &CreateOptions,
    restore: &RestoreOptions,
    stay: Stay,
) -> Result<Option<Exit>> {
    check_terminal(bundle, options, stay)?;
    check(context, bundle, options)?;
    let facts = probe(context, bundle, options)?;
    checkpoint::warn_unprivileged(context, &facts);
    Store::open(&context.root)?;
    let staging = format!("{}/{}", canonical(&context.root)?, options.id);
    let plan = plan_restore(&bundle.spec, &facts, options, restore, &staging)?;
    check_version(bundle, restore)?;
    let (exit, store, folder) = with_planned(context, bundle, options, &plan, |host| {
        if let Some(recorder) = &mut host.recorder {
            recorder.lock = None;
        }
        if matches!(restore.criu.cgroups, CgroupsMode::Full | CgroupsMode::Strict) && !plan.groups.is_empty() {
            // With these modes CRIU has brought the limits of the images.
            update::update(context, &options.id, &bundle.spec.resources)?;
        }
        if stay == Stay::Detached {
            return Ok(None);
        }
        let session = Session::begin(host.console.take())?;
        let spawned = host.spawned()?;
        follow(context, session, spawned.id.pid, &spawned.pidfd, None).map(Some)
    })?;
    if stay == Stay::Foreground {
        delete_own(context, &store, &folder, &bundle.spec)?;
    }
    Ok(exit)
}

/// Asks a CRIU of its own: the one that restores has the caller's standard streams, and cannot tell of a bad start.
fn check_version(bundle: &Bundle, restore: &RestoreOptions) -> Result<()> {
    let criu = Service::start(&restore.criu)?;
    let version = criu.version()?;
    for namespace in bundle.spec.namespaces.iter().filter(|namespace| namespace.path.is_some()) {
        checkpoint::check_namespace(version, namespace.kind)?;
    }
    if restore.lsm_profile.is_some() || restore.lsm_mount_context.is_some() {
        criu::check_version(version, criu::OTHER_LABEL, "another label than that of the images")?;
    }
    criu.close().map(drop)
}

fn canonical(path: &str) -> Result<String> {
    let found = std::fs::canonicalize(path)
        .map_err(|error| error.raw_os_error().map_or(sys::Errno::IO, sys::Errno::from_raw_os_error))
        .and_then(|path| path.into_os_string().into_string().map_err(|_| sys::Errno::ILSEQ));
    found.map_err(|errno| Error::from(sys::Error::new(format!("realpath({path:?})"), errno)))
}
