//! Hundreds of containers on one template: what one more costs.
//!
//! Budgets are bytes and ratios, never times: a busy machine is slower, and all of it alike.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use integration::case_with;
use integration::defined::{Defined, text};
use integration::host::folders_deepest_first;
use integration::requires::Need;

/// How many there are, and how many of them are started too.
const COUNT: usize = 500;
const STARTED: usize = 20;

/// Most bytes that a container takes on disk before it changes anything: its folders (ext4 gives each a block of 4 KiB) and
/// its definition; and after a start, with the documents of that.
const BYTES: u64 = 48 << 10;
const BYTES_STARTED: u64 = 96 << 10;

/// How much longer the last ones may take than the first, which a look at each of all others would make 10 times and more.
const SLOWER: u32 = 4;

/// Bytes of blocks of a tree, its own folder included.
fn bytes(tree: &Path) -> u64 {
    let blocks = |path: &Path| fs::symlink_metadata(path).expect("stat").blocks() * 512;
    let of_folder = |folder: &Path| -> u64 {
        let files = fs::read_dir(folder).expect("read").map(|entry| entry.expect("read").path());
        files.filter(|path| !path.is_dir() || path.is_symlink()).map(|path| blocks(&path)).sum()
    };
    let folders = folders_deepest_first(tree);
    folders.iter().map(|folder| blocks(folder) + of_folder(folder)).sum()
}

/// The one in the middle.
fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

#[test]
fn five_hundred_containers_share_one_template() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let source = sb.host_dir("source");
        let base = d.base();
        // So large that a copy for each would be seen.
        fs::write(base.join("big"), vec![1; 1 << 20]).expect("write");
        let document =
            format!("name = \"many\"\nbase = {:?}\n[defaults]\ncommand = [\"sleep\", \"1000\"]\n", text(&base));
        fs::write(source.join("template.toml"), document).expect("write");
        d.call(&["template", "build", text(&source)]).ok();
        let names: Vec<String> = (0..COUNT).map(|number| d.name(&format!("m{number}"))).collect();
        let before = bytes(&d.data);
        let mut times = Vec::new();
        for name in &names {
            let begin = Instant::now();
            d.create_plain(name, "template:many", &[]).ok();
            times.push(begin.elapsed());
        }
        let each = (bytes(&d.data) - before) / COUNT as u64;
        let (first, last) = (median(&times[..50]), median(&times[COUNT - 50..]));
        println!("create: {first:?} with few, {last:?} with {COUNT} beside; {each} bytes each");
        assert!(each <= BYTES, "a container takes {each} bytes");
        assert!(last < first * SLOWER, "{last:?} with {COUNT} beside, {first:?} with few");
        let begin = Instant::now();
        let listed = d.call(&["ls", "--quiet"]).ok();
        println!("ls: {:?}", begin.elapsed());
        assert_eq!(listed.lines().count(), COUNT);
        for name in &names[..STARTED] {
            d.call(&["start", name]).ok();
        }
        let started = bytes(&d.folder(&names[0]));
        println!("started: {started} bytes");
        assert!(started <= BYTES_STARTED, "a started one takes {started} bytes");
        assert_eq!(sb.exec_sh(&names[STARTED - 1], "stat -c %s /big").ok(), (1 << 20).to_string());
        d.call(&[&["destroy", "-f"], names.iter().map(String::as_str).collect::<Vec<_>>().as_slice()].concat()).ok();
        assert_eq!(fs::read_dir(d.data.join("containers")).expect("read").count(), 0);
    });
}
