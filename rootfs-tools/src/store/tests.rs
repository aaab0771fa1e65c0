//! What a store keeps, forgets and finds again. Layers here have no content: none of it needs root.

use super::*;
use crate::store::work::sweep;

/// A digest whose digits are all the same.
fn digest(digit: char) -> Digest {
    format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap()
}

fn open() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("data")).unwrap();
    (folder, store)
}

fn layer(digit: char) -> Layer {
    Layer {
        schema: SCHEMA,
        diff_id: digest(digit),
        entries: 1,
        bytes: 10,
        archive_bytes: 2048,
        xattrs: XattrFlavour::Trusted,
        opaque_root: false,
        imported: 0,
    }
}

fn add_layer(store: &Store, layer: &Layer) {
    let work = Work::begin(store).unwrap();
    let folder = work.path.join("layer");
    fs::create_dir_all(folder.join("root/etc")).unwrap();
    work.commit_layer(store, "layer", layer).unwrap();
}

fn image(name: &str, layers: &[char]) -> Image {
    Image {
        schema: SCHEMA,
        name: name.into(),
        layers: layers.iter().map(|digit| digest(*digit)).collect(),
        config: ImageConfig { cmd: vec!["sh".into()], ..ImageConfig::default() },
        architecture: Some("amd64".into()),
        created: None,
        imported: 5,
        source: "test".into(),
        id: None,
        compressed_bytes: 7,
        bytes: 10,
    }
}

fn add_image(store: &Store, image: &Image) {
    Work::begin(store).unwrap().commit_image(store, image).unwrap();
}

#[test]
fn layers_and_images_are_found_again() {
    let (_folder, store) = open();
    add_layer(&store, &layer('a'));
    add_image(&store, &image("lib/x:1", &['a']));
    add_image(&store, &image("b", &['a', 'a']));
    let again = Store::open(store.data()).unwrap();
    assert_eq!(again.layers().unwrap(), [digest('a')]);
    assert_eq!(again.layer(digest('a')).unwrap(), layer('a'));
    assert!(again.layer_root(digest('a')).join("etc").is_dir());
    assert_eq!(again.image("lib/x:1").unwrap(), image("lib/x:1", &['a']));
    let names: Vec<String> = again.images().unwrap().into_iter().map(|image| image.name).collect();
    assert_eq!(names, ["b", "lib/x:1"]);
    assert!(matches!(again.image("c"), Err(StoreError::NoImage(_))));
    assert!(matches!(again.image("../b"), Err(StoreError::Name(_))));
    assert_eq!(check(&again).unwrap(), []);
    assert_eq!(list(&again.tmp_folder()).unwrap(), Vec::<String>::new());
}

#[test]
fn garbage_is_what_nobody_needs() {
    let (_folder, store) = open();
    for digit in ['a', 'b', 'c', 'd'] {
        add_layer(&store, &layer(digit));
    }
    add_image(&store, &image("x", &['a']));
    let pin = store.pin(&[digest('b')]).unwrap();
    let report = gc(&store, &|diff_id| diff_id == digest('c')).unwrap();
    assert_eq!((report.layers, report.bytes), (vec![digest('d')], 10));
    assert_eq!(store.layers().unwrap(), [digest('a'), digest('b'), digest('c')]);
    drop(pin);
    store.remove_image("x").unwrap();
    assert!(matches!(store.remove_image("x"), Err(StoreError::NoImage(_))));
    assert_eq!(gc(&store, &|_| false).unwrap().layers.len(), 3);
    assert!(matches!(store.pin(&[digest('a')]), Err(StoreError::NoLayer(_))));
    assert_eq!(list(&store.tmp_folder()).unwrap(), Vec::<String>::new());
}

#[test]
fn an_image_that_cannot_be_read_keeps_all_layers() {
    let (_folder, store) = open();
    add_layer(&store, &layer('a'));
    fs::write(store.images_folder().join("x.json"), "{\"schema\": 1, \"name\"").unwrap();
    assert!(matches!(gc(&store, &|_| false), Err(StoreError::Record { .. })));
    assert_eq!(store.layers().unwrap(), [digest('a')]);
    fs::write(store.images_folder().join("x.json"), "{\"schema\": 99, \"new\": true}").unwrap();
    assert!(matches!(gc(&store, &|_| false), Err(StoreError::Schema { found: 99, .. })));
}

#[test]
fn what_a_killed_process_left_goes_at_the_next_opening() {
    let (_folder, store) = open();
    let left = store.tmp_folder().join("999999-0");
    fs::create_dir_all(left.join("layer-0/root")).unwrap();
    fs::create_dir(left.join("pins")).unwrap();
    fs::write(left.join("pins").join(digest('a').folder()), "").unwrap();
    let working = Work::begin(&store).unwrap();
    add_layer(&store, &layer('a'));
    Store::open(store.data()).unwrap();
    assert!(!left.exists());
    assert!(working.path.exists(), "somebody works there");
    // A dead process's pins hold nothing.
    assert_eq!(gc(&store, &|_| false).unwrap().layers, [digest('a')]);
    let path = working.path.clone();
    drop(working);
    assert!(!path.exists());
    assert_eq!(sweep(&store).unwrap(), 0);
}

#[test]
fn a_layer_that_comes_twice_is_stored_once() {
    let (_folder, store) = open();
    add_layer(&store, &layer('a'));
    add_layer(&store, &Layer { imported: 9, ..layer('a') });
    assert_eq!(store.layer(digest('a')).unwrap().imported, 0);
    assert_eq!(list(&store.layers_folder()).unwrap().len(), 1);
}

#[test]
fn a_stack_has_each_layer_once_and_ends_at_an_opaque_root() {
    let (_folder, store) = open();
    for digit in ['a', 'b', 'c'] {
        add_layer(&store, &layer(digit));
    }
    add_layer(&store, &Layer { opaque_root: true, ..layer('d') });
    let stack = |layers: &[char]| {
        let layers: Vec<Digest> = layers.iter().map(|digit| digest(*digit)).collect();
        let roots = store.stack(&layers).unwrap();
        let digit = |path: &PathBuf| path.parent().unwrap().to_str().unwrap().chars().last().unwrap();
        roots.iter().map(digit).collect::<String>()
    };
    assert_eq!(stack(&['a', 'b', 'c']), "cba");
    assert_eq!(stack(&['a', 'b', 'a', 'c']), "cab");
    assert_eq!(stack(&['a', 'd', 'c']), "cd");
    assert!(matches!(store.stack(&[digest('e')]), Err(StoreError::NoLayer(_))));
}

#[test]
fn a_store_that_does_not_keep_its_promises_is_told() {
    let (_folder, store) = open();
    add_layer(&store, &layer('a'));
    add_image(&store, &image("x", &['a', 'b']));
    fs::create_dir(store.layers_folder().join("strange")).unwrap();
    fs::create_dir(store.layer_folder(digest('c'))).unwrap();
    fs::remove_dir_all(store.layer_root(digest('a'))).unwrap();
    let mut found: Vec<String> = check(&store).unwrap().iter().map(ToString::to_string).collect();
    found.sort();
    let expected = [
        format!("image \"x\" names layer {}, which is not there", digest('b')),
        format!("layers/{}: it has no tree", digest('a').folder()),
        format!("layers/{}: there is no layer {}", digest('c').folder(), digest('c')),
        "layers/strange does not belong here".to_owned(),
    ];
    assert_eq!(found, expected);
}

#[test]
fn others_may_not_look_into_it() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, store) = open();
    for folder in [store.layers_folder(), store.images_folder(), store.tmp_folder()] {
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
    }
}

#[test]
fn the_lock_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, store) = open();
    let path = folder.path().join("data/lock");
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    drop(store.lock(FlockOperation::LockShared).unwrap());
    assert_eq!(mode(), 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    drop(store.lock(FlockOperation::LockExclusive).unwrap());
    assert_eq!(mode(), 0o600);
}
