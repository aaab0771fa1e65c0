//! `checkpoint`: a running container as files.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use runtime_spec::model::NamespaceKind;
use runtime_spec::state::Status;

use super::delete::{Force, Report, delete};
use super::{Context, spec_of};
use crate::criu::rpc::{self, ExternalMount, Features, Kind, Options, Response, Version};
use crate::criu::{self, Answer, Folders, Service};
use crate::error::{Error, Result};
use crate::facts;
use crate::host::Level;
use crate::options::CheckpointOptions;
use crate::plan::checkpoint::{self, Dump, plan_dump};
use crate::state::{Lock, Record};

const LOG: &str = "dump.log";

/// Saves a container with all its processes, and deletes it unless it is to go on.
///
/// # Errors
/// [`Error::Criu`] with the first error of CRIU's log; the container runs on then. [`Error::Unsupported`] without CRIU, or
/// for what it cannot save.
pub fn checkpoint(context: &Context<'_>, id: &str, mut options: CheckpointOptions) -> Result<()> {
    let (_, folder) = context.find(id)?;
    let lock = folder.lock()?;
    let (record, config) = folder.read()?;
    match folder.status(&record, &context.proc)? {
        Status::Running | Status::Paused => {}
        other => return Err(Error::Usage(format!("container cannot be checkpointed in {} state", other.name()))),
    }
    let facts = facts::probe(&context.proc)?;
    warn_unprivileged(context, &facts);
    let dump = plan_dump(&spec_of(id, &config)?, &facts, &record.groups)?;
    let folders = Folders::open(&options.criu.images, options.criu.work.as_deref(), true)?;
    let criu = Service::start(&options.criu)?;
    let version = criu.version()?;
    check_abilities(&criu, version, &dump, &options)?;

    let group = cgroup::Group::open(&record.groups)?;
    let was_frozen = group.is_frozen()?;
    let mut request = request(context, &record, &dump, &options, version)?;
    folders.fill(&mut request);
    if !options.pre_dump {
        folders.write_descriptors(&record.streams)?;
    }
    let kind = if options.pre_dump { Kind::PreDump } else { Kind::Dump };
    criu.send(&rpc::request(kind, Some(&request), false))?;
    let status_fd = options.status_fd.take().filter(|_| request.status_fd.is_none());
    converse(context, &criu, kind, status_fd, lock)
        .and_then(|response| finish(criu, kind, response.as_ref(), &folders))
        .inspect_err(|_| thaw(context, &group, was_frozen))?;
    if !options.leave_running
        && !options.pre_dump
        && let Err(error) = delete(context, id, Force::Yes, Report::No)
    {
        context.warn(&format!("the container was saved, but not deleted: {}", error.chain().join(": ")));
    }
    Ok(())
}

/// CRIU works for root; for others it is a try.
pub(super) fn warn_unprivileged(context: &Context<'_>, facts: &facts::HostFacts) {
    if facts.euid != 0 || facts.in_user_namespace {
        context.warn("criu is made for root of the machine: without it, saving and restoring may fail");
    }
}

/// Asks CRIU for what this dump needs of it, before anything is done to the container.
fn check_abilities(criu: &Service, version: Version, dump: &Dump, options: &CheckpointOptions) -> Result<()> {
    for (kind, _) in &dump.external {
        check_namespace(version, *kind)?;
    }
    let wanted = Features { mem_track: options.pre_dump, lazy_pages: options.criu.lazy_pages };
    if wanted == Features::default() {
        return Ok(());
    }
    let found = criu.features(wanted)?;
    if wanted.mem_track && !found.mem_track {
        return Err(Error::Unsupported(
            "criu is missing a feature: this kernel does not tell which memory was written to (CONFIG_MEM_SOFT_DIRTY)"
                .to_owned(),
        ));
    }
    if wanted.lazy_pages && !found.lazy_pages {
        return Err(Error::Unsupported(
            "criu is missing a feature: this kernel cannot bring memory when it is touched (userfaultfd)".to_owned(),
        ));
    }
    Ok(())
}

/// Whether CRIU is new enough for a namespace of this kind that is not the container's own.
pub(super) fn check_namespace(version: Version, kind: NamespaceKind) -> Result<()> {
    match kind {
        NamespaceKind::Network => {
            criu::check_version(version, criu::EXTERNAL_NETWORK, "a network namespace that is joined")
        }
        NamespaceKind::Pid => criu::check_version(version, criu::EXTERNAL_PID, "a pid namespace that is joined"),
        _ => Ok(()),
    }
}

fn request(
    context: &Context<'_>,
    record: &Record,
    dump: &Dump,
    options: &CheckpointOptions,
    version: Version,
) -> Result<Options> {
    let init = record.init.ok_or(Error::NotRunning)?;
    let common = &options.criu;
    let told_by_notification = version >= criu::EXTERNAL_PID;
    Ok(Options {
        log_file: LOG,
        root: record.rootfs.clone(),
        pid: Some(init.pid),
        leave_running: options.leave_running,
        ext_unix_sk: common.external_unix_sockets,
        tcp_established: common.tcp_established,
        tcp_skip_in_flight: options.tcp_skip_in_flight,
        shell_job: common.shell_job,
        file_locks: common.file_locks,
        link_remap: options.link_remap,
        page_server: options.page_server.clone(),
        parent_images: options.parent.clone(),
        auto_dedup: common.auto_dedup,
        lazy_pages: common.lazy_pages,
        status_fd: options.status_fd.as_ref().map(AsRawFd::as_raw_fd).filter(|_| !told_by_notification),
        external_mounts: if options.pre_dump { Vec::new() } else { external_mounts(context, record, dump, init.pid)? },
        external: dump.external.iter().map(external_namespace).collect::<Result<_>>()?,
        cgroups_mode: checkpoint::cgroups_mode(common.cgroups),
        freeze_cgroup: dump.freezer.clone().filter(|_| !dump.unified_freezer || version >= criu::UNIFIED_FREEZER),
        config_file: dump.config_file.clone(),
        network_lock: common.network_lock.map(checkpoint::network_lock),
        ..Options::default()
    })
}

/// Mounts of things of the host by where they are, and files that are hidden behind a device.
fn external_mounts(context: &Context<'_>, record: &Record, dump: &Dump, pid: i32) -> Result<Vec<ExternalMount>> {
    let rootfs = sys::fs::open_dir(&record.rootfs)?;
    let mut list = Vec::new();
    for mount in &dump.mounts {
        let key = criu::mount_point(&context.proc, rootfs.as_fd(), &record.rootfs, &mount.destination)?;
        list.push(ExternalMount { value: key.clone(), key });
    }
    let root = context.proc.open_root(pid)?;
    for path in &dump.masked {
        if let Some(key) = criu::covered_file(&context.proc, root.as_fd(), path)? {
            list.push(ExternalMount { key, value: "/dev/null".to_owned() });
        }
    }
    Ok(list)
}

/// `net[4026531840]:extRootNetNS`.
fn external_namespace((kind, path): &(NamespaceKind, String)) -> Result<String> {
    let inode = sys::fs::stat(sys::fs::open(path, sys::fs::OFlags::PATH)?.as_fd())?.st_ino;
    Ok(format!("{}[{inode}]:{}", kind.proc_name(), checkpoint::namespace_key(*kind)))
}

/// Answers what CRIU tells until it tells the end, which is returned; `None` where it ended without one.
///
/// Once lazy pages can be fetched the container waits for whoever fetches them, however long that takes: the lock is given
/// back then, so that it can be deleted.
fn converse(
    context: &Context<'_>,
    criu: &Service,
    kind: Kind,
    mut status_fd: Option<OwnedFd>,
    lock: Lock,
) -> Result<Option<Response>> {
    let mut lock = Some(lock);
    loop {
        let response = match criu.receive()? {
            Some(Answer { response, .. }) if response.kind == Some(Kind::Notify) && response.success => response,
            Some(Answer { response, .. }) if response.kind == Some(kind) => return Ok(Some(response)),
            other => return Ok(other.map(|answer| Response { success: false, ..answer.response })),
        };
        let point = response.notification.unwrap_or_default().point;
        if context.trace {
            (context.log)(Level::Debug, &format!("criu {point}"));
        }
        if point == "status-ready" {
            drop(lock.take());
            if let Some(fd) = status_fd.take()
                && let Err(error) = sys::fs::write_all(fd.as_fd(), &[0])
            {
                context.warn(&format!("cannot tell that lazy pages can be fetched: {error}"));
            }
        }
        criu.send(&rpc::notified(true))?;
    }
}

/// Waits for CRIU's end, and judges both.
fn finish(criu: Service, kind: Kind, response: Option<&Response>, folders: &Folders) -> Result<()> {
    let failed = criu.failure(kind, response, Some((folders, LOG)));
    let ended_well = criu.close()?;
    match response {
        // After a pre-dump CRIU waits for the dump, and takes it for a failure that none comes.
        Some(response) if response.success && (ended_well || kind == Kind::PreDump) => Ok(()),
        _ => Err(failed),
    }
}

/// CRIU lets the processes go when it fails, unless it died.
fn thaw(context: &Context<'_>, group: &cgroup::Group, was_frozen: bool) {
    let thawed = group.is_frozen().and_then(|frozen| if frozen && !was_frozen { group.thaw() } else { Ok(()) });
    if let Err(error) = thawed {
        context.warn(&format!("the container may still be frozen: {error}"));
    }
}
