//! The same trees come out, whatever brought them in, and they are those that other tools unpack.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use integration::requires::{Need, skip_without};
use rootfs_tools::store::{check, gc};
use rootfs_tools::{Bootstrap, Limits, Select, Source, import};

use crate::place::{Mounted, Notes, Place, chain, make_changes, make_everything};
use crate::tree::{assert_same, list};

const UMOCI: Need = Need::Program("/usr/bin/umoci");
const ZSTD: Need = Need::Program("/usr/bin/zstd");

/// A folder with everything in it, and its archive.
fn everything(place: &Place) {
    fs::create_dir(place.dir.join("tree")).unwrap();
    make_everything(&place.dir.join("tree"));
    place.tar("tree", "layer.tar");
}

fn layer_of(place: &Place, name: &str) -> Vec<String> {
    let store = place.store();
    let image = store.image(name).unwrap();
    assert_eq!(image.layers.len(), 1);
    list(&store.layer_root(image.layers[0]))
}

#[test]
fn an_archive_is_unpacked_as_it_was_packed() {
    if skip_without(&[Need::Root]) {
        return;
    }
    let place = Place::new();
    everything(&place);
    place.import(&place.dir.join("layer.tar"), "x").unwrap();
    let expected = list(&place.dir.join("tree"));
    assert!(expected.len() > 50 && expected.iter().any(|line| line.contains("security.capability")), "{expected:#?}");
    assert_same(&layer_of(&place, "x"), &expected, "unpacked");
    assert_eq!(check(&place.store()).unwrap(), []);
    // Holes are still holes.
    let holes = place.store().layer_root(place.store().layers().unwrap()[0]).join("usr/lib/holes");
    let stat = std::os::unix::fs::MetadataExt::blocks(&holes.metadata().unwrap());
    assert!(stat * 512 < 1 << 20, "{stat} blocks");
}

#[test]
fn an_archive_is_the_same_layer_however_it_is_compressed() {
    if skip_without(&[Need::Root, ZSTD]) {
        return;
    }
    let place = Place::new();
    everything(&place);
    place.run("gzip", &["-k", "layer.tar"]);
    place.run("zstd", &["-q", "-k", "layer.tar"]);
    for archive in ["layer.tar", "layer.tar.gz", "layer.tar.zst"] {
        let image = place.import(&place.dir.join(archive), archive).unwrap();
        assert_eq!(image.compressed_bytes, place.dir.join(archive).metadata().unwrap().len());
    }
    let store = place.store();
    let sum = place.run("sha256sum", &["layer.tar"]);
    assert_eq!(store.layers().unwrap().len(), 1);
    assert_eq!(store.layers().unwrap()[0].hex(), sum.split(' ').next().unwrap());
    // As a stream too, which cannot be read twice.
    let mut child =
        Command::new("cat").arg(place.dir.join("layer.tar.gz")).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let reader = Box::new(child.stdout.take().unwrap());
    let source = Source::Stream { reader, select: Select::default(), label: "standard input".into() };
    let mut notes = Notes::default();
    let image = import(&store, source, "stream", &Limits::default(), &mut notes).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!((image.layers, image.source.as_str()), (store.layers().unwrap(), "standard input"));
    assert_eq!((notes.bytes, notes.done), (place.dir.join("layer.tar.gz").metadata().unwrap().len(), true));
}

#[test]
fn a_folder_is_kept_as_it_is() {
    if skip_without(&[Need::Root]) {
        return;
    }
    let place = Place::new();
    everything(&place);
    let image = place.import(&place.dir.join("tree"), "x").unwrap();
    assert_same(&layer_of(&place, "x"), &list(&place.dir.join("tree")), "copied");
    // The same folder is the same layer.
    assert_eq!(place.import(&place.dir.join("tree"), "y").unwrap().layers, image.layers);
}

#[test]
fn layers_over_each_other_are_what_umoci_unpacks() {
    if skip_without(&[Need::Root, UMOCI]) {
        return;
    }
    let place = Place::new();
    everything(&place);
    fs::create_dir(place.dir.join("changes")).unwrap();
    make_changes(&place.dir.join("changes"));
    place.tar("changes", "changes.tar");
    let layout = place.oci(&[&place.dir.join("layer.tar"), &place.dir.join("changes.tar")]);
    place.run("umoci", &["raw", "unpack", "--image", "oci:x", "unpacked"]);
    let expected = list(&place.dir.join("unpacked"));
    let image = place.import(&layout, "x").unwrap();
    let store = place.store();
    {
        let merged = place.mount(&store, &image);
        assert_same(&list(&merged.point), &expected, "umoci");
    }
    let config = &image.config;
    assert_eq!(
        (config.entrypoint.as_slice(), config.cmd.as_slice()),
        (&["/bin/sh".to_owned()][..], &["-c".to_owned()][..])
    );
    assert!(config.env.contains(&"A=b".to_owned()), "{config:?}");
    assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("1000:1000", "/srv"));
    assert_eq!(config.labels.get("l").map(String::as_str), Some("m"));
    assert_eq!(config.stop_signal.as_deref(), Some("SIGINT"));
    assert_eq!(
        (config.volumes.as_slice(), config.exposed_ports.as_slice()),
        (&["/v".to_owned()][..], &["80/tcp".to_owned()][..])
    );
    // The layout in an archive, compressed or not, from a file or a stream.
    place.run("tar", &["-C", "oci", "-cf", "oci.tar", "."]);
    place.run("gzip", &["-k", "oci.tar"]);
    for archive in ["oci.tar", "oci.tar.gz"] {
        let again = place.import(&place.dir.join(archive), "y").unwrap();
        assert_eq!((again.layers, again.id, again.config), (image.layers.clone(), image.id, image.config.clone()));
    }
    let reader = Box::new(File::open(place.dir.join("oci.tar.gz")).unwrap());
    let source =
        Source::Stream { reader, select: Select { reference: Some("x".into()), platform: None }, label: "-".into() };
    let again = import(&store, source, "z", &Limits::default(), &mut Notes::default()).unwrap();
    assert_eq!(again.layers, image.layers);
    assert_eq!(check(&store).unwrap(), []);
    for name in ["x", "y", "z"] {
        store.remove_image(name).unwrap();
    }
    assert_eq!(gc(&store, &|_| false).unwrap().layers.len(), 2);
    assert!(is_empty(&place.dir.join("data/layers")) && is_empty(&place.dir.join("data/tmp")));
}

/// A program that is called as mmdebstrap or debootstrap is, and makes the tree that a test wants.
fn installer(place: &Place, name: &str, script: &str) -> Bootstrap {
    let program = place.dir.join(name);
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let installer = Bootstrap::parse_installer(&program).unwrap();
    Bootstrap {
        shell: "/bin/sh".into(),
        program,
        installer,
        options: vec!["--variant=minbase".into()],
        suite: "suite".into(),
        mirrors: Vec::new(),
    }
}

#[test]
fn what_a_program_installs_is_imported() {
    if skip_without(&[Need::Root]) {
        return;
    }
    let place = Place::new();
    everything(&place);
    let tree = place.dir.join("tree");
    let (shown, expected) = (tree.display(), list(&tree));
    let bootstrap = |name: &str, script: String| {
        let source = Source::Bootstrap(installer(&place, name, &script));
        import(&place.store(), source, name, &Limits::default(), &mut Notes::default())
    };
    let archive = place.dir.join("layer.tar");
    bootstrap("mmdebstrap", format!("[ \"$*\" = '--variant=minbase suite -' ] && cat {}", archive.display())).unwrap();
    assert_same(&layer_of(&place, "mmdebstrap"), &expected, "mmdebstrap");
    bootstrap("debootstrap", format!("cp -a {shown} \"$3\"")).unwrap();
    assert_same(&layer_of(&place, "debootstrap"), &expected, "debootstrap");
    let before = place.store().layers().unwrap();
    for (name, script) in [
        ("mmdebstrap", format!("head -c 5120 {}; echo oh >&2; echo no >&2; exit 3", archive.display())),
        ("mmdebstrap", "echo oh >&2; echo no >&2; exit 3".to_owned()),
        ("debootstrap", "mkdir -p \"$3/half\"; echo oh; echo no; exit 3".to_owned()),
    ] {
        let error = chain(&bootstrap(name, script).unwrap_err());
        assert!(error.ends_with(&format!("{name} ended with exit status: 3: oh; no")), "{error}");
    }
    assert_eq!(place.store().layers().unwrap(), before);
}

#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    if skip_without(&[Need::Root]) {
        return;
    }
    let place = Place::new();
    everything(&place);
    fs::create_dir(place.dir.join("small")).unwrap();
    fs::write(place.dir.join("small/file"), "fits").unwrap();
    fs::create_dir(place.dir.join("data")).unwrap();
    place.run("mount", &["-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", "data"]);
    let _mounted = Mounted { point: place.dir.join("data") };
    let small = place.import(&place.dir.join("small"), "small").unwrap();
    let error = chain(&place.import(&place.dir.join("layer.tar"), "x").unwrap_err());
    assert!(error.contains("cannot unpack ") && error.ends_with("no space left on device (ENOSPC)"), "{error}");
    let store = place.store();
    assert_eq!((store.layers().unwrap(), store.images().unwrap()), (small.layers.clone(), vec![small]));
    assert!(is_empty(&place.dir.join("data/tmp")));
    assert_eq!(check(&store).unwrap(), []);
}

#[test]
fn a_pipe_with_a_name_is_read_once() {
    if skip_without(&[Need::Root]) {
        return;
    }
    let place = Place::new();
    everything(&place);
    place.run("mkfifo", &["pipe"]);
    let writer = Command::new("sh").args(["-c", "cat layer.tar > pipe"]).current_dir(&place.dir).spawn();
    let image = place.import(&place.dir.join("pipe"), "x").unwrap();
    assert!(writer.unwrap().wait().unwrap().success());
    assert_eq!(place.import(&place.dir.join("layer.tar"), "y").unwrap().layers, image.layers);
}

#[test]
fn an_archive_that_was_cut_off_is_refused() {
    if skip_without(&[Need::Root]) {
        return;
    }
    let place = Place::new();
    everything(&place);
    let whole = fs::read(place.dir.join("layer.tar")).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap().next_multiple_of(512);
    for (length, expected) in [(end, "it was cut off"), (end / 2 + 1, "unexpected end of file"), (0, "it was cut off")]
    {
        fs::write(place.dir.join("part.tar"), &whole[..length]).unwrap();
        let error = chain(&place.import(&place.dir.join("part.tar"), "x").unwrap_err());
        assert!(error.contains(expected), "{error}");
    }
    assert!(place.store().layers().unwrap().is_empty());
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}
