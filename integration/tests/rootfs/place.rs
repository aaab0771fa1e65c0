//! Where one test works: a folder that is gone afterwards, with images in it that have everything in them.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rootfs_tools::store::{Image, Store};
use rootfs_tools::{ImportError, Limits, Progress, Select, Source, import};
use sys::entry::{self, Timespec};
use sys::fs::{FileType, makedev};

use crate::tree::parent;

/// A folder of one test.
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Place {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let name = format!("sk-rootfs-{:x}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let dir = std::env::temp_dir().join(name);
            match fs::create_dir(&dir) {
                // In a pid namespace of its own another test has the same number.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                other => {
                    other.expect("make the test's folder");
                    return Place { dir };
                }
            }
        }
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.dir.join("data")).expect("open the store")
    }

    /// Imports what a path is.
    pub(crate) fn import(&self, path: &Path, name: &str) -> Result<Image, ImportError> {
        let source = Source::at(path, Select::default()).expect("look at the source");
        import(&self.store(), source, name, &Limits::default(), &mut Notes::default())
    }

    /// Runs a program that has to succeed, and returns what it prints.
    #[track_caller]
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.dir);
        let output = command.output().unwrap_or_else(|error| panic!("run {program}: {error}"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {} {errors}", output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Archives a folder as image builders do: numbers for owners, all attributes, times to the nanosecond.
    pub(crate) fn tar(&self, folder: &str, archive: &str) -> PathBuf {
        self.tar_with(&["--sparse"], folder, archive)
    }

    /// The same with other options.
    pub(crate) fn tar_with(&self, options: &[&str], folder: &str, archive: &str) -> PathBuf {
        let words = "--format=posix --pax-option=delete=atime,delete=ctime --numeric-owner --xattrs --xattrs-include=* \
                     --sort=name -C";
        let mut arguments: Vec<&str> = options.iter().copied().chain(words.split_whitespace()).collect();
        arguments.extend([folder, "-cf", archive, "."]);
        self.run("tar", &arguments);
        self.dir.join(archive)
    }

    /// An OCI layout with these layers, made by umoci. Returns the folder; the image's tag is `x`.
    pub(crate) fn oci(&self, layers: &[&Path]) -> PathBuf {
        self.run("umoci", &["init", "--layout", "oci"]);
        self.run("umoci", &["new", "--image", "oci:x"]);
        for layer in layers {
            self.run("umoci", &["raw", "add-layer", "--image", "oci:x", layer.to_str().expect("UTF-8")]);
        }
        let words = "--image oci:x --config.entrypoint /bin/sh --config.cmd -c --config.env A=b --config.workingdir /srv \
                     --config.user 1000:1000 --config.label l=m --config.stopsignal SIGINT --config.volume /v \
                     --config.exposedports 80/tcp";
        self.run("umoci", &[&["config"], &words.split_whitespace().collect::<Vec<_>>()[..]].concat());
        self.dir.join("oci")
    }

    /// Mounts the layers of an image over each other, read only, for as long as the result lives.
    pub(crate) fn mount(&self, store: &Store, image: &Image) -> Mounted {
        let point = self.dir.join("merged");
        fs::create_dir_all(&point).expect("make the mount point");
        let mut lowers = store.stack(&image.layers).expect("the stack");
        // Overlay wants two lowers where there is no upper.
        let empty = self.dir.join("empty");
        if lowers.len() == 1 {
            fs::create_dir_all(&empty).expect("make an empty lower");
            lowers.push(empty);
        }
        let lowers: Vec<&str> = lowers.iter().map(|path| path.to_str().expect("UTF-8")).collect();
        let option = format!("lowerdir={}", lowers.join(":"));
        self.run("mount", &["-t", "overlay", "overlay", "-o", &option, point.to_str().expect("UTF-8")]);
        Mounted { point }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).expect("remove the test's folder");
    }
}

/// A mount that ends with the test.
pub(crate) struct Mounted {
    pub(crate) point: PathBuf,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(&self.point).status().expect("run umount");
        assert!(status.success(), "umount {}", self.point.display());
    }
}

/// Keeps what an import tells.
#[derive(Default, Debug)]
pub(crate) struct Notes {
    pub(crate) total: Option<u64>,
    pub(crate) bytes: u64,
    pub(crate) lines: Vec<String>,
    pub(crate) done: bool,
}

impl Progress for Notes {
    fn started(&mut self, total: Option<u64>) {
        self.total = total;
    }

    fn advanced(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    fn note(&mut self, text: &str) {
        self.lines.push(text.to_owned());
    }

    fn finished(&mut self) {
        self.done = true;
    }
}

/// An error with all that caused it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

/// Fills a folder with everything that a root file system may have.
pub(crate) fn make_everything(root: &Path) {
    let folder = |name: &str, mode| {
        let path = root.join(name);
        fs::create_dir_all(&path).expect("make a folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
        path
    };
    let file = |name: &str, content: &[u8], mode| {
        let path = root.join(name);
        fs::write(&path, content).expect("write a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
        path
    };
    for (name, mode) in [
        ("etc", 0o755),
        ("tmp", 0o1777),
        ("shared", 0o2775),
        ("closed", 0),
        ("deep/a/b/c/d", 0o700),
        ("gone", 0o755),
        ("gone/inner", 0o755),
        ("opaque", 0o750),
        ("swap-folder", 0o755),
        ("usr/lib", 0o755),
    ] {
        folder(name, mode);
    }
    let long = folder(&format!("long/{}", "n".repeat(255)), 0o755);
    fs::write(long.join("m".repeat(200)), "long").expect("write");
    chown(file("etc/owned", b"owned", 0o640), Some(1000), Some(4_000_000)).expect("chown");
    for (name, mode) in [("suid", 0o4755), ("sgid", 0o2711), ("both", 0o6755), ("none", 0), ("empty", 0o644)] {
        let content = if name == "empty" { &b""[..] } else { name.as_bytes() };
        let path = file(&format!("etc/{name}"), content, mode);
        // An owner that is not root, and the bits again, which chown took.
        chown(&path, Some(65_534), Some(7)).expect("chown");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
    }
    let noise: Vec<u8> = (0..700_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    file("usr/lib/noise", &noise, 0o644);
    let holes = File::create(root.join("usr/lib/holes")).expect("create");
    holes.write_all_at(b"start", 0).expect("write");
    holes.write_all_at(b"middle", 3 << 20).expect("write");
    holes.set_len(9 << 20).expect("set the length");
    for name in ["gone/inner/file", "gone.txt", "opaque/below", "swap-folder/x", "swap-file", "kept"] {
        file(name, name.as_bytes(), 0o644);
    }
    let strange =
        [&b"no \xff\xfe text"[..], b"new\nline", b" blanks ", b"-dash", b"back\\slash", "süß ☃".as_bytes(), b"..."];
    for name in strange {
        fs::write(root.join(std::ffi::OsString::from_vec(name.to_vec())), "strange").expect("write");
    }
    for (target, name) in [
        ("/etc/passwd", "absolute"),
        ("../../outside", "outside"),
        ("usr/lib/noise", "relative"),
        ("nowhere", "dangling"),
        ("usr/lib", "lib"),
    ] {
        symlink(target, root.join(name)).expect("symlink");
    }
    symlink("t".repeat(1000), root.join("long-target")).expect("symlink");
    lchown(root.join("relative"), Some(12), Some(34)).expect("lchown");
    fs::hard_link(root.join("etc/owned"), root.join("usr/second")).expect("link");
    fs::hard_link(root.join("etc/owned"), root.join("deep/third")).expect("link");
    fs::hard_link(root.join("dangling"), root.join("dangling-too")).expect("link");
    make_nodes(root);
    set_attributes(root);
    set_times(root);
}

fn make_nodes(root: &Path) {
    for (name, kind, device, mode) in [
        ("fifo", FileType::Fifo, (0, 0), 0o620),
        ("null", FileType::CharacterDevice, (1, 3), 0o666),
        ("loop", FileType::BlockDevice, (7, 0), 0o660),
        ("big", FileType::BlockDevice, (259, 70_000), 0o600),
    ] {
        let (folder, file) = parent(&root.join(name));
        entry::mknod(folder.as_fd(), &file, kind, mode, makedev(device.0, device.1)).expect("mknod");
        entry::chmod(folder.as_fd(), &file, mode).expect("chmod");
    }
    lchown(root.join("null"), Some(0), Some(5)).expect("lchown");
}

fn set_attributes(root: &Path) {
    // cap_net_raw=ep, version 2.
    let capability = [&[1, 0, 0, 2, 0, 0x20][..], &[0; 14]].concat();
    // rwx for the owner, user 1000 and the mask, r-x for others: version 2, then tag, permissions and id of each.
    let mut acl = vec![2, 0, 0, 0];
    for (tag, permissions, id) in
        [(1_u16, 7_u16, u32::MAX), (2, 7, 1000), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 5, u32::MAX)]
    {
        acl.extend(tag.to_le_bytes().into_iter().chain(permissions.to_le_bytes()).chain(id.to_le_bytes()));
    }
    for (name, key, value) in [
        ("etc/both", "security.capability", capability.as_slice()),
        ("etc/owned", "user.some", b"some value"),
        ("etc/owned", "user.binary", b"\0\x01=\n\xff"),
        ("etc/owned", "user.long", &[b'x'; 700]),
        ("etc", "user.on-folder", b"f"),
        ("shared", "system.posix_acl_default", &acl),
        ("kept", "system.posix_acl_access", &acl),
    ] {
        let (folder, file) = parent(&root.join(name));
        entry::set_xattr(folder.as_fd(), &file, key.as_bytes(), value).unwrap_or_else(|e| panic!("{name} {key}: {e}"));
    }
}

/// Gives each entry a time of its own, with nanoseconds; folders last.
fn set_times(root: &Path) {
    fn walk(path: &Path, count: &mut i64) {
        if path.symlink_metadata().expect("stat").is_dir() {
            for entry in fs::read_dir(path).expect("list") {
                walk(&entry.expect("entry").path(), count);
            }
        }
        *count += 1;
        let time = Timespec { tv_sec: 1_000_000_000 + *count * 1_000_003, tv_nsec: 123_456_789 + *count };
        let (folder, name) = parent(path);
        entry::set_times(folder.as_fd(), &name, time, time).expect("set the times");
    }
    walk(root, &mut 0);
}

/// Fills a folder with a layer above [`make_everything`], with the marks that images have.
pub(crate) fn make_changes(root: &Path) {
    for name in ["gone-again", "opaque", "swap-folder-was-file", "usr/lib", "new/inner"] {
        fs::create_dir_all(root.join(name)).expect("make a folder");
    }
    for (name, content) in [
        (".wh.gone", ""),
        (".wh.gone.txt", ""),
        (".wh.nothing-is-called-so", ""),
        ("opaque/.wh..wh..opq", ""),
        ("opaque/above", "above"),
        ("swap-folder", "a file now"),
        ("usr/lib/.wh.noise", ""),
        ("usr/lib/added", "added"),
        ("new/inner/file", "new"),
        ("kept", "changed"),
    ] {
        fs::write(root.join(name), content).expect("write");
    }
    fs::create_dir(root.join("swap-file")).expect("make a folder");
    fs::write(root.join("swap-file/inner"), "a folder now").expect("write");
    set_times(root);
}
