//! Limits of what containers change on disk, by project quotas.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use integration::defined::{Defined, text};
use integration::requires::Need;
use integration::{Sandbox, case_with};

const NEEDS: [Need; 4] = [Need::Skep, Need::Loop, Need::Program("/usr/sbin/mkfs.ext4"), Need::ProjectQuotas];

/// The data folder on a file system of its own that counts projects.
fn mount_data(sb: &Sandbox, options: &str) {
    let (data, image) = (sb.host_dir("data"), sb.dir.join("disk"));
    fs::File::create(&image).and_then(|file| file.set_len(96 << 20)).expect("make a disk");
    let make = ["-q", "-F", "-O", "quota,project", "-E", "quotatype=prjquota", text(&image)];
    sb.program("/usr/sbin/mkfs.ext4").args(make).run().ok();
    sb.program("/bin/mount").args(["-o", options, text(&image), text(&data)]).run().ok();
}

fn start(d: &Defined<'_>, suffix: &str, options: &[&str]) -> String {
    let name = d.name(suffix);
    d.create(&name, text(&d.base()), &[&["--start"], options].concat(), &["sleep", "1000"]).ok();
    name
}

#[track_caller]
fn used(d: &Defined<'_>, name: &str) -> u64 {
    d.listed(name)["disk"]["used"].as_u64().expect("a number of bytes")
}

fn number(folder: &Path) -> u32 {
    sys::quota::project(fs::File::open(folder).expect("open").as_fd()).expect("a project")
}

/// Writes so many MiB and says whether they had room.
fn write(sb: &Sandbox, name: &str, mib: u32) -> bool {
    let script = format!("dd if=/dev/zero of=/big bs=1M count={mib} 2>&1 && sync; :");
    let said = sb.exec_sh(name, &script).ok();
    let refused = said.contains("quota exceeded") || said.contains("No space");
    assert!(refused || said.contains("records out"), "{said}");
    !refused
}

#[test]
fn a_container_takes_no_more_than_its_disk_size() {
    case_with(&NEEDS, |sb| {
        mount_data(sb, "loop,prjquota");
        let d = Defined::new(sb);
        for ids in [[].as_slice(), &["--ids", "100000:65536"]] {
            // A chattr, with what it needs.
            let tools = ["--volume=/usr/bin:/tools:ro", "--volume=/usr/lib:/lib:ro", "--volume=/usr/lib64:/lib64:ro"];
            let web = start(&d, "web", &[&["--disk-size", "8M"], ids, &tools].concat());
            assert!(write(sb, &web, 6));
            assert!((6 << 20..7 << 20).contains(&used(&d, &web)), "{}", used(&d, &web));
            assert!(!write(sb, &web, 12));
            assert!(used(&d, &web) <= 8 << 20, "{}", used(&d, &web));
            // Another one has room, and so has this one afterwards.
            let other = start(&d, "other", &["--disk-size", "20M"]);
            assert!(write(sb, &other, 15));
            sb.exec_sh(&web, "rm /big").ok();
            assert!(write(sb, &web, 6));
            // Files stay in their project.
            let said = sb.exec_sh(&web, "/tools/chattr -p 0 /big 2>&1; :").ok();
            assert!(said.contains("Operation not permitted"), "{said}");
            assert_ne!(number(&d.folder(&web).join("own")), number(&d.folder(&other).join("own")));
            assert_eq!(d.listed(&web)["disk"]["limit"], 8 << 20);
            d.call(&["destroy", "-f", &web, &other]).ok();
        }
        let plain = start(&d, "plain", &[]);
        assert!(d.listed(&plain)["disk"].is_null());
        assert_eq!(number(&d.folder(&plain).join("own")), 0);
        d.call(&["destroy", "-f", &plain]).ok();
    });
}

#[test]
fn the_limit_goes_with_the_container_and_ends_with_it() {
    case_with(&NEEDS, |sb| {
        mount_data(sb, "loop,prjquota");
        let d = Defined::new(sb);
        let web = start(&d, "web", &["--disk-size", "8M"]);
        let first = number(&d.folder(&web).join("own"));
        assert!(write(sb, &web, 5));
        d.call(&["stop", "--time", "0", &web]).ok();
        let before = used(&d, &web);
        // What is frozen by a move still counts, and is not given room twice.
        d.call(&["snapshot", &web, "s"]).ok();
        assert!(used(&d, &web).abs_diff(before) < 64 << 10, "{before} and {}", used(&d, &web));
        d.call(&["start", &web]).ok();
        assert!(!write(sb, &web, 5));
        // A copy has a limit and a number of its own, and the frozen files below.
        let copy = d.name("copy");
        d.call(&["copy", &web, &copy]).ok();
        d.call(&["start", &copy]).ok();
        assert_ne!(number(&d.folder(&copy).join("own")), first);
        assert!(write(sb, &copy, 7) && !write(sb, &copy, 9));
        d.call(&["stop", "--time", "0", &web, &copy]).ok();
        // A renamed one is the same; one that goes back has what it made since no more.
        let app = d.name("app");
        d.call(&["rename", &web, &app]).ok();
        assert_eq!(number(&d.folder(&app).join("own")), first);
        d.call(&["restore", &app, "s"]).ok();
        assert_eq!(number(&d.folder(&app).join("own/upper")), first);
        assert!(used(&d, &app).abs_diff(before) < 64 << 10, "{before} and {}", used(&d, &app));
        // Frozen changes that the copy needs keep the number for as long as they are there.
        d.call(&["destroy", &app]).ok();
        d.call(&["gc"]).ok();
        let next = start(&d, "next", &["--disk-size", "8M"]);
        assert_ne!(number(&d.folder(&next).join("own")), first);
        d.call(&["destroy", "-f", &next, &copy]).ok();
        d.call(&["gc"]).ok();
        let data = fs::File::open(&d.data).expect("open");
        let left = sys::quota::usage(data.as_fd(), first).expect("usage");
        assert_eq!((left.inodes, left.limit), (0, 0));
        let last = start(&d, "last", &["--disk-size", "8M"]);
        assert_eq!(number(&d.folder(&last).join("own")), first, "the number is free again");
        d.call(&["destroy", "-f", &last]).ok();
    });
}

/// Killed at any moment: no number is given twice, and none is lost.
#[test]
fn a_create_that_is_killed_leaves_no_number() {
    case_with(&NEEDS, |sb| {
        mount_data(sb, "loop,prjquota");
        let d = Defined::new(sb);
        let base = d.base();
        let parent = format!("/{}", sb.name);
        for round in 0..12u64 {
            let name = d.name(&format!("k{round}"));
            let args = ["create", &name, "--from", text(&base), "--cgroup-parent", &parent, "--disk-size", "8M"];
            let mut command = d.prepare(&[args.as_slice(), &["--", "true"]].concat()).spawn();
            std::thread::sleep(std::time::Duration::from_millis(round * 3));
            command.kill();
            d.call(&["ls", "--quiet"]).ok();
            if d.folder(&name).exists() {
                d.call(&["destroy", &name]).ok();
            }
        }
        let web = start(&d, "web", &["--disk-size", "8M"]);
        let given = number(&d.folder(&web).join("own"));
        let data = fs::File::open(&d.data).expect("open");
        for number in given - 3..given + 12 {
            let usage = sys::quota::usage(data.as_fd(), number).expect("usage");
            assert_eq!(usage.inodes > 0, number == given, "project {number} has {usage:?}");
        }
        assert_eq!(given & 0xffff, 0, "the first one is free");
        d.call(&["destroy", "-f", &web]).ok();
    });
}

#[test]
fn a_file_system_that_enforces_no_limit_is_refused() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let data = sb.host_dir("data");
        sb.program("/bin/mount").args(["-t", "tmpfs", "tmpfs", text(&data)]).run().ok();
        let web = d.name("web");
        let said = d.create(&web, text(&d.base()), &["--disk-size", "8M"], &["true"]).fails();
        assert!(said.contains("enforces no project quotas") && said.contains("prjquota"), "{said}");
        assert!(!d.folder(&web).exists());
        d.create(&web, text(&d.base()), &["--disk-size", "8M", "--ephemeral"], &["true"]).fails();
    });
}
