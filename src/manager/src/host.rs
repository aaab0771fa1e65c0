//! The host's own files as a template: everything that is installed is there, secrets and other people's data are not.
//!
//! What is hidden is hidden below the container's changes (docs/overlay.md, `hide`): what the container itself puts there it
//! sees.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

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

/// What a container is not to see.
///
/// `hide` adds paths, `show` takes some of the usual ones away. `data` is this program's own folder, wherever it is.
///
/// # Errors
/// A path that is not absolute, or one in `show` that nothing hides.
pub fn hidden(hide: &[String], show: &[String], data: &Path) -> Result<Vec<PathBuf>> {
    let clean = |path: &String| {
        if !path.starts_with('/') || path.split('/').any(|part| part == "..") || path.trim_matches('/').is_empty() {
            bail!("{path:?} must be an absolute path below / and have no \"..\"");
        }
        Ok(PathBuf::from(path))
    };
    let mut paths: Vec<PathBuf> = FOLDERS.iter().chain(&FILES).map(PathBuf::from).collect();
    paths.push(data.to_owned());
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
    paths.sort();
    // What lies below something hidden is hidden with it.
    let mut kept: Vec<PathBuf> = Vec::new();
    for path in paths {
        if !kept.iter().any(|above| path.starts_with(above)) {
            kept.push(path);
        }
    }
    Ok(kept)
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
    let part = |line: &str| {
        let path = line.split(' ').nth(4)?.replace("\\040", " ");
        let installed = INSTALLED.iter().any(|top| Path::new(&path).starts_with(top));
        let is_hidden = hidden.iter().any(|hidden| Path::new(&path).starts_with(hidden));
        (installed && !is_hidden).then_some(Part { path })
    };
    let mut parts: Vec<Part> = Vec::new();
    for found in mountinfo.lines().filter_map(part) {
        if !parts.contains(&found) {
            parts.push(found);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_something_hidden_needs_no_entry() {
        let text = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
        let data = Path::new("/var/lib/skep");
        let all = hidden(&text(&["/home/a", "/opt/secret"]), &text(&["/srv"]), data).unwrap();
        let has = |path: &str| all.contains(&PathBuf::from(path));
        assert!(has("/home") && !has("/home/a") && has("/opt/secret") && !has("/srv"));
        assert!(has("/etc/shadow") && has("/etc/ssh") && has("/var/lib/postgresql"));
        for (hide, show) in [("etc", "/home"), ("/a/../b", "/home"), ("/", "/home"), ("/x", "/usr")] {
            hidden(&text(&[hide]), &text(&[show]), data).unwrap_err();
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
    }
}
