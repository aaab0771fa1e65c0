//! Archives that mean harm: refused or harmless, and nothing is written outside the layer.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use integration::requires::{Need, skip_without};
use rootfs_tools::store::check;
use rootfs_tools::{ImportError, Limits, Select, Source, import};

use crate::archive::{Archive, header};
use crate::place::{Notes, Place, chain};
use crate::tree::{list, xattrs};

/// A place with a folder that no archive may touch.
struct Victim {
    place: Place,
    outside: PathBuf,
    before: Vec<String>,
}

impl Victim {
    fn new() -> Victim {
        let place = Place::new();
        let outside = place.dir.join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "secret").unwrap();
        let before = list(&outside);
        Victim { place, outside, before }
    }

    fn outside(&self) -> &str {
        self.outside.to_str().unwrap()
    }

    fn import(&self, archive: Archive, limits: &Limits) -> Result<PathBuf, ImportError> {
        self.stream(Box::new(io::Cursor::new(archive.finish())), limits).map(|(root, _)| root)
    }

    /// Imports a stream. Whatever comes of it, what is outside is as it was, and nothing half is left.
    fn stream(&self, reader: Box<dyn Read + Send>, limits: &Limits) -> Result<(PathBuf, Notes), ImportError> {
        let store = self.place.store();
        let source = Source::Stream { reader, select: Select::default(), label: "stream".into() };
        let mut notes = Notes::default();
        let imported = import(&store, source, "x", limits, &mut notes);
        assert_eq!(list(&self.outside), self.before);
        assert_eq!(check(&store).unwrap(), []);
        assert_eq!(fs::read_dir(self.place.dir.join("data/tmp")).unwrap().count(), 0);
        let names: Vec<_> = fs::read_dir(&self.place.dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        match &imported {
            Ok(_) => assert!(notes.done),
            Err(_) => assert!(store.layers().unwrap().is_empty() && store.images().unwrap().is_empty()),
        }
        imported.map(|image| (store.layer_root(image.layers[0]), notes))
    }
}

#[track_caller]
fn refused(archive: Archive, expected: &str) {
    let victim = Victim::new();
    let error = chain(&victim.import(archive, &Limits::default()).unwrap_err());
    assert!(error.contains(expected), "{error}");
}

/// What an archive unpacks to when it is made with the path of the folder outside.
#[track_caller]
fn harmless(make: impl Fn(&str) -> Archive, look: impl Fn(&Path, &str)) {
    let victim = Victim::new();
    let root = victim.import(make(victim.outside()), &Limits::default()).unwrap();
    look(&root, victim.outside().trim_start_matches('/'));
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn names_that_lead_out_are_refused() {
    if skip_without(&[Need::Root]) {
        return;
    }
    for name in ["../escape", "a/../../escape", "..", "/../escape", "a/..", "./../x"] {
        refused(Archive::default().file(name, "x"), "its name has a part \"..\"");
    }
    refused(Archive::default().record("path", b"../../x").file("innocent", "x"), "its name has a part \"..\"");
    refused(Archive::default().record("path", b"a\0b").file("innocent", "x"), "NUL");
    refused(
        Archive::default().entry(b'L', "long", "", b"../../x\0").file("innocent", "x"),
        "its name has a part \"..\"",
    );
    for name in [".wh..", ".wh...", ".wh.", "a/.wh..", ".wh.a/b"] {
        refused(Archive::default().file(name, ""), "no whiteout");
    }
    refused(Archive::default().symlink("./", "/etc"), "take the place of the root");
    refused(Archive::default().file("/", "x").file("y", "y"), "");
}

#[test]
fn an_absolute_name_is_below_the_layers_root() {
    if skip_without(&[Need::Root]) {
        return;
    }
    harmless(
        |outside| Archive::default().folder("usr/").file(&format!("{outside}/secret"), "mine"),
        |root, outside| assert_eq!(read(&root.join(outside).join("secret")), "mine"),
    );
}

#[test]
fn links_are_followed_inside_the_layer_alone() {
    if skip_without(&[Need::Root]) {
        return;
    }
    // An absolute link, one that climbs, one through a magic link, and a chain of them.
    harmless(
        |outside| Archive::default().symlink("out", outside).file("out/secret", "mine"),
        |root, outside| assert_eq!(read(&root.join(outside).join("secret")), "mine"),
    );
    harmless(
        |outside| {
            Archive::default().symlink("up", &format!("../../../../../../../../..{outside}")).file("up/secret", "mine")
        },
        |root, outside| assert_eq!(read(&root.join(outside).join("secret")), "mine"),
    );
    harmless(
        |outside| Archive::default().symlink("p", "/proc/self/root").file(&format!("p{outside}/secret"), "mine"),
        |root, outside| assert_eq!(read(&root.join("proc/self/root").join(outside).join("secret")), "mine"),
    );
    harmless(
        |outside| {
            Archive::default()
                .folder("a/")
                .symlink("a/b", "../c")
                .symlink("c", outside)
                .folder("a/b/d/")
                .file("a/b/d/e", "mine")
        },
        |root, outside| assert_eq!(read(&root.join(outside).join("d/e")), "mine"),
    );
    refused(Archive::default().symlink("a", "b").symlink("b", "a").file("a/x", "x"), "too many");
    refused(Archive::default().file("a", "x").file("a/b", "x"), "a is no folder");
}

#[test]
fn a_file_takes_the_place_of_a_link_and_is_not_written_through_it() {
    if skip_without(&[Need::Root]) {
        return;
    }
    harmless(
        |outside| Archive::default().symlink("x", &format!("{outside}/secret")).file("x", "mine"),
        |root, _| assert!(root.join("x").symlink_metadata().unwrap().is_file()),
    );
    // A hard link to a symbolic link is that link; attributes and modes are not set through it.
    harmless(
        |outside| {
            let archive = Archive::default().symlink("x", &format!("{outside}/secret")).hard_link("y", "x");
            archive.record("SCHILY.xattr.trusted.t", b"v").symlink("z", &format!("{outside}/secret")).file("y", "mine")
        },
        |root, _| {
            assert_eq!(read(&root.join("y")), "mine");
            assert!(root.join("x").is_symlink());
            assert!(xattrs(&root.join("z")).is_empty());
        },
    );
}

#[test]
fn hard_links_reach_what_is_in_the_layer_alone() {
    if skip_without(&[Need::Root]) {
        return;
    }
    refused(Archive::default().hard_link("x", "/etc/passwd"), "which is not in this layer");
    refused(Archive::default().hard_link("x", "../../../../../../etc/passwd"), "a part \"..\"");
    refused(Archive::default().symlink("d", "/etc").hard_link("x", "d/passwd"), "which is not in this layer");
    refused(Archive::default().folder("d/").hard_link("x", "d"), "a hard link to the folder");
    refused(Archive::default().file(".wh.gone", "").hard_link("x", "gone"), "which is not in this layer");
    refused(Archive::default().hard_link("x", ""), "a link to nothing");
    harmless(
        |_| Archive::default().file("a", "a").hard_link("a", "a").hard_link("/b", "/a").file("a", "later"),
        |root, _| assert_eq!((read(&root.join("a")), read(&root.join("b"))), ("later".into(), "a".into())),
    );
}

#[test]
fn names_that_differ_in_case_are_different() {
    if skip_without(&[Need::Root]) {
        return;
    }
    harmless(
        |outside| {
            Archive::default().symlink("Link", outside).folder("LINK/").file("LINK/secret", "mine").file("link", "m")
        },
        |root, outside| {
            assert_eq!(read(&root.join("LINK/secret")), "mine");
            assert!(root.join("Link").is_symlink() && !root.join(outside).exists());
        },
    );
}

#[test]
fn later_entries_take_the_place_of_earlier_ones() {
    if skip_without(&[Need::Root]) {
        return;
    }
    harmless(
        |_| {
            let archive = Archive::default().file("f", "1").folder("d/").file("d/in", "x").symlink("l", "d");
            archive.file("d", "file").folder("f/").file("f/in", "y").folder("l/").file("l/in", "z").folder("f/")
        },
        |root, _| {
            assert_eq!(read(&root.join("d")), "file");
            assert_eq!(read(&root.join("f/in")), "y");
            assert_eq!(read(&root.join("l/in")), "z");
        },
    );
}

#[test]
fn what_is_gone_and_here_in_one_layer_hides_what_is_below() {
    if skip_without(&[Need::Root]) {
        return;
    }
    let opaque = |root: &Path, name: &str| {
        assert_eq!(xattrs(&root.join(name)), [("trusted.overlay.opaque".to_owned(), b"y".to_vec())], "{name}");
    };
    harmless(
        |_| {
            let archive = Archive::default().file(".wh.a", "").folder("a/").file("b/x", "x").file(".wh.b", "");
            archive
                .file(".wh.c", "")
                .file("c/d/x", "x")
                .file(".wh.f", "")
                .file("f", "f")
                .file("g", "g")
                .file(".wh.g", "")
        },
        |root, _| {
            for name in ["a", "b", "c"] {
                opaque(root, name);
            }
            assert_eq!((read(&root.join("f")), read(&root.join("g"))), ("f".into(), "g".into()));
            assert!(xattrs(&root.join("c/d")).is_empty());
        },
    );
}

#[test]
fn attributes_that_steer_overlay_are_left_out() {
    if skip_without(&[Need::Root]) {
        return;
    }
    let victim = Victim::new();
    let archive = Archive::default()
        .record("SCHILY.xattr.trusted.overlay.redirect", b"/etc")
        .folder("d/")
        .record("SCHILY.xattr.user.overlay.opaque", b"y")
        .folder("e/")
        .record("SCHILY.xattr.user.fine", b"1")
        .record("SCHILY.xattr.security.selinux", b"label")
        .folder("f/");
    let (root, notes) = victim.stream(Box::new(io::Cursor::new(archive.finish())), &Limits::default()).unwrap();
    assert!(xattrs(&root.join("d")).is_empty() && xattrs(&root.join("e")).is_empty());
    assert_eq!(xattrs(&root.join("f")).len(), 1);
    let left_out = [
        "attribute security.selinux, which is the host's to set (1, first f/)",
        "attributes that are overlay's own (2, first d/)",
    ];
    assert_eq!(notes.lines.len(), left_out.len());
    for (line, expected) in notes.lines.iter().zip(left_out) {
        assert!(line.ends_with(&format!("left out: {expected}")), "{:?}", notes.lines);
    }
}

#[test]
fn bounds_end_what_has_no_end() {
    if skip_without(&[Need::Root]) {
        return;
    }
    let limits =
        Limits { bytes: 1 << 20, entries: 10_000, devices: 10, depth: 20, ratio_floor: 8 << 20, ..Limits::default() };
    let check = |reader: Box<dyn Read + Send>, expected: &str| {
        let error = chain(&Victim::new().stream(reader, &limits).unwrap_err());
        assert!(error.contains(expected), "{error}");
    };
    let entries = |flag: u8| Box::new(Endless { count: 0, flag, rest: Vec::new() });
    check(entries(b'0'), "more than the 10000 entries");
    check(entries(b'5'), "more than the 10000 entries");
    check(entries(b'4'), "more than the 10 device nodes");
    let file = header(b'0', "endless", "", 1 << 33, None);
    check(Box::new(io::Cursor::new(file).chain(io::repeat(7))), "more than the 1048576 bytes");
    let mut holes = Archive::default().record("GNU.sparse.size", b"99999999999999").record("GNU.sparse.map", b"");
    holes = holes.file("holes", "");
    check(Box::new(io::Cursor::new(holes.finish())), "more than the 1048576 bytes");
    let deep = Archive::default().folder(&"d/".repeat(22));
    check(Box::new(io::Cursor::new(deep.finish())), "deeper than the 20 folders");
    let long = Archive::default().record("path", "n".repeat(256).as_bytes()).file("x", "");
    check(Box::new(io::Cursor::new(long.finish())), "longer than 255 bytes");
    // What follows the end is read for its hash, and has its bound too.
    let end = Archive::default().file("a", "a").finish();
    check(Box::new(io::Cursor::new(end).chain(io::repeat(0))), "more than the 1048576 bytes");
}

#[test]
fn a_bomb_ends_before_it_is_unpacked() {
    if skip_without(&[Need::Root]) {
        return;
    }
    // 1 GiB of zeros in 1 MiB, written to a pipe while it is read.
    let mut gzip = Command::new("gzip").arg("-1").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut sink, source) = (gzip.stdin.take().unwrap(), gzip.stdout.take().unwrap());
    let writer = std::thread::spawn(move || {
        let zeros = vec![0; 1 << 20];
        sink.write_all(&header(b'0', "zeros", "", 1 << 30, None))
            .and_then(|()| (0..1024).try_for_each(|_| sink.write_all(&zeros)))
    });
    let victim = Victim::new();
    let limits = Limits { ratio_floor: 4 << 20, ..Limits::default() };
    let error = chain(&victim.stream(Box::new(source), &limits).unwrap_err());
    assert!(error.contains("more than 200 times its compressed size"), "{error}");
    // It broke off: nobody read on.
    assert!(writer.join().unwrap().is_err());
    gzip.wait().unwrap();
}

/// Entries without end: each has a name of its own.
struct Endless {
    count: u64,
    flag: u8,
    rest: Vec<u8>,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            self.count += 1;
            self.rest = header(self.flag, &format!("entry-{}", self.count), "", 0, Some((1, 3))).to_vec();
        }
        let count = self.rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.rest[..count]);
        self.rest.drain(..count);
        Ok(count)
    }
}

#[test]
fn content_that_was_exchanged_is_refused() {
    if skip_without(&[Need::Root, Need::Program("/usr/bin/umoci")]) {
        return;
    }
    let place = Place::new();
    fs::create_dir(place.dir.join("tree")).unwrap();
    fs::write(place.dir.join("tree/file"), "content").unwrap();
    let layout = place.oci(&[&place.tar("tree", "layer.tar")]);
    let blobs: Vec<PathBuf> = fs::read_dir(layout.join("blobs/sha256")).unwrap().map(|e| e.unwrap().path()).collect();
    place.import(&layout, "good").unwrap();
    place.store().remove_image("good").unwrap();
    rootfs_tools::store::gc(&place.store(), &|_| false).unwrap();
    let mut refused = 0;
    for blob in &blobs {
        let file = File::options().read(true).write(true).open(blob).unwrap();
        let middle = file.metadata().unwrap().size() / 2;
        let mut byte = [0];
        file.read_exact_at(&mut byte, middle).unwrap();
        file.write_all_at(&[byte[0] ^ 1], middle).unwrap();
        // umoci leaves documents of earlier steps behind: nothing names them.
        if let Err(error) = place.import(&layout, "x") {
            let text = chain(&error);
            let known = ["is not what its name says", "has the digest", "deflate", "malformed", "corrupt", "check sum"];
            assert!(known.iter().any(|known| text.contains(known)), "{text}");
            assert!(place.store().layers().unwrap().is_empty() && place.store().images().unwrap().is_empty());
            refused += 1;
        } else {
            place.store().remove_image("x").unwrap();
            rootfs_tools::store::gc(&place.store(), &|_| false).unwrap();
        }
        file.write_all_at(&byte, middle).unwrap();
    }
    assert!(refused >= 3, "the manifest, the configuration and the layer: {refused} of {}", blobs.len());
}
