//! Snapshots, copies, and what a container has changed.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use integration::defined::{Defined, text};
use integration::host::own_mounts;
use integration::requires::Need;
use integration::{Sandbox, case_with, json};

/// Defines and starts a container that sleeps.
fn sleeper(d: &Defined<'_>, suffix: &str) -> String {
    let name = d.name(suffix);
    d.create(&name, text(&d.base()), &["--start"], &["sleep", "1000"]).ok();
    name
}

/// What a shell in a running container says.
#[track_caller]
fn sh(sb: &Sandbox, name: &str, script: &str) -> String {
    sb.exec_sh(name, script).ok()
}

fn stop(d: &Defined<'_>, name: &str) {
    d.call(&["stop", "--time", "0", name]).ok();
}

/// Frozen changes on disk.
fn frozen(d: &Defined<'_>) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(d.data.join("changes")) else { return BTreeSet::new() };
    entries.map(|entry| entry.expect("read").file_name().into_string().expect("a name")).collect()
}

/// Ids that a definition, or a snapshot of the container, refers to.
fn referred(d: &Defined<'_>, name: &str) -> BTreeSet<String> {
    let folder = d.folder(name);
    let mut documents = vec![d.definition(name)];
    if let Ok(snapshots) = fs::read_dir(folder.join("snapshots")) {
        let read = |path: &Path| serde_json::from_slice(&fs::read(path).expect("read")).expect("a whole document");
        let all = snapshots.map(|entry| entry.expect("read").path());
        // A write that is killed leaves what it had begun, which `gc` removes.
        documents
            .extend(all.filter(|path| path.extension().is_some_and(|kind| kind == "json")).map(|path| read(&path)));
    }
    let mut ids = BTreeSet::new();
    for document in documents {
        let changes = document["changes"].as_array().cloned().unwrap_or_default();
        ids.extend(changes.iter().map(|id| id.as_str().expect("an id").to_owned()));
    }
    ids
}

#[test]
fn a_snapshot_of_a_stopped_container_is_what_restore_brings_back() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let web = sleeper(&d, "web");
        sh(sb, &web, "echo one > /file; rm /etc/group; echo x > /root/secret");
        stop(&d, &web);
        d.call(&["snapshot", &web, "first", "--comment", "as it was"]).ok();
        assert_eq!(d.call(&["diff", &web]).ok(), "", "the new upper layer is empty");
        d.call(&["start", &web]).ok();
        assert_eq!(sh(sb, &web, "cat /file; ls /etc/group 2>&1 | grep -c 'No such'"), "one\n1");
        sh(sb, &web, "echo two > /file; echo more > /more; rm -r /root");
        d.call(&["restore", &web, "first"]).fails_saying("stop it first");
        stop(&d, &web);
        assert_eq!(d.call(&["snapshot", &web]).ok(), "snap0");
        for (snapshot, expected) in [("first", "one"), ("snap0", "two"), ("first", "one")] {
            d.call(&["restore", &web, snapshot]).ok();
            d.call(&["start", &web]).ok();
            assert_eq!(sh(sb, &web, "cat /file"), expected);
            assert_eq!(sh(sb, &web, "test -e /more && echo more; :"), if snapshot == "first" { "" } else { "more" });
            assert_eq!(sh(sb, &web, "cat /root/secret 2>&1 | head -1; :").starts_with('x'), snapshot == "first");
            // What is done after a snapshot is no part of it.
            sh(sb, &web, "echo lost > /file");
            stop(&d, &web);
        }
        let list = d.call(&["snapshot", &web, "--list", "-o", "json"]).json();
        assert_eq!((&list[0]["name"], &list[0]["comment"]), (&json!("first"), &json!("as it was")));
        assert_eq!((&list[1]["name"], list[1]["changes"].as_array().map(Vec::len)), (&json!("snap0"), Some(2)));
        d.call(&["snapshot", &web, "first"]).fails_saying("has a snapshot \"first\" already");
        d.call(&["restore", &web, "third"]).fails_saying("has no snapshot \"third\"");
        // The container is at `first`: what only snap0 had can go.
        d.call(&["snapshot", &web, "--remove", "snap0"]).ok();
        assert_eq!(frozen(&d).len(), 2);
        d.call(&["gc"]).ok();
        assert_eq!(frozen(&d), referred(&d, &web));
        d.call(&["destroy", &web]).ok();
        d.call(&["gc"]).ok();
        assert_eq!(frozen(&d), BTreeSet::new());
        assert!(!own_mounts().iter().any(|mount| mount.target.starts_with(text(&sb.dir))));
    });
}

#[test]
fn a_running_container_is_copied_while_it_stands_still() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let web = sleeper(&d, "web");
        sh(
            sb,
            &web,
            "mkdir /new; echo a > /new/a; ln /new/a /new/b; rm /etc/group; chown 7:8 /new/a; chmod 4755 /new/a",
        );
        let copy = d.name("copy");
        assert_eq!(d.call(&["copy", &web, &copy]).ok(), copy);
        assert_eq!(sb.status(&web), "running");
        // Neither sees what the other does from here on.
        sh(sb, &web, "echo of web > /mine");
        d.call(&["start", &copy]).ok();
        let seen = sh(
            sb,
            &copy,
            "stat -c '%u:%g %a %h' /new/a /new/b; test -e /etc/group || echo gone; test -e /mine || echo none",
        );
        assert_eq!(seen, "7:8 4755 2\n7:8 4755 2\ngone\nnone");
        assert_eq!(sh(sb, &copy, "hostname"), copy);
        sh(sb, &copy, "echo of copy > /new/c");
        assert_eq!(sh(sb, &web, "ls /new"), "a\nb");
        // A paused one stays paused.
        sb.call(&["pause", &web]).run().ok();
        d.call(&["snapshot", &web]).ok();
        assert_eq!(sb.status(&web), "paused");
        sb.call(&["resume", &web]).run().ok();
        for name in [&web, &copy] {
            d.call(&["destroy", "-f", name]).ok();
        }
    });
}

#[test]
fn a_hundred_copies_cost_a_hundred_empty_folders() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let web = sleeper(&d, "web");
        sh(sb, &web, "dd if=/dev/zero of=/big bs=1M count=8 2>/dev/null");
        stop(&d, &web);
        let copies: Vec<String> = (0..100).map(|number| d.name(&format!("c{number}"))).collect();
        for copy in &copies {
            d.call(&["copy", &web, copy]).ok();
        }
        assert_eq!(frozen(&d).len(), 1);
        for copy in &copies {
            assert_eq!(referred(&d, copy), frozen(&d));
        }
        let blocks = |name: &String| -> u64 {
            let files = integration::host::folders_deepest_first(&d.folder(name));
            files.iter().map(|path| fs::symlink_metadata(path).expect("stat").blocks() * 512).sum()
        };
        assert!(copies.iter().map(blocks).sum::<u64>() < 100 * 64 * 1024);
        d.call(&["destroy", &web]).ok();
        d.call(&["gc"]).ok();
        let last = &copies[99];
        d.call(&["start", last]).ok();
        assert_eq!(sh(sb, last, "stat -c %s /big"), (8 << 20).to_string());
        d.call(&[&["destroy", "-f"], copies.iter().map(String::as_str).collect::<Vec<_>>().as_slice()].concat()).ok();
        d.call(&["gc"]).ok();
        assert_eq!(frozen(&d), BTreeSet::new());
    });
}

/// Root of a container makes programs with set-user-id: on the host nobody may come near them.
#[test]
fn nobody_but_root_reaches_what_containers_made() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let web = d.name("web");
        d.create(&web, text(&d.base()), &["--start", "--ids", "100000:65536"], &["sleep", "1000"]).ok();
        sh(sb, &web, "cp /bin/busybox /suid; chmod 4755 /suid");
        stop(&d, &web);
        let run = |file: &str| {
            // The shell in between has none of setpriv's capabilities.
            let user = "setpriv --reuid 1000 --regid 1000 --clear-groups /bin/sh -c";
            sb.program("/bin/sh").args(["-c", &format!("test -u {file} && exec {user} {file}")]).run()
        };
        let said = run(text(&d.folder(&web).join("own/upper/suid"))).fails();
        assert!(said.contains("Permission denied"), "{said}");
        d.call(&["snapshot", &web]).ok();
        let id = frozen(&d).into_iter().next().expect("frozen changes");
        let said = run(text(&d.data.join("changes").join(id).join("root/suid"))).fails();
        assert!(said.contains("Permission denied"), "{said}");
        d.call(&["destroy", &web]).ok();
    });
}

#[test]
fn a_renamed_container_is_the_same() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let (web, app) = (sleeper(&d, "web"), d.name("app"));
        sh(sb, &web, "echo mine > /mine");
        d.call(&["rename", &web, &app]).fails_saying("stop it first");
        stop(&d, &web);
        d.call(&["snapshot", &web, "s"]).ok();
        d.call(&["rename", &web, &app]).ok();
        d.call(&["start", &web]).fails();
        d.call(&["start", &app]).ok();
        assert_eq!(sh(sb, &app, "cat /mine; hostname"), format!("mine\n{app}"));
        assert_eq!(d.call(&["snapshot", &app, "--list", "-o", "json"]).json()[0]["name"], "s");
        let other = sleeper(&d, "web");
        stop(&d, &app);
        d.call(&["rename", &app, &other]).fails_saying("is defined already");
        d.call(&["copy", &app, &other]).fails_saying("is defined already");
        d.call(&["copy", &app, &app]).fails();
        d.call(&["destroy", "-f", &app, &other]).ok();
    });
}

#[test]
fn changes_are_listed_and_exported() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let base = d.base();
        fs::create_dir_all(base.join("data/dir")).expect("mkdir");
        fs::write(base.join("data/dir/x"), "x").expect("write");
        fs::write(base.join("data/below"), "x").expect("write");
        // Where files of the container's own are mounted.
        for name in ["hosts", "hostname", "resolv.conf"] {
            fs::write(base.join("etc").join(name), "").expect("write");
        }
        let web = sleeper(&d, "web");
        sh(sb, &web, "cd /data; rm below; rm -r dir; mkdir dir; echo y > dir/y; ln -s y dir/link; mknod pipe p");
        let expected =
            "C /data\nD /data/below\nC /data/dir\nA /data/dir/link\nD /data/dir/x\nA /data/dir/y\nA /data/pipe";
        assert_eq!(d.call(&["diff", &web]).ok(), expected);
        let list = d.call(&["diff", &web, "-o", "json"]).json();
        let opaque = json!({ "path": "/data/dir", "change": "changed", "folder": true, "opaque": true });
        assert!(list.as_array().expect("a list").contains(&opaque), "{list}");
        stop(&d, &web);
        d.call(&["snapshot", &web]).ok();
        assert_eq!(d.call(&["diff", &web]).ok(), "");
        assert_eq!(d.call(&["diff", &web, "--all"]).ok(), expected);
        // The archive has what the container sees, and no marks.
        let archive = sb.dir.join("all.tar");
        d.call(&["export", &web, text(&archive)]).ok();
        let to = sb.host_dir("unpacked");
        sb.program("/usr/bin/tar").args(["-xf", text(&archive), "-C", text(&to)]).run().ok();
        let mut names: Vec<String> = fs::read_dir(to.join("data"))
            .expect("read")
            .map(|entry| entry.expect("read").file_name().into_string().expect("a name"))
            .collect();
        names.sort();
        assert_eq!(names, ["dir", "pipe"]);
        assert!(fs::symlink_metadata(to.join("data/pipe")).expect("stat").file_type().is_fifo());
        assert_eq!(fs::read_to_string(to.join("data/dir/link")).expect("read"), "y\n");
        assert!(!to.join("data/dir/x").exists() && to.join("bin/busybox").exists());
        let said = d.call(&["export", &web, "/no/such/folder/x"]).fails();
        assert!(said.contains("/no/such/folder/x"), "{said}");
        d.call(&["destroy", &web]).ok();
    });
}

/// Whatever it does just then, its changes are kept.
#[test]
fn one_that_ends_meanwhile_is_a_stopped_one() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let web = sleeper(&d, "web");
        stop(&d, &web);
        for round in 0..10u64 {
            d.call(&["start", &web]).ok();
            sh(sb, &web, &format!("echo {round} > /round"));
            let snapshot = d.prepare(&["snapshot", &web]).spawn();
            std::thread::sleep(std::time::Duration::from_millis(round));
            sb.call(&["kill", &web, "KILL"]).run().ok();
            let name = snapshot.wait(std::time::Duration::from_secs(60)).ok();
            d.call(&["wait", &web]).ok();
            d.call(&["restore", &web, &name]).ok();
            d.call(&["start", &web]).ok();
            assert_eq!(sh(sb, &web, "cat /round"), round.to_string());
            stop(&d, &web);
        }
        d.call(&["destroy", &web]).ok();
        check_whole(&d);
    });
}

#[test]
fn changes_in_memory_cannot_be_frozen() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let web = d.name("web");
        d.create(&web, text(&d.base()), &["--start", "--ephemeral"], &["sleep", "1000"]).ok();
        for args in [["snapshot", &web].as_slice(), &["copy", &web, "other"], &["diff", &web], &["export", &web, "-"]] {
            d.call(args).fails_saying("keeps its changes in memory");
        }
        assert!(!d.folder("other").exists());
        d.call(&["destroy", "-f", &web]).ok();
    });
}

#[test]
fn more_snapshots_than_are_good_are_refused() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let web = d.name("web");
        d.create(&web, text(&d.base()), &[], &["true"]).ok();
        let mut definition = d.definition(&web);
        let ids: Vec<String> = (0..100).map(|number| format!("{number:016x}")).collect();
        for id in &ids {
            fs::create_dir_all(d.data.join("changes").join(id).join("root")).expect("mkdir");
        }
        definition["changes"] = json!(ids);
        d.write_definition(&web, &definition);
        fs::write(d.folder(&web).join("own/upper/x"), "x").expect("write");
        let said = d.call(&["snapshot", &web]).fails();
        assert!(said.contains("100 layers of frozen changes") && said.contains("export it"), "{said}");
        // It starts with all of them.
        d.call(&["start", &web]).ok();
        d.call(&["destroy", "-f", &web]).ok();
    });
}

/// What cannot be finished for want of space is told, undone, and hurts nothing.
#[test]
fn a_full_disk_loses_nothing() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let data = sb.host_dir("data");
        sb.program("/bin/mount").args(["-t", "tmpfs", "-o", "size=6M", "tmpfs", text(&data)]).run().ok();
        let web = sleeper(&d, "web");
        sh(sb, &web, "dd if=/dev/urandom of=/big bs=1M count=4 2>/dev/null; sha256sum /big > /sum");
        let copy = d.name("copy");
        for args in [["copy", &web, &copy].as_slice(), &["snapshot", &web]] {
            let said = d.call(args).fails();
            assert!(said.contains("cannot copy big") && said.contains("No space left on device"), "{said}");
            check_whole(&d);
            assert_eq!(sb.status(&web), "running");
            assert_eq!(frozen(&d), BTreeSet::new());
        }
        assert!(!d.folder(&copy).exists());
        stop(&d, &web);
        // Not a byte is left: a document cannot be written, and a stopped container needs no more than that.
        let filler = data.join("filler");
        sb.program("/bin/sh").args(["-c", &format!("cat /dev/zero > {} 2>&1; :", text(&filler))]).run().ok();
        let said = d.call(&["snapshot", &web, "full"]).fails();
        assert!(said.contains("No space left on device"), "{said}");
        check_whole(&d);
        fs::remove_file(&filler).expect("make room");
        d.call(&["snapshot", &web, "s"]).ok();
        d.call(&["copy", &web, &copy]).ok();
        for name in [&web, &copy] {
            d.call(&["start", name]).ok();
            sh(sb, name, "sha256sum -c /sum");
            d.call(&["destroy", "-f", name]).ok();
        }
    });
}

/// Whatever moment a command ends at: afterwards the container has all of its files, nothing refers to what is not there, and
/// nothing is left of what was not finished.
#[test]
fn a_command_that_is_killed_leaves_nothing_half_done() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let web = sleeper(&d, "web");
        sh(sb, &web, "mkdir /many; for i in $(seq 300); do echo $i > /many/$i; done");
        let rounds = 40;
        let mut killed = 0;
        for round in 0..rounds {
            let running = round % 4 < 2;
            if running {
                d.call(&["start", &web]);
            } else {
                stop(&d, &web);
                fs::write(d.folder(&web).join(format!("own/upper/round{round}")), "x").expect("write");
            }
            let copy = d.name(&format!("k{round}"));
            let args: Vec<&str> = match round % 5 {
                0 | 1 => vec!["copy", &web, &copy],
                2 => vec!["gc"],
                _ => vec!["snapshot", &web],
            };
            let mut command = d.prepare(&args).spawn();
            // Every moment from its first instruction to after its end.
            std::thread::sleep(Duration::from_micros(1500 * (round as u64 * 7 % 30)));
            killed += u32::from(!command.ended());
            command.kill();
            // Any command settles what is left.
            d.call(&["ls", "--quiet"]).ok();
            check_consistency(sb, &d, &web, running);
            if d.folder(&copy).exists() {
                d.call(&["destroy", &copy]).ok();
            }
        }
        assert!(killed > 5, "{killed} of {rounds} commands were interrupted");
        stop(&d, &web);
        d.call(&["start", &web]).ok();
        assert_eq!(sh(sb, &web, "ls /many | wc -l").trim(), "300");
        let begun = [d.folder(&web), d.folder(&web).join("snapshots")].map(|folder| folder.join("begun.new"));
        fs::create_dir_all(d.folder(&web).join("snapshots")).expect("every snapshot may have been interrupted");
        begun.iter().for_each(|path| fs::write(path, "").expect("write"));
        d.call(&["gc", "--dry-run"]).ok();
        assert!(begun.iter().all(|path| path.exists()));
        d.call(&["gc"]).ok();
        assert!(!begun.iter().any(|path| path.exists()));
        d.call(&["destroy", "-f", &web]).ok();
        d.call(&["gc"]).ok();
        assert_eq!(frozen(&d), BTreeSet::new());
    });
}

#[track_caller]
fn check_consistency(sb: &Sandbox, d: &Defined<'_>, web: &str, running: bool) {
    check_whole(d);
    if running {
        assert_eq!(sb.status(web), "running");
    }
    let shown = d.call(&["diff", web, "--all"]).ok();
    let many = shown.lines().filter(|line| line.starts_with("A /many/")).count();
    assert_eq!(many, 300, "{shown}");
}

/// Every container has what it needs, and nothing is under way.
#[track_caller]
fn check_whole(d: &Defined<'_>) {
    let containers = fs::read_dir(d.data.join("containers")).expect("read");
    for entry in containers {
        let name = entry.expect("read").file_name().into_string().expect("a name");
        assert!(!name.starts_with('.'), "{name} was left");
        let folder = d.folder(&name);
        assert!(!folder.join("pending.json").exists(), "{name} is half changed");
        for part in ["own/upper", "own/work", "rootfs"] {
            assert!(folder.join(part).is_dir(), "{name} has no {part}");
        }
        for id in referred(d, &name) {
            assert!(d.data.join("changes").join(&id).join("root").is_dir(), "{name} refers to {id}");
        }
    }
}

/// Owners on disk are those inside, so a frozen layer does for any range of ids.
#[test]
fn copies_with_ids_of_their_own_share_frozen_changes() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let (web, copy) = (d.name("web"), d.name("copy"));
        d.create(&web, text(&d.base()), &["--start", "--ids", "100000:65536"], &["sleep", "1000"]).ok();
        sh(sb, &web, "echo mine > /mine; chown 5:6 /mine; mkdir /dir; rm /etc/group");
        d.call(&["copy", &web, &copy]).ok();
        stop(&d, &web);
        d.call(&["snapshot", &web]).ok();
        for name in [&web, &copy] {
            d.call(&["start", name]).ok();
            let seen = sh(
                sb,
                name,
                "stat -c %u:%g /mine /dir; echo more >> /mine; stat -c %u:%g /mine; ls /etc/group 2>&1; :",
            );
            assert!(seen.starts_with("5:6\n0:0\n5:6\n") && seen.contains("No such file"), "{seen}");
        }
        let upper = d.folder(&copy).join("own/upper/mine");
        let stat = fs::symlink_metadata(upper).expect("stat");
        assert_eq!((stat.uid(), stat.gid()), (5, 6));
        d.call(&["destroy", "-f", &web, &copy]).ok();
    });
}
