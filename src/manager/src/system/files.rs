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
    // Where it is a file and no link to the other, whoever made it took a number for this one alone.
    const BUS: (&str, &str) = ("var/lib/dbus", "machine-id");
    let of_bus = read(&layers, &format!("{}/{}", BUS.0, BUS.1))?;
    if of_bus.is_some_and(|text| !text.trim().is_empty() && text != id)
        && let Some(folder) = own_path(&layers, BUS.0)?
    {
        replace(folder.as_fd(), BUS.1, &id, 0o444)?;
    }
    let has_own = exists(layers[0].as_fd(), "etc/inittab")?;
    if !has_own
        && let Some(text) = read(&layers, "etc/inittab")?
        && let Some(changed) = render_inittab(&text, system.ttys)
    {
        replace(etc.as_fd(), "inittab", &changed, 0o644)?;
    }
    Ok(())
}

/// The same table with a getty on `/dev/console`, and on those of `/dev/tty1` and on that the container has (`ttys`): the
/// others are those of a machine with a screen. `None` where there is nothing to change: no getty on such a terminal, or one on
/// the console already.
#[must_use]
pub fn render_inittab(text: &str, ttys: u16) -> Option<String> {
    let is_active = |line: &str| !line.trim_start().starts_with('#');
    let on_console = |line: &str| line.contains("getty") && line.split_whitespace().any(|word| word == "console");
    let active = || text.lines().filter(|line| is_active(line));
    if active().any(on_console) || !active().any(|line| parse_getty(line).is_some()) {
        return None;
    }
    let mut first = true;
    let mut changed = String::new();
    for line in text.lines() {
        match parse_getty(line).filter(|_| is_active(line)) {
            None => changed.push_str(line),
            Some((name, number)) => {
                if std::mem::take(&mut first) {
                    changed.push_str(&on_the_console(line, &name));
                    changed.push('\n');
                }
                if number > ttys {
                    changed.push('#');
                }
                changed.push_str(line);
            }
        }
        changed.push('\n');
    }
    Some(changed)
}

/// The name and the number of the `ttyN` on which a line has a getty.
fn parse_getty(line: &str) -> Option<(String, u16)> {
    // busybox names the terminal in the first field.
    let first = line.split(':').next().unwrap_or_default();
    let number = |word: &str| word.strip_prefix("tty").and_then(|number| number.parse().ok());
    let mut words = line.split_whitespace().chain([first]).filter(|_| line.contains("getty"));
    words.find_map(|word| number(word).map(|number| (word.to_owned(), number)))
}

/// A getty's line for the console, under an id that no other line has.
fn on_the_console(line: &str, name: &str) -> String {
    let line = line.replace(name, "console");
    match line.split_once(':') {
        Some((id, rest)) if id != "console" => format!("co:{rest}"),
        _ => line,
    }
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

/// The version of systemd where that is what `program` (`/sbin/init`) leads to: 0 where it cannot be told, `None` of another
/// program. Its library may be there without it.
///
/// # Errors
/// What the kernel says.
pub fn probe_systemd(layers: &[PathBuf], program: &str) -> Result<Option<u32>> {
    if !leads_to_systemd(layers, program)? {
        return Ok(None);
    }
    for layer in layers {
        let root = sys::fs::open_dir(&layer.to_string_lossy())?;
        let mut folders = vec!["usr/lib/systemd".to_owned(), "lib/systemd".to_owned()];
        // Debian has a folder for each architecture.
        folders.extend(list(root.as_fd(), "usr/lib")?.into_iter().map(|name| format!("usr/lib/{name}/systemd")));
        for folder in folders.iter().filter(|folder| !folder.contains("/../")) {
            let version = list(root.as_fd(), folder)?.iter().filter_map(|name| parse_version(name)).max();
            if version.is_some() {
                return Ok(version);
            }
        }
    }
    Ok(Some(0))
}

/// Names in a folder of a layer; none where it is not there.
fn list(root: BorrowedFd<'_>, folder: &str) -> Result<Vec<String>> {
    match sys::fs::open_in_root(root, folder, OFlags::RDONLY | OFlags::DIRECTORY) {
        Err(error) if is_absent(&error) => Ok(Vec::new()),
        other => Ok(sys::fs::list(other?.as_fd(), ".")?.into_iter().map(|(name, _)| name).collect()),
    }
}

/// Whether a program is systemd, or a link to it.
fn leads_to_systemd(layers: &[PathBuf], program: &str) -> Result<bool> {
    let is_systemd = |path: &str| path.rsplit('/').next() == Some("systemd");
    if is_systemd(program) {
        return Ok(true);
    }
    let Some((folder, name)) = program.trim_start_matches('/').rsplit_once('/') else { return Ok(false) };
    for layer in layers {
        let root = sys::fs::open_dir(&layer.to_string_lossy())?;
        // The link from one to the other may be in a layer below.
        for folder in [folder.to_owned(), format!("usr/{folder}")] {
            let dir = match sys::fs::open_in_root(root.as_fd(), &folder, OFlags::RDONLY | OFlags::DIRECTORY) {
                Err(error) if is_absent(&error) => continue,
                other => other?,
            };
            match sys::fs::readlink_at(dir.as_fd(), name) {
                Ok(target) => return Ok(is_systemd(&target)),
                // A program, and no link.
                Err(error) if error.is(Errno::INVAL) => return Ok(false),
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(false)
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

/// The same of a folder further down, with all that it is in.
fn own_path(layers: &[OwnedFd], path: &str) -> Result<Option<OwnedFd>> {
    let mut made = None;
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    for end in ends {
        made = own_folder(layers, &path[..end])?;
        if made.is_none() {
            return Ok(None);
        }
    }
    Ok(made)
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
    fn the_first_getty_is_on_the_console_too() {
        let table = "id:2:initdefault:\n1:2345:respawn:/sbin/getty --noclear 38400 tty1\n2:23:respawn:/sbin/getty 38400 tty2\n\
                     #T0:23:respawn:/sbin/getty -L ttyS0 9600 vt100\n";
        let changed = |one: &str, two: &str| {
            format!(
                "id:2:initdefault:\nco:2345:respawn:/sbin/getty --noclear 38400 console\n\
                 {one}1:2345:respawn:/sbin/getty --noclear 38400 tty1\n{two}2:23:respawn:/sbin/getty 38400 tty2\n\
                 #T0:23:respawn:/sbin/getty -L ttyS0 9600 vt100\n"
            )
        };
        for (ttys, one, two) in [(0, "#", "#"), (1, "", "#"), (2, "", "")] {
            assert_eq!(render_inittab(table, ttys), Some(changed(one, two)));
        }
        assert_eq!(render_inittab(&changed("", ""), 0), None);
        let busybox = "::sysinit:/etc/rc\ntty1::respawn:/sbin/getty 38400 tty1\n";
        assert_eq!(
            render_inittab(busybox, 0).as_deref(),
            Some(
                "::sysinit:/etc/rc\nconsole::respawn:/sbin/getty 38400 console\n#tty1::respawn:/sbin/getty 38400 tty1\n"
            )
        );
        assert_eq!(render_inittab("id:2:initdefault:\n", 3), None);
        assert_eq!(render_inittab("1:2345:respawn:/sbin/getty 38400 ttyS0\n", 3), None);
    }

    #[test]
    fn versions_are_those_of_the_library() {
        assert_eq!(parse_version("libsystemd-shared-252.so"), Some(252));
        assert_eq!(parse_version("libsystemd-shared-258~rc1.so"), Some(258));
        assert_eq!(parse_version("libsystemd-core-252.so"), None);
        assert_eq!(parse_version("libsystemd-shared-.so"), None);
    }

    #[test]
    fn systemd_is_what_init_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let [upper, lower] = ["upper", "lower"].map(|name| dir.path().join(name));
        for path in [&upper.join("usr/sbin"), &lower.join("usr/sbin"), &lower.join("usr/lib/x86_64-linux-gnu/systemd")]
        {
            fs::create_dir_all(path).unwrap();
        }
        std::os::unix::fs::symlink("usr/sbin", lower.join("sbin")).unwrap();
        fs::write(lower.join("usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-262.so"), "").unwrap();
        let layers = [upper.clone(), lower.clone()];
        let probe = |program| probe_systemd(&layers, program).unwrap();
        // The library alone is no init.
        assert_eq!((probe("/sbin/init"), probe("/lib/systemd/systemd")), (None, Some(262)));
        let init = lower.join("usr/sbin/init");
        std::os::unix::fs::symlink("../lib/systemd/systemd", &init).unwrap();
        assert_eq!((probe("/sbin/init"), probe("/sbin/openrc-init"), probe("init")), (Some(262), None, None));
        // The container has changed to another one.
        fs::write(upper.join("usr/sbin/init"), "a program").unwrap();
        assert_eq!(probe("/sbin/init"), None);
        fs::remove_dir_all(lower.join("usr/lib")).unwrap();
        assert_eq!(probe("/usr/lib/systemd/systemd"), Some(0));
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
