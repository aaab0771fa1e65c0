//! Files of a whole system that are the container's own, and what the host tells it. Rendering is pure.
//!
//! A hundred containers of one template must not have one machine-id, and a getty on a terminal that is not there is started
//! again and again. Both are put right in the container's upper layer before each start, when nothing is mounted. The upper
//! layer is what root of the container made: it is reached by descriptors, and no link in it is followed.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sys::Errno;
use sys::fs::{FileType, OFlags, open_in_root_no_links};

use crate::places::{make_private_dir, read_or_empty};
use crate::system::System;

/// Most bytes of a file that is looked at.
const LIMIT: usize = 1 << 20;

/// Puts the container's own files into its upper layer, unless they are there.
///
/// # Errors
/// What the kernel says.
pub fn write_own(upper: &Path, lower: &[PathBuf], system: &System) -> Result<()> {
    let layers = open_layers(upper, lower)?;
    let Some(etc) = own_folder(&layers, "etc")? else { return Ok(()) };
    let id = format!("{}\n", system.machine_id);
    if read(&layers, "etc/machine-id")?.as_deref() != Some(&id) {
        replace(etc.as_fd(), "machine-id", &id, 0o444)?;
    }
    let has_own = exists(layers[0].as_fd(), "etc/inittab")?;
    if !has_own
        && let Some(text) = read(&layers, "etc/inittab")?
        && let Some(changed) = render_inittab(&text)
    {
        replace(etc.as_fd(), "inittab", &changed, 0o644)?;
    }
    Ok(())
}

/// The same table with its getty on `/dev/console`: the other terminals are those of a machine with a screen. `None` where
/// there is nothing to change: no getty on them, or one on the console already.
#[must_use]
pub fn render_inittab(text: &str) -> Option<String> {
    let is_active = |line: &&str| !line.trim_start().starts_with('#');
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let on_console = |line: &str| line.contains("getty") && words(line).iter().any(|word| word == "console");
    // busybox names the terminal in the first field.
    let terminal = |line: &str| {
        let first = line.split(':').next().unwrap_or_default().to_owned();
        words(line).into_iter().chain([first]).find(|word| {
            word.strip_prefix("tty").is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()))
        })
    };
    let gettys = |line: &&str| line.contains("getty") && terminal(line).is_some();
    if text.lines().filter(is_active).any(on_console) || !text.lines().filter(is_active).any(|line| gettys(&line)) {
        return None;
    }
    let mut first = true;
    let mut changed = String::new();
    for line in text.lines() {
        if is_active(&line)
            && gettys(&line)
            && let Some(name) = terminal(line)
        {
            if std::mem::take(&mut first) {
                changed.push_str(&line.replace(&name, "console"));
            } else {
                changed.push('#');
                changed.push_str(line);
            }
        } else {
            changed.push_str(line);
        }
        changed.push('\n');
    }
    Some(changed)
}

/// Makes the folder that becomes `/run/host`: which manager this is, what the host runs, and files that nobody can use, for
/// services whose paths are hidden.
///
/// Spec: systemd, "The Container Interface", `/run/host`.
///
/// # Errors
/// What the kernel says.
pub fn write_host(folder: &Path, uuid: &str) -> Result<()> {
    let inaccessible = folder.join("inaccessible");
    make_private_dir(&inaccessible)?;
    let write = |path: PathBuf, text: &str| {
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        set_mode(&path, 0o444)
    };
    write(folder.join("container-manager"), "skep\n")?;
    write(folder.join("container-uuid"), &format!("{uuid}\n"))?;
    write(folder.join("os-release"), &read_or_empty("/etc/os-release")?)?;
    let dir = sys::fs::open_dir(&inaccessible.to_string_lossy())?;
    for (name, kind) in [
        ("reg", FileType::RegularFile),
        ("fifo", FileType::Fifo),
        ("sock", FileType::Socket),
        ("chr", FileType::CharacterDevice),
        ("blk", FileType::BlockDevice),
    ] {
        match sys::fs::mknod_at(dir.as_fd(), name, kind, 0o000, 0) {
            // In a user namespace nobody makes a device. systemd takes the other kinds then.
            Err(error) if error.is(Errno::PERM) && matches!(name, "chr" | "blk") => {}
            made => already_there(made)?,
        }
    }
    already_there(sys::fs::mkdir_at(dir.as_fd(), "dir", 0o000))?;
    for path in [folder, &inaccessible] {
        set_mode(path, 0o755)?;
    }
    Ok(())
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", path.display()))
}

fn already_there(made: sys::Result<()>) -> Result<()> {
    match made {
        Err(error) if !error.is(Errno::EXIST) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Whether the host has cgroup2 alone.
///
/// # Errors
/// What the kernel says.
pub fn probe_unified() -> Result<bool> {
    /// `CGROUP2_SUPER_MAGIC` (include/uapi/linux/magic.h).
    const CGROUP2: i64 = 0x6367_7270;
    match sys::fs::open("/sys/fs/cgroup", OFlags::PATH) {
        Err(error) if error.is(Errno::NOENT) => Ok(false),
        other => Ok(sys::fs::statfs(other?.as_fd())?.f_type == CGROUP2),
    }
}

/// The version of systemd in these layers: that of its library, whose name has it.
///
/// # Errors
/// What the kernel says.
pub fn probe_systemd(lower: &[PathBuf]) -> Result<Option<u32>> {
    for layer in lower {
        let root = sys::fs::open_dir(&layer.to_string_lossy())?;
        for folder in ["usr/lib/systemd", "lib/systemd"] {
            let dir = match sys::fs::open_in_root(root.as_fd(), folder, OFlags::RDONLY | OFlags::DIRECTORY) {
                Err(error) if is_absent(&error) => continue,
                other => other?,
            };
            let names = sys::fs::list(dir.as_fd(), ".")?;
            let version = names.iter().filter_map(|(name, _)| parse_version(name)).max();
            if version.is_some() {
                return Ok(version);
            }
        }
    }
    Ok(None)
}

/// 252 of `libsystemd-shared-252.so`, also with a distribution's own suffix.
fn parse_version(name: &str) -> Option<u32> {
    let rest = name.strip_prefix("libsystemd-shared-")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).map_or(rest, |end| &rest[..end]);
    digits.parse().ok()
}

/// All layers, the upper one first.
fn open_layers(upper: &Path, lower: &[PathBuf]) -> Result<Vec<OwnedFd>> {
    let open = |path: &Path| sys::fs::open_dir(&path.to_string_lossy());
    let mut layers = vec![open(upper)?];
    for layer in lower {
        layers.push(open(layer)?);
    }
    Ok(layers)
}

/// The folder of the upper layer, made like the one below where it is not there; `None` where the container has none.
fn own_folder(layers: &[OwnedFd], name: &str) -> Result<Option<OwnedFd>> {
    let open = |layer: &OwnedFd| open_in_root_no_links(layer.as_fd(), name, OFlags::RDONLY | OFlags::DIRECTORY);
    match open(&layers[0]) {
        Err(error) if error.is(Errno::NOENT) => {}
        // It is a link, or the mark of what is gone: the container has arranged it so.
        Err(error) if is_absent(&error) => return Ok(None),
        other => return Ok(Some(other?)),
    }
    for layer in &layers[1..] {
        let below = match open(layer) {
            Err(error) if error.is(Errno::NOENT) => continue,
            Err(error) if is_absent(&error) => return Ok(None),
            other => other?,
        };
        let stat = sys::fs::stat(below.as_fd())?;
        sys::fs::mkdir_at(layers[0].as_fd(), name, 0o700)?;
        let made = open(&layers[0])?;
        sys::fs::chown_at(made.as_fd(), "", stat.st_uid, stat.st_gid)?;
        sys::fs::chmod(made.as_fd(), stat.st_mode & 0o7777)?;
        return Ok(Some(made));
    }
    Ok(None)
}

/// The text of a small file as the layers show it.
fn read(layers: &[OwnedFd], path: &str) -> Result<Option<String>> {
    for layer in layers {
        match open_in_root_no_links(layer.as_fd(), path, OFlags::PATH) {
            Err(error) if error.is(Errno::NOENT) => continue,
            Err(error) if is_absent(&error) => return Ok(None),
            other => {
                if sys::fs::file_type(&sys::fs::stat(other?.as_fd())?) != FileType::RegularFile {
                    return Ok(None);
                }
            }
        }
        let file = open_in_root_no_links(layer.as_fd(), path, OFlags::RDONLY | OFlags::NONBLOCK)?;
        return Ok(Some(String::from_utf8_lossy(&sys::fs::read_limited(file.as_fd(), LIMIT)?).into_owned()));
    }
    Ok(None)
}

fn exists(layer: BorrowedFd<'_>, path: &str) -> Result<bool> {
    match open_in_root_no_links(layer, path, OFlags::PATH) {
        Err(error) if is_absent(&error) => Ok(false),
        other => Ok(other.map(|_| true)?),
    }
}

fn is_absent(error: &sys::Error) -> bool {
    matches!(error.errno(), Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV)
}

/// Puts a new file in the place of whatever has the name, but for a folder.
fn replace(dir: BorrowedFd<'_>, name: &str, text: &str, mode: u32) -> Result<()> {
    let unfinished = format!(".{name}.skep");
    match sys::fs::unlink_at(dir, &unfinished) {
        Err(error) if !error.is(Errno::NOENT) => return Err(error.into()),
        _ => {}
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let file = sys::fs::open_at(dir, &unfinished, flags, 0o600)?;
    sys::fs::write_all(file.as_fd(), text.as_bytes())?;
    sys::fs::chmod(file.as_fd(), mode)?;
    Ok(sys::fs::rename_at(dir, &unfinished, dir, name)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_getty_is_on_the_console() {
        let table = "id:2:initdefault:\n1:2345:respawn:/sbin/getty --noclear 38400 tty1\n2:23:respawn:/sbin/getty 38400 tty2\n\
                     #T0:23:respawn:/sbin/getty -L ttyS0 9600 vt100\n";
        let changed = "id:2:initdefault:\n1:2345:respawn:/sbin/getty --noclear 38400 console\n\
                       #2:23:respawn:/sbin/getty 38400 tty2\n#T0:23:respawn:/sbin/getty -L ttyS0 9600 vt100\n";
        assert_eq!(render_inittab(table).as_deref(), Some(changed));
        assert_eq!(render_inittab(changed), None);
        let busybox = "::sysinit:/etc/rc\ntty1::respawn:/sbin/getty 38400 tty1\n";
        assert_eq!(
            render_inittab(busybox).as_deref(),
            Some("::sysinit:/etc/rc\nconsole::respawn:/sbin/getty 38400 console\n")
        );
        assert_eq!(render_inittab("id:2:initdefault:\n"), None);
        assert_eq!(render_inittab("1:2345:respawn:/sbin/getty 38400 ttyS0\n"), None);
    }

    #[test]
    fn versions_are_those_of_the_library() {
        assert_eq!(parse_version("libsystemd-shared-252.so"), Some(252));
        assert_eq!(parse_version("libsystemd-shared-258~rc1.so"), Some(258));
        assert_eq!(parse_version("libsystemd-core-252.so"), None);
        assert_eq!(parse_version("libsystemd-shared-.so"), None);
    }

    #[test]
    fn own_files_are_written_above_those_of_the_template() {
        let dir = tempfile::tempdir().unwrap();
        let [upper, lower] = ["upper", "lower"].map(|name| dir.path().join(name));
        fs::create_dir_all(&upper).unwrap();
        fs::create_dir_all(lower.join("etc")).unwrap();
        fs::write(lower.join("etc/machine-id"), "of the template\n").unwrap();
        let system = System { machine_id: "0".repeat(32), ..System::default() };
        for _ in 0..2 {
            write_own(&upper, std::slice::from_ref(&lower), &system).unwrap();
            assert_eq!(fs::read_to_string(upper.join("etc/machine-id")).unwrap(), format!("{}\n", "0".repeat(32)));
        }
        assert_eq!(fs::read_to_string(lower.join("etc/machine-id")).unwrap(), "of the template\n");
        assert_eq!(fs::read_dir(upper.join("etc")).unwrap().count(), 1);
    }

    /// The container's root makes its upper layer: nothing outside may be written through what it left there.
    #[test]
    fn links_in_the_upper_layer_lead_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let [upper, lower, outside] = ["upper", "lower", "outside"].map(|name| dir.path().join(name));
        for path in [&upper, &lower.join("etc"), &outside] {
            fs::create_dir_all(path).unwrap();
        }
        std::os::unix::fs::symlink(&outside, upper.join("etc")).unwrap();
        let system = System { machine_id: "0".repeat(32), ..System::default() };
        write_own(&upper, &[lower], &system).unwrap();
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        fs::remove_file(upper.join("etc")).unwrap();
        fs::create_dir(upper.join("etc")).unwrap();
        fs::write(outside.join("file"), "theirs").unwrap();
        std::os::unix::fs::symlink(outside.join("file"), upper.join("etc/machine-id")).unwrap();
        write_own(&upper, &[], &system).unwrap();
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "theirs");
        assert!(upper.join("etc/machine-id").symlink_metadata().unwrap().is_file());
    }
}
