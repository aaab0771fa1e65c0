use std::fs::{self, File, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use super::*;

/// Two layers: what the upper one hides, replaces and adds.
fn layers(top: &Path) -> [PathBuf; 2] {
    let (upper, lower) = (top.join("upper"), top.join("lower"));
    for folder in ["etc", "srv", "old/deep", "opt"] {
        fs::create_dir_all(lower.join(folder)).unwrap();
    }
    for (name, text) in
        [("etc/below", "below"), ("etc/both", "below"), ("srv/x", "x"), ("old/deep/y", "y"), ("opt/z", "z")]
    {
        fs::write(lower.join(name), text).unwrap();
    }
    for folder in ["etc", "old", "srv"] {
        fs::create_dir_all(upper.join(folder)).unwrap();
    }
    fs::write(upper.join("etc/both"), "above").unwrap();
    fs::write(upper.join("srv/new"), "new").unwrap();
    let dir = sys::fs::open_dir(&upper.to_string_lossy()).unwrap();
    entry::mknod(dir.as_fd(), b"opt", FileType::CharacterDevice, 0, 0).unwrap();
    entry::mknod(dir.as_fd(), b"etc/below", FileType::CharacterDevice, 0, 0).unwrap();
    entry::set_xattr(dir.as_fd(), b"srv", b"trusted.overlay.opaque", b"y").unwrap();
    entry::set_xattr(dir.as_fd(), b"etc", b"trusted.overlay.origin", b"x").unwrap();
    entry::set_xattr(dir.as_fd(), b"etc/both", b"user.note", b"kept").unwrap();
    [upper, lower]
}

/// Every path below a folder, in order.
fn paths(top: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![top.to_owned()];
    while let Some(folder) = pending.pop() {
        for item in fs::read_dir(folder).unwrap() {
            let item = item.unwrap();
            if item.file_type().unwrap().is_dir() {
                pending.push(item.path());
            }
            found.push(item.path().strip_prefix(top).unwrap().to_str().unwrap().to_owned());
        }
    }
    found.sort();
    found
}

fn copied(stack: &Stack, to: &Path) -> PathBuf {
    fs::create_dir(to).unwrap();
    assert_eq!(copy_stack(stack, sys::fs::open_dir(&to.to_string_lossy()).unwrap()).unwrap(), Vec::<String>::new());
    to.to_owned()
}

#[test]
fn layers_become_the_tree_that_they_show() {
    if !entry::is_root() {
        println!("SKIPPED: marks of overlay are made by root only");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let stack = Stack::open(&layers(dir.path())).unwrap();
    let to = copied(&stack, &dir.path().join("to"));
    let expected = ["etc", "etc/both", "old", "old/deep", "old/deep/y", "srv", "srv/new"];
    assert_eq!(paths(&to), expected);
    assert_eq!(fs::read_to_string(to.join("etc/both")).unwrap(), "above");
    let folder = sys::fs::open_dir(&to.to_string_lossy()).unwrap();
    assert_eq!(entry::list_xattrs(folder.as_fd(), b"srv").unwrap(), Vec::<Vec<u8>>::new());
    assert_eq!(entry::get_xattr(folder.as_fd(), b"etc/both", b"user.note").unwrap(), b"kept");
    // The archive shows the same.
    let (archive, notes) = crate::write_stack(&stack, Vec::new()).unwrap();
    assert_eq!(notes, Vec::<String>::new());
    let mut reader = crate::tar::Reader::new(archive.as_slice());
    let mut names = Vec::new();
    while let Some(one) = reader.next().unwrap() {
        names.push(String::from_utf8(one.path).unwrap().trim_end_matches('/').to_owned());
    }
    names.sort();
    assert_eq!(names, [&["."], &expected[..]].concat());
}

#[test]
fn a_layer_is_copied_with_its_marks() {
    if !entry::is_root() {
        println!("SKIPPED: marks of overlay are made by root only");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let [upper, _] = layers(dir.path());
    let to = copied(&Stack::open_raw(&upper).unwrap(), &dir.path().join("to"));
    assert_eq!(paths(&to), ["etc", "etc/below", "etc/both", "old", "opt", "srv", "srv/new"]);
    let gone = fs::symlink_metadata(to.join("opt")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let folder = sys::fs::open_dir(&to.to_string_lossy()).unwrap();
    assert_eq!(entry::get_xattr(folder.as_fd(), b"srv", b"trusted.overlay.opaque").unwrap(), b"y");
    assert_eq!(entry::list_xattrs(folder.as_fd(), b"etc").unwrap(), Vec::<Vec<u8>>::new());
}

/// Whoever owns a folder of a container can mark it so, and the mount of such layers does not read it.
#[test]
fn a_mark_of_the_other_flavour_is_an_attribute_like_others() {
    if !entry::is_root() {
        println!("SKIPPED: marks of overlay are made by root only");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let [upper, lower] = ["upper", "lower"].map(|name| dir.path().join(name));
    for layer in [&upper, &lower] {
        fs::create_dir_all(layer.join("srv")).unwrap();
    }
    fs::write(lower.join("srv/www"), "x").unwrap();
    let fd = sys::fs::open_dir(&upper.to_string_lossy()).unwrap();
    entry::set_xattr(fd.as_fd(), b"srv", b"user.overlay.opaque", b"y").unwrap();
    let to = copied(&Stack::open(&[&upper, &lower]).unwrap(), &dir.path().join("to"));
    assert_eq!(fs::read(to.join("srv/www")).unwrap(), b"x");
    let folder = sys::fs::open_dir(&to.to_string_lossy()).unwrap();
    assert_eq!(entry::get_xattr(folder.as_fd(), b"srv", b"user.overlay.opaque").unwrap(), b"y");
}

#[test]
fn everything_that_a_file_is_is_kept() {
    if !entry::is_root() {
        println!("SKIPPED: owners and devices are made by root only");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    fs::create_dir(&from).unwrap();
    fs::set_permissions(&from, Permissions::from_mode(0o1751)).unwrap();
    fs::write(from.join("suid"), "x").unwrap();
    chown(from.join("suid"), Some(7), Some(8)).unwrap();
    fs::set_permissions(from.join("suid"), Permissions::from_mode(0o4755)).unwrap();
    fs::hard_link(from.join("suid"), from.join("twin")).unwrap();
    symlink("suid", from.join("link")).unwrap();
    let mut sparse = File::create(from.join("sparse")).unwrap();
    sparse.seek(SeekFrom::Start(8 << 20)).unwrap();
    sparse.write_all(b"end").unwrap();
    sparse.set_len(16 << 20).unwrap();
    let fd = sys::fs::open_dir(&from.to_string_lossy()).unwrap();
    entry::mknod(fd.as_fd(), b"pipe", FileType::Fifo, 0o600, 0).unwrap();
    let past = Timespec { tv_sec: 1_000_000, tv_nsec: 123_456_789 };
    entry::set_times(fd.as_fd(), b"suid", past, past).unwrap();
    entry::set_times(fd.as_fd(), b".", past, past).unwrap();
    let to = copied(&Stack::open(&[&from]).unwrap(), &dir.path().join("to"));
    let stat = |name: &str| fs::symlink_metadata(to.join(name)).unwrap();
    assert_eq!((stat("suid").uid(), stat("suid").gid(), stat("suid").mode() & 0o7777), (7, 8, 0o4755));
    assert_eq!((stat("suid").mtime(), stat("suid").mtime_nsec()), (1_000_000, 123_456_789));
    assert_eq!((stat("suid").ino(), stat("suid").nlink()), (stat("twin").ino(), 2));
    assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("suid"));
    assert!(stat("pipe").file_type().is_fifo());
    assert_eq!(fs::read(to.join("sparse")).unwrap(), fs::read(from.join("sparse")).unwrap());
    assert!(stat("sparse").blocks() < 1000, "{} blocks", stat("sparse").blocks());
    let root = fs::metadata(&to).unwrap();
    assert_eq!((root.mode() & 0o7777, root.mtime()), (0o1751, 1_000_000));
}
