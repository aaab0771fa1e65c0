//! Mounts.

use super::mount_options::{self, Wishes};
use super::{check_nul, items, kernel_text, namespaces, quote, text};
use crate::finding::{Log, Path};
use crate::model::{Mount, MountIdmap, MountKind, SuperFlags};
use crate::oci;

const SECTION: &str = "config.md, mounts";
const OPTIONS: &str = "config.md, Linux mount options";
const POSIX: &str = "config.md, POSIX-platform mounts";

/// Judges and lowers the list. `has_user`: the container has a user namespace, made or joined.
pub(super) fn lower(list: &[oci::Mount], has_user: bool, at: &Path<'_>, log: &mut Log) -> Vec<Mount> {
    list.iter().enumerate().map(|(index, entry)| lower_mount(entry, has_user, &at.item(index), log)).collect()
}

fn lower_mount(entry: &oci::Mount, has_user: bool, at: &Path<'_>, log: &mut Log) -> Mount {
    let options_at = at.key("options");
    for (index, option) in items(&entry.options).iter().enumerate() {
        check_nul(option, &options_at.item(index), OPTIONS, log);
    }
    let mut mount = Mount {
        destination: destination(&entry.destination, &at.key("destination"), log),
        source: kernel_text(&entry.source, &at.key("source"), SECTION, log),
        ..Mount::default()
    };
    let wishes = mount_options::sort(items(&entry.options), &mut mount);
    mount.kind = kind(entry, wishes, at, log);
    mount.idmap = idmap(entry, wishes, has_user, &mount, at, log);
    check_bind(&mut mount, at, log);
    check_links(&mount, &options_at, log);
    mount
}

fn destination(destination: &Option<String>, at: &Path<'_>, log: &mut Log) -> String {
    let Some(path) = text(destination) else {
        log.error(at, SECTION, "is required and must not be empty");
        return String::new();
    };
    check_nul(path, at, SECTION, log);
    if path.starts_with('/') {
        return path.to_owned();
    }
    log.warn(at, SECTION, format_args!("{} is relative, which is deprecated; it is taken as below /", quote(path)));
    format!("/{path}")
}

fn kind(entry: &oci::Mount, wishes: Wishes, at: &Path<'_>, log: &mut Log) -> MountKind {
    let name = text(&entry.kind);
    if let Some(name) = name {
        check_nul(name, &at.key("type"), POSIX, log);
    }
    match name {
        _ if wishes.remount => MountKind::Remount { bind: wishes.bind || name == Some("bind") },
        _ if wishes.bind => MountKind::Bind { recursive: wishes.bind_recursive },
        Some("bind") => MountKind::Bind { recursive: false },
        Some("cgroup" | "cgroup2") => MountKind::Cgroup,
        None | Some("none") => {
            let value = quote(name.unwrap_or_default());
            log.error(&at.key("type"), POSIX, format_args!("{value} is for bind mounts only: no option bind or rbind"));
            MountKind::Missing
        }
        Some(name) => MountKind::Filesystem(name.to_owned()),
    }
}

/// The id mapping: asked for by `idmap` or `ridmap`, or by mappings alone.
fn idmap(
    entry: &oci::Mount,
    wishes: Wishes,
    has_user: bool,
    mount: &Mount,
    at: &Path<'_>,
    log: &mut Log,
) -> Option<MountIdmap> {
    let (uids, gids) = (items(&entry.uid_mappings), items(&entry.gid_mappings));
    let given = !uids.is_empty() || !gids.is_empty();
    if wishes.idmap.is_none() && !given {
        return None;
    }
    if given {
        for (list, name, other) in [(uids, "uidMappings", "gidMappings"), (gids, "gidMappings", "uidMappings")] {
            if list.is_empty() {
                log.error(&at.key(name), POSIX, format_args!("is required, because {other} is there"));
            }
        }
        if wishes.idmap.is_none() {
            log.warn(&at.key("options"), POSIX, "has mappings but neither idmap nor ridmap; idmap is assumed");
        }
    } else if !has_user {
        log.error(
            &at.key("options"),
            OPTIONS,
            "asks for mapped ids, but neither the mount nor the container has mappings",
        );
    }
    if !matches!(mount.kind, MountKind::Bind { .. } | MountKind::Missing) {
        log.error(at, OPTIONS, "asks for mapped ids, which only bind mounts can have");
    }
    Some(MountIdmap {
        recursive: wishes.idmap.unwrap_or(false),
        uid_mappings: namespaces::mappings(uids, &at.key("uidMappings"), POSIX, log),
        gid_mappings: namespaces::mappings(gids, &at.key("gidMappings"), POSIX, log),
    })
}

/// What a bind mount cannot have: settings of a file system that others use already.
fn check_bind(mount: &mut Mount, at: &Path<'_>, log: &mut Log) {
    let bind = match mount.kind {
        MountKind::Bind { .. } => {
            if mount.source.is_none() {
                log.error(&at.key("source"), SECTION, "is required for a bind mount");
            }
            true
        }
        MountKind::Remount { bind } => bind,
        // The view of an existing hierarchy: read-only is the mount's alone.
        MountKind::Cgroup => {
            mount.super_set.remove(SuperFlags::RDONLY);
            mount.super_clear.remove(SuperFlags::RDONLY);
            if !mount.data.is_empty() {
                let data = mount.data.join(",");
                let data = quote(&data);
                // A hierarchy is there already, with the options of who mounted it first.
                log.warn(
                    &at.key("options"),
                    OPTIONS,
                    format_args!("has {data}, which a view of the cgroups does not change"),
                );
                mount.data.clear();
            }
            false
        }
        MountKind::Filesystem(_) | MountKind::Missing => false,
    };
    if !bind {
        return;
    }
    if !mount.data.is_empty() {
        let data = mount.data.join(",");
        let data = quote(&data);
        // Other runtimes are silent about them, and configurations in the field have them.
        log.warn(&at.key("options"), OPTIONS, format_args!("has {data}, which a bind mount does not change"));
        mount.data.clear();
    }
    let others = SuperFlags::RDONLY.complement();
    if mount.super_set.intersects(others) || mount.super_clear.intersects(others) {
        log.warn(&at.key("options"), OPTIONS, "has flags of the file system, which a bind mount does not change");
    }
    mount.super_set = SuperFlags::empty();
    mount.super_clear = SuperFlags::empty();
}

/// Options that belong to one kind of mount, or exclude each other.
fn check_links(mount: &Mount, at: &Path<'_>, log: &mut Log) {
    if mount.copy_symlink && (mount.src_nofollow || mount.dest_nofollow) {
        log.error(at, OPTIONS, "cannot have copy-symlink with src-nofollow or dest-nofollow");
    }
    let bind = matches!(mount.kind, MountKind::Bind { .. } | MountKind::Missing);
    if !bind && (mount.copy_symlink || mount.src_nofollow || mount.dest_nofollow) {
        log.warn(at, OPTIONS, "has copy-symlink, src-nofollow or dest-nofollow, which count for bind mounts only");
    }
    let tmpfs = matches!(&mount.kind, MountKind::Filesystem(name) if name == "tmpfs");
    if mount.tmpcopyup && !tmpfs {
        log.warn(at, OPTIONS, "has tmpcopyup, which counts for tmpfs only");
    }
}
