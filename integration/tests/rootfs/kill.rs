//! An import or a collection of garbage that is killed at any point is finished or undone by the next command.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use integration::requires::{Need, skip_without};
use rootfs_tools::store::{Store, check};

use crate::place::Place;
use crate::tree::{assert_same, list};

const ROUNDS: u32 = 15;

/// A layout with three layers of some hundred entries each.
fn make_layout(place: &Place) {
    let mut archives = Vec::new();
    for layer in 0..3 {
        let tree = place.dir.join(format!("tree-{layer}"));
        for folder in 0..20 {
            let folder = tree.join(format!("folder-{layer}-{folder}"));
            fs::create_dir_all(&folder).unwrap();
            for file in 0..16 {
                fs::write(folder.join(format!("file-{file}")), vec![file; 700 * usize::from(file)]).unwrap();
            }
        }
        archives.push(place.tar(&format!("tree-{layer}"), &format!("layer-{layer}.tar")));
    }
    place.oci(&archives.iter().map(std::path::PathBuf::as_path).collect::<Vec<_>>());
}

fn work(place: &Place, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_store-work"));
    command.arg(place.dir.join("data")).args(arguments).current_dir(&place.dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Opens the store as the next command would, and checks that it keeps its promises.
fn assert_whole(place: &Place, what: &str) -> Store {
    let store = place.store();
    assert_eq!(check(&store).unwrap(), [], "{what}");
    assert_eq!(fs::read_dir(place.dir.join("data/tmp")).unwrap().count(), 0, "{what}: something is left in tmp");
    for diff_id in store.layers().unwrap() {
        let root = store.layer_root(diff_id);
        let first = fs::read_dir(&root).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();
        let number = first.split('-').nth(1).unwrap();
        let expected = list(&place.dir.join(format!("tree-{number}")));
        assert_same(&list(&root), &expected, &format!("{what}: a layer"));
    }
    store
}

#[test]
fn a_killed_import_or_collection_leaves_nothing_half() {
    if skip_without(&[Need::Root, Need::Program("/usr/bin/umoci")]) {
        return;
    }
    let place = Place::new();
    make_layout(&place);
    let begin = Instant::now();
    assert!(work(&place, &["import", "oci", "x"]).status().unwrap().success());
    let whole = begin.elapsed();
    let mut finished = 0;
    for round in 0..ROUNDS {
        // Spread over the time that a whole import takes; each third kill hits the removal of what was imported.
        let store = place.store();
        for image in store.images().unwrap() {
            store.remove_image(&image.name).unwrap();
        }
        let collects = round % 3 == 2;
        if !collects {
            assert!(work(&place, &["gc"]).status().unwrap().success());
        }
        let arguments: &[&str] = if collects { &["gc"] } else { &["import", "oci", "x"] };
        let time = if collects { Duration::from_millis(u64::from(round) * 2) } else { whole * round / ROUNDS };
        let mut child = work(&place, arguments).spawn().unwrap();
        std::thread::sleep(time);
        child.kill().unwrap();
        child.wait().unwrap();
        let store = assert_whole(&place, &format!("round {round}, killed after {time:?}"));
        finished += store.images().unwrap().len();
        for image in store.images().unwrap() {
            assert_eq!(image.layers.len(), 3);
        }
    }
    assert!(finished < ROUNDS as usize, "no import was cut short");
    assert!(work(&place, &["import", "oci", "x"]).status().unwrap().success());
    let store = assert_whole(&place, "the last import");
    assert_eq!(store.layers().unwrap().len(), 3);
}

/// Imports of the same image beside each other, and a collection that runs all the time, do not hurt each other.
#[test]
fn imports_beside_each_other_share_their_layers() {
    if skip_without(&[Need::Root, Need::Program("/usr/bin/umoci")]) {
        return;
    }
    let place = Place::new();
    make_layout(&place);
    let imports: Vec<_> =
        ["a", "b", "c"].iter().map(|name| work(&place, &["import", "oci", name]).spawn().unwrap()).collect();
    for _ in 0..20 {
        assert!(work(&place, &["gc"]).status().unwrap().success());
    }
    for mut import in imports {
        assert!(import.wait().unwrap().success());
    }
    let store = assert_whole(&place, "after all of them");
    assert_eq!((store.images().unwrap().len(), store.layers().unwrap().len()), (3, 3));
}
