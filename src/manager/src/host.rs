//! The host's own files as a template: everything that is installed is there, secrets and other people's data are not.
//!
//! What is hidden is hidden below the container's changes (docs/overlay.md, `hide`): what the container itself puts there it
//! sees.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Folders that show up empty: homes, other people's temporary files, logs, run-time sockets, keys, and the data of what
/// manages or keeps other things.
const FOLDERS: [&str; 47] = [
    "/root",
    "/home",
    "/tmp",
    "/var/tmp",
    "/var/log",
    "/var/backups",
    "/run",
    "/var/run",
    "/boot",
    "/efi",
    "/mnt",
    "/media",
    "/srv",
    "/lost+found",
    "/etc/ssh",
    "/etc/ssl/private",
    "/etc/pki/tls/private",
    "/etc/letsencrypt",
    "/etc/wireguard",
    "/etc/ipsec.d",
    "/etc/credstore",
    "/etc/credstore.encrypted",
    "/etc/NetworkManager/system-connections",
    "/etc/skep",
    "/etc/docker",
    "/etc/kubernetes",
    "/etc/sudoers.d",
    "/var/lib/skep",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/kubelet",
    "/var/lib/lxc",
    "/var/lib/machines",
    "/var/lib/etcd",
    "/var/lib/postgresql",
    "/var/lib/mysql",
    "/var/lib/mariadb",
    "/var/lib/mongodb",
    "/var/lib/redis",
    "/var/lib/rabbitmq",
    "/var/lib/ldap",
    "/var/lib/libvirt",
    "/var/lib/private",
    "/var/lib/systemd",
    "/var/mail",
    "/var/spool",
];

/// Files that are not there.
const FILES: [&str; 10] = [
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/security/opasswd",
    "/etc/krb5.keytab",
    "/etc/machine-id",
    "/etc/fstab",
    "/etc/crypttab",
    "/etc/sudoers",
];

/// What is shown of the root folder; everything else there is somebody's own.
const SHOWN: [&str; 14] = [
    "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/usr", "/etc", "/opt", "/var", "/dev", "/proc", "/sys",
    "/run",
];

/// Where files lie that not everybody may read, and how many folders deep they are looked for.
const LOOKED_AT: [(&str, usize); 5] =
    [("/etc", 8), ("/var/lib", 2), ("/var/cache", 2), ("/opt", 2), ("/usr/local/etc", 4)];

/// Finds what a container is not to see: the usual places, what the root folder has besides an installed system, and what
/// not everybody may read. Where such a path is or leads through a link, the place that it leads to is named as well.
///
/// `hide` adds paths, `show` takes some away. `data` is this program's own folder, wherever it is.
///
/// # Errors
/// A path that is not absolute, one in `show` that nothing hides; what the kernel says.
pub fn probe_hidden(hide: &[String], show: &[String], data: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![data.to_owned()];
    for entry in fs::read_dir("/").context("cannot read the root folder")? {
        let path = entry.context("cannot read the root folder")?.path();
        if !SHOWN.iter().any(|shown| Path::new(shown) == path) {
            found.push(path);
        }
    }
    for (top, depth) in LOOKED_AT {
        find_closed(Path::new(top), depth, &mut found);
    }
    let named = plan_hidden(hide, show, &found)?;
    let resolved = named.iter().filter_map(|path| fs::canonicalize(path).ok()).filter(|path| path.parent().is_some());
    // What a path leads to may be shown on purpose.
    let wanted: Vec<PathBuf> = show.iter().map(PathBuf::from).collect();
    let resolved: Vec<PathBuf> = resolved.filter(|path| !wanted.contains(path)).collect();
    Ok(outermost(named.into_iter().chain(resolved).collect()))
}

/// Collects what not everybody may read below a folder. What cannot be looked at is as good as not there.
fn find_closed(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        /// Read, and for a folder also enter, by others.
        const OTHERS: (u32, u32) = (0o004, 0o005);
        let (needed, is_folder) = if meta.is_dir() { (OTHERS.1, true) } else { (OTHERS.0, false) };
        if meta.is_symlink() {
            continue;
        }
        if meta.mode() & needed != needed {
            found.push(entry.path());
        } else if is_folder && depth > 1 {
            find_closed(&entry.path(), depth - 1, found);
        }
    }
}

/// The usual paths and those that were found, with the caller's wishes.
fn plan_hidden(hide: &[String], show: &[String], found: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let clean = |path: &String| {
        let odd = |part: &str| part == ".." || part == ".";
        if !path.starts_with('/') || path.split('/').any(odd) || path.trim_matches('/').is_empty() {
            bail!("{path:?} must be an absolute path below / and have no \"..\"");
        }
        Ok(PathBuf::from(path))
    };
    let mut paths: Vec<PathBuf> =
        FOLDERS.iter().chain(&FILES).map(PathBuf::from).chain(found.iter().cloned()).collect();
    for path in show {
        let path = clean(path)?;
        let before = paths.len();
        paths.retain(|hidden| *hidden != path);
        if paths.len() == before {
            bail!("--show {}: nothing hides it", path.display());
        }
    }
    for path in hide {
        paths.push(clean(path)?);
    }
    Ok(outermost(paths))
}

/// What lies below something hidden is hidden with it.
fn outermost(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    paths.sort();
    let mut kept: Vec<PathBuf> = Vec::new();
    for path in paths {
        if !kept.iter().any(|above| path.starts_with(above)) {
            kept.push(path);
        }
    }
    kept
}

/// A part of the installed system that is a mount of its own on the host: an overlay of `/` shows the empty folder below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Where it is mounted.
    pub path: String,
}

/// Where an installed system may be divided over file systems.
const INSTALLED: [&str; 8] = ["/usr", "/opt", "/var", "/etc", "/bin", "/sbin", "/lib", "/lib64"];

/// Finds the parts of the installed system that are mounts of their own, from the text of `/proc/self/mountinfo`.
#[must_use]
pub fn parse_parts(mountinfo: &str, hidden: &[PathBuf]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for sys::mountinfo::Mount { mountpoint: path, .. } in sys::mountinfo::parse(mountinfo) {
        let installed = INSTALLED.iter().any(|top| Path::new(&path).starts_with(top));
        let is_hidden = hidden.iter().any(|hidden| Path::new(&path).starts_with(hidden));
        let part = Part { path };
        if installed && !is_hidden && !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts
}

/// What is hidden and lies in a part, which covers the layer that hides it: it has to be covered in turn.
#[must_use]
pub fn plan_covers(parts: &[Part], hidden: &[PathBuf]) -> Vec<PathBuf> {
    let inside = |path: &&PathBuf| parts.iter().any(|part| path.starts_with(&part.path));
    hidden.iter().filter(inside).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_something_hidden_needs_no_entry() {
        let text = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
        let found = [PathBuf::from("/data"), PathBuf::from("/etc/ppp/chap-secrets")];
        let all = plan_hidden(&text(&["/home/a", "/opt/secret"]), &text(&["/srv"]), &found).unwrap();
        let has = |path: &str| all.contains(&PathBuf::from(path));
        assert!(has("/home") && !has("/home/a") && has("/opt/secret") && !has("/srv"));
        assert!(has("/etc/shadow") && has("/etc/ssh") && has("/var/lib/postgresql"));
        assert!(has("/data") && has("/etc/ppp/chap-secrets"));
        for (hide, show) in [("etc", "/home"), ("/a/../b", "/home"), ("/a/.", "/home"), ("/", "/home"), ("/x", "/usr")]
        {
            plan_hidden(&text(&[hide]), &text(&[show]), &found).unwrap_err();
        }
    }

    #[test]
    fn parts_of_the_system_on_other_file_systems_are_found() {
        let mountinfo = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            22 21 8:2 / /usr rw - ext4 /dev/sda2 rw\n\
            23 21 8:3 / /home rw - ext4 /dev/sda3 rw\n\
            24 21 8:4 / /var/lib/docker rw - ext4 /dev/sda4 rw\n\
            25 21 0:5 / /opt/with\\040blank rw - xfs /dev/sda5 rw\n\
            26 21 0:6 / /sys rw - sysfs sysfs rw\n";
        let hidden = [PathBuf::from("/var/lib/docker")];
        let paths: Vec<String> = parse_parts(mountinfo, &hidden).into_iter().map(|part| part.path).collect();
        assert_eq!(paths, ["/usr", "/opt/with blank"]);
        let parts = [Part { path: "/var".to_owned() }];
        let covers = plan_covers(&parts, &["/home".into(), "/var/lib/mysql".into(), "/variable".into()]);
        assert_eq!(covers, [PathBuf::from("/var/lib/mysql")]);
    }
}
