//! What `/proc/PID/mountinfo` says.

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its number, which another one may have once it is gone.
    pub id: u64,
    /// Number of the file system, as `MAJOR:MINOR`.
    pub device: String,
    /// Which part of the file system is mounted.
    pub root: String,
    /// Where.
    pub mountpoint: String,
    /// Type of the file system.
    pub kind: String,
    /// What is mounted, as whoever mounted it called it.
    pub source: String,
    /// Options of the superblock, separated by commas.
    pub options: String,
}

/// Reads the lines of the file. One that is anything else is passed over.
///
/// Kernel: proc_pid_mountinfo(5): fixed fields, optional fields up to a lone `-`, then type, source and options.
pub fn parse(text: &str) -> impl Iterator<Item = Mount> {
    text.lines().filter_map(|line| {
        let (fixed, rest) = line.split_once(" - ")?;
        let mut fixed = fixed.split(' ');
        let (id, _parent, device) = (fixed.next()?.parse().ok()?, fixed.next()?, fixed.next()?.to_owned());
        let (root, mountpoint) = (unescape(fixed.next()?), unescape(fixed.next()?));
        let mut rest = rest.split(' ');
        let (kind, source, options) = (rest.next()?.to_owned(), unescape(rest.next()?), rest.next()?.to_owned());
        Some(Mount { id, device, root, mountpoint, kind, source, options })
    })
}

/// Undoes the kernel's octal escapes (space, tab, newline, backslash).
fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                text.push(char::from(byte));
                text.push_str(&part[3..]);
            }
            None => {
                text.push('\\');
                text.push_str(part);
            }
        }
    }
    text
}

/// What a path from the top of a file system is below a mount that shows only `root` of it; `None` where it lies outside.
#[must_use]
pub fn below<'p>(path: &'p str, root: &str) -> Option<&'p str> {
    match path.strip_prefix(root.trim_end_matches('/'))? {
        "" => Some("/"),
        rest => rest.starts_with('/').then_some(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_the_kernel_writes_them() {
        let text = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                    32 31 0:29 /a\\134040b /srv/x\\040y\\011z rw shared:9 master:2 - cgroup cgroup rw,cpu\n\
                    broken line\n\
                    1 2 3:4 / /x rw - ext4\n";
        let mount = |id, device: &str, root: &str, mountpoint: &str, kind: &str, options: &str| Mount {
            id,
            device: device.to_owned(),
            root: root.to_owned(),
            mountpoint: mountpoint.to_owned(),
            kind: kind.to_owned(),
            source: kind.to_owned(),
            options: options.to_owned(),
        };
        let expected = [
            mount(31, "0:28", "/", "/sys/fs/cgroup", "tmpfs", "rw,mode=755"),
            mount(32, "0:29", "/a\\040b", "/srv/x y\tz", "cgroup", "rw,cpu"),
        ];
        assert_eq!(parse(text).collect::<Vec<_>>(), expected);
    }
}
