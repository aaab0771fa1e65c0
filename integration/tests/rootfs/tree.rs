//! What a tree of files is made of, as text: one line for each entry, so that two trees can be compared.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use sys::entry;
use sys::fs::{major, minor};

/// Lists a tree: name, kind, mode, owner, length, device, time of change, target, hash of the content, which names are the
/// same file, and extended attributes.
pub(crate) fn list(root: &Path) -> Vec<String> {
    let mut lister = Lister { lines: Vec::new(), links: HashMap::new() };
    lister.folder(root, "");
    lister.lines
}

/// Fails with the lines that only one of two trees has.
#[track_caller]
pub(crate) fn assert_same(found: &[String], expected: &[String], what: &str) {
    let only = |these: &[String], those: &[String], mark: char| -> Vec<String> {
        these.iter().filter(|line| !those.contains(line)).map(|line| format!("{mark} {line}")).collect()
    };
    let different = [only(found, expected, '+'), only(expected, found, '-')].concat();
    assert!(different.is_empty(), "{what} (+ ours, - theirs):\n{}", different.join("\n"));
    assert!(!found.is_empty(), "{what}: nothing was compared");
}

struct Lister {
    lines: Vec<String>,
    /// The first name of each file, by its inode.
    links: HashMap<(u64, u64), String>,
}

impl Lister {
    fn folder(&mut self, folder: &Path, name: &str) {
        self.entry(folder, if name.is_empty() { "." } else { name });
        let mut names: Vec<_> = fs::read_dir(folder).expect("list").map(|e| e.expect("entry").file_name()).collect();
        names.sort();
        for part in names {
            let path = folder.join(&part);
            let full = format!("{name}/{}", part.as_bytes().escape_ascii());
            if path.symlink_metadata().expect("stat").is_dir() {
                self.folder(&path, &full);
            } else {
                self.entry(&path, &full);
            }
        }
    }

    fn entry(&mut self, path: &Path, name: &str) {
        let stat = path.symlink_metadata().expect("stat");
        let kind = stat.file_type();
        let mut line = format!("{name} {:o} {}:{}", stat.mode(), stat.uid(), stat.gid());
        let mut add = |text: std::fmt::Arguments<'_>| line.write_fmt(text).expect("a string takes all");
        add(format_args!(" {}.{:09}", stat.mtime(), stat.mtime_nsec()));
        if kind.is_file() {
            let content = fs::read(path).expect("read");
            add(format_args!(" {} bytes {:016x}", content.len(), hash(&content)));
        }
        if kind.is_symlink() {
            let target = fs::read_link(path).expect("readlink");
            add(format_args!(" -> {}", target.as_os_str().as_bytes().escape_ascii()));
        }
        if kind.is_char_device() || kind.is_block_device() {
            add(format_args!(" device {}:{}", major(stat.rdev()), minor(stat.rdev())));
        }
        if !kind.is_dir() && stat.nlink() > 1 {
            let first = self.links.entry((stat.dev(), stat.ino())).or_insert_with(|| name.to_owned());
            add(format_args!(" = {first}"));
        }
        for (key, value) in xattrs(path) {
            add(format_args!(" {key}={}", value.escape_ascii()));
        }
        self.lines.push(line);
    }
}

/// Extended attributes, in the order of their names.
pub(crate) fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let (folder, name) = parent(path);
    let mut names = entry::list_xattrs(folder.as_fd(), &name).expect("list attributes");
    names.sort();
    let value = |key: &Vec<u8>| entry::get_xattr(folder.as_fd(), &name, key).expect("read an attribute");
    names.iter().map(|key| (String::from_utf8_lossy(key).into_owned(), value(key))).collect()
}

/// An entry's folder, opened, and its name.
pub(crate) fn parent(path: &Path) -> (OwnedFd, Vec<u8>) {
    let folder = path.parent().expect("a folder");
    let fd = fs::File::open(folder).expect("open the folder").into();
    (fd, path.file_name().expect("a name").as_bytes().to_vec())
}

/// FNV-1a: enough to tell contents apart, and short.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
