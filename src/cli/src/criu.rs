//! The folders and descriptors that `checkpoint` and `restore` work with.

use anyhow::{Context, bail};
use engine::options::{CheckpointOptions, CriuOptions, RestoreOptions};

use crate::args::command::{CheckpointArgs, CriuArgs, RestoreArgs};
use crate::caller::{Caller, find_program};

/// Folder of the images where none is named, in the current one. The same as runc's.
const IMAGES: &str = "checkpoint";

/// What a checkpoint does, with absolute paths.
///
/// # Errors
/// Older images that are not where they should be, a descriptor that is not open.
pub fn checkpoint_options(caller: &Caller, args: &CheckpointArgs) -> anyhow::Result<CheckpointOptions> {
    let criu = criu_options(caller, &args.criu);
    if let Some(parent) = &args.parent_path {
        check_parent(&criu.images, parent)?;
    }
    let adopt =
        |number| sys::process::adopt_fd(number).with_context(|| format!("invalid --status-fd argument {number}"));
    Ok(CheckpointOptions {
        criu,
        parent: args.parent_path.clone(),
        pre_dump: args.pre_dump,
        leave_running: args.leave_running,
        tcp_skip_in_flight: args.tcp_skip_in_flight,
        link_remap: args.link_remap,
        page_server: args.page_server.clone(),
        status_fd: args.status_fd.map(adopt).transpose()?,
    })
}

/// What a restore does, with absolute paths.
#[must_use]
pub fn restore_options(caller: &Caller, args: &RestoreArgs) -> RestoreOptions {
    RestoreOptions {
        criu: criu_options(caller, &args.criu),
        tcp_close: args.tcp_close,
        lsm_profile: args.lsm_profile.clone(),
        lsm_mount_context: args.lsm_mount_context.clone(),
    }
}

fn criu_options(caller: &Caller, args: &CriuArgs) -> CriuOptions {
    CriuOptions {
        program: find_program("criu"),
        images: caller.absolute(args.image_path.as_deref().unwrap_or(IMAGES)),
        work: args.work_path.as_ref().map(|path| caller.absolute(path)),
        tcp_established: args.tcp_established,
        external_unix_sockets: args.ext_unix_sk,
        shell_job: args.shell_job,
        file_locks: args.file_locks,
        auto_dedup: args.auto_dedup,
        lazy_pages: args.lazy_pages,
        cgroups: args.cgroups,
        network_lock: args.network_lock,
    }
}

/// CRIU makes a link to the older images, so that both folders can be moved together.
fn check_parent(images: &str, parent: &str) -> anyhow::Result<()> {
    if parent.starts_with('/') {
        bail!("--parent-path must be relative to --image-path");
    }
    // Not there yet, it would be made below; `..` leads out of it all the same.
    std::fs::create_dir_all(images).with_context(|| format!("cannot make {images}"))?;
    let path = format!("{images}/{parent}");
    let found = std::fs::metadata(&path).with_context(|| format!("invalid --parent-path {parent}"))?;
    if !found.is_dir() {
        bail!("invalid --parent-path {parent}: not a folder");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_images_are_beside_the_new_ones() {
        let dir = std::env::temp_dir().join(format!("parent-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("old")).expect("a folder");
        std::fs::write(dir.join("file"), "").expect("a file");
        let images = dir.join("new");
        let images = images.to_str().expect("a UTF-8 path");
        assert!(check_parent(images, "../old").is_ok());
        for wrong in ["../none", "../file", "/tmp"] {
            let error = format!("{:#}", check_parent(images, wrong).expect_err(wrong));
            assert!(error.contains("--parent-path"), "{error}");
        }
        std::fs::remove_dir_all(dir).expect("a folder to remove");
    }
}
