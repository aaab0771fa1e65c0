//! `lxc-copy`, `lxc-clone` and `lxc-snapshot`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use integration::case_with;
use integration::defined::text;
use integration::host::{eventually, own_mounts};
use integration::requires::Need;

use crate::{Face, SLEEPER};

#[test]
fn a_copy_has_the_files_and_a_place_of_its_own() {
    case_with(&[Need::Skep], |sb| {
        let face = Face::new(sb);
        let one = face.container("one", &format!("{SLEEPER}lxc.uts.name = first\n"));
        let root = face.path.join(&one).join("rootfs");
        fs::write(root.join("file"), "of one").expect("write");
        std::os::unix::fs::chown(root.join("file"), Some(7), Some(8)).expect("chown");
        fs::set_permissions(root.join("file"), fs::Permissions::from_mode(0o640)).expect("chmod");
        fs::hard_link(root.join("file"), root.join("linked")).expect("link");
        let hook = face.path.join(&one).join("hook.sh");
        fs::write(&hook, "#!/bin/sh\necho \"$@ $LXC_SRC_NAME\" > ${0%/*}/told\n").expect("write");
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("chmod");
        let config = face.path.join(&one).join("config");
        let keys = fs::read_to_string(&config).expect("read") + &format!("lxc.hook.clone = {}\n", hook.display());
        fs::write(&config, keys).expect("write");

        let (two, three) = (face.d.name("two"), face.d.name("three"));
        assert_eq!(face.call("lxc-copy", &["-n", &one, "-N", &two, "--", "a b", "c"]).ok(), "");
        let copied = face.path.join(&two);
        let meta = fs::metadata(copied.join("rootfs/file")).expect("copied");
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o777, meta.nlink()), (7, 8, 0o640, 2));
        assert_eq!(
            fs::read_to_string(copied.join("told")).expect("told").trim(),
            format!("{two} lxc clone a b c {one}")
        );
        let config = fs::read_to_string(copied.join("config")).expect("read");
        assert!(
            config.ends_with(&format!("lxc.rootfs.path = dir:{}/rootfs\nlxc.uts.name = {two}\n", copied.display()))
        );
        face.call("lxc-copy", &["-n", &one, "-N", &two]).fails_saying("already exists");

        face.call("lxc-start", &[&two]).ok();
        assert_eq!(face.call("lxc-attach", &[&two, "--", "cat", "/file"]).ok(), "of one");
        assert_eq!(face.call("lxc-attach", &[&two, "--", "hostname"]).ok(), two);
        face.call("lxc-copy", &["-n", &two, "-N", &three]).fails_saying("is running");
        face.call("lxc-copy", &["-n", &two, "-N", &three, "-R"]).fails_saying("is running");
        face.call("lxc-stop", &[&two, "-k"]).ok();
        face.call("lxc-copy", &["-n", &two, "-N", &three, "-R"]).ok();
        assert!(!copied.exists());
        face.call("lxc-start", &[&three]).ok();
        assert_eq!(face.call("lxc-attach", &[&three, "--", "hostname"]).ok(), three);
        face.call("lxc-destroy", &["-f", &three]).ok();

        let four = face.d.name("four");
        let made = face.d.call(&["lxc-clone", "-p", text(&face.path), "-s", &one, &four]).ok();
        assert_eq!(made, format!("Created container {four} as snapshot of {one}"));
        face.call("lxc-destroy", &[&one]).fails_saying("has clones");
        face.call("lxc-start", &[&four]).ok();
        assert_eq!(face.call("lxc-attach", &[&four, "--", "sh", "-c", "cat /file; echo new > /file"]).ok(), "of one");
        face.call("lxc-stop", &[&four, "-k"]).ok();
        assert_eq!(fs::read_to_string(root.join("file")).expect("read"), "of one");
        let flat = face.d.name("flat");
        face.call("lxc-copy", &["-n", &four, "-N", &flat]).ok();
        assert_eq!(fs::read_to_string(face.path.join(&flat).join("rootfs/file")).expect("read").trim(), "new");
        for name in [&flat, &four, &one] {
            face.call("lxc-destroy", &[name]).ok();
        }
        assert_eq!(fs::read_dir(&face.path).expect("read").count(), 0);
        assert_eq!(face.d.call(&["ls", "-q"]).ok(), "");
    });
}

#[test]
fn an_ephemeral_copy_goes_when_it_ends() {
    case_with(&[Need::Skep], |sb| {
        let face = Face::new(sb);
        let one = face.container("one", SLEEPER);
        let shared = sb.host_dir("shared");
        fs::write(shared.join("file"), "of the host").expect("write");
        let mount = format!("bind={}:/mnt", shared.display());
        let copy = face.d.name("copy");
        let made = face.call("lxc-copy", &["-n", &one, "-N", &copy, "-e", "-m", &mount]).ok();
        assert_eq!(made, format!("Created {copy} as clone of {one}"));
        assert_eq!(face.call("lxc-attach", &[&copy, "--", "cat", "/mnt/file"]).ok(), "of the host");
        face.call("lxc-stop", &[&copy]).ok();
        eventually("it is removed", || !face.path.join(&copy).exists());
        eventually("nothing is above its files", || !face.path.join(&one).join("lxc_snapshots").exists());

        face.call("lxc-copy", &["-n", &one, "-N", &copy, "-e", "-D"]).ok();
        face.call("lxc-stop", &[&copy]).ok();
        assert_eq!(face.call("lxc-info", &[&copy, "-sH"]).ok(), "STOPPED");
        face.call("lxc-destroy", &[&copy]).ok();
        // What it changes is in memory, and goes with it.
        face.call("lxc-copy", &["-n", &one, "-N", &copy, "-t"]).fails_saying("say -e too");
        face.call("lxc-copy", &["-n", &one, "-N", &copy, "-e", "-t"]).ok();
        let layer = face.path.join(&copy).join("overlay");
        let mounts = || own_mounts().into_iter().filter(|mount| mount.target == text(&layer)).count();
        assert_eq!(mounts(), 1);
        assert_eq!(sb.exec_sh(&copy, "echo new > /made; cat /made").ok(), "new");
        assert_eq!(fs::read_to_string(layer.join("delta/made")).expect("in the layer"), "new\n");
        face.call("lxc-stop", &["-n", &copy, "-k"]).ok();
        eventually("it is gone", || !face.path.join(&copy).exists());
        assert_eq!(mounts(), 0);
        face.call("lxc-destroy", &[&one]).ok();
        eventually("all are gone", || face.d.call(&["ls", "-q"]).ok().is_empty());
        assert!(!own_mounts().iter().any(|mount| mount.target.starts_with(text(&sb.dir))));
    });
}

#[test]
fn snapshots_are_taken_listed_and_restored() {
    case_with(&[Need::Skep], |sb| {
        let face = Face::new(sb);
        let one = face.container("one", SLEEPER);
        let file = face.path.join(&one).join("rootfs/file");
        let comment = sb.dir.join("comment");
        fs::write(&comment, "the first one\n").expect("write");
        fs::write(&file, "before").expect("write");
        face.call("lxc-snapshot", &["-n", &one, "-c", text(&comment)]).ok();
        fs::write(&file, "between").expect("write");
        face.call("lxc-snapshot", &[&one]).ok();
        fs::write(&file, "after").expect("write");
        let listed = face.call("lxc-snapshot", &[&one, "-L", "-C"]).ok();
        let snaps = face.path.join(&one).join("snaps");
        let lines: Vec<&str> = listed.lines().collect();
        assert!(lines[0].starts_with(&format!("snap0 ({}) 2", snaps.display())), "{listed}");
        assert_eq!((lines[0].matches(':').count(), lines[1]), (4, "the first one"));
        assert!(lines[2].starts_with("snap1 (") && lines.len() == 3, "{listed}");
        face.call("lxc-destroy", &[&one]).fails_saying("has snapshots");

        let two = face.d.name("two");
        face.call("lxc-snapshot", &[&one, "-r", "snap0", "-N", &two]).ok();
        assert_eq!(fs::read_to_string(face.path.join(&two).join("rootfs/file")).expect("read"), "before");
        face.call("lxc-start", &[&two]).ok();
        assert_eq!(face.call("lxc-attach", &[&two, "--", "hostname"]).ok(), two);
        face.call("lxc-snapshot", &[&two]).fails_saying("is running");
        face.call("lxc-destroy", &["-f", &two]).ok();

        face.call("lxc-snapshot", &[&one, "-r", "snap1"]).ok();
        assert_eq!(fs::read_to_string(&file).expect("read"), "between");
        face.call("lxc-start", &[&one]).ok();
        face.call("lxc-snapshot", &[&one, "-r", "snap0"]).fails_saying("is running");
        face.call("lxc-stop", &[&one, "-k"]).ok();
        face.call("lxc-snapshot", &[&one, "-d", "snap7"]).fails_saying("Error opening snapshot");
        face.call("lxc-snapshot", &[&one, "-d", "../.."]).fails_saying("Error opening snapshot");
        face.call("lxc-snapshot", &[&one, "-d", "snap0"]).ok();
        assert!(!face.call("lxc-snapshot", &[&one, "-L"]).ok().contains("snap0"));
        face.call("lxc-snapshot", &[&one, "-d", "ALL"]).ok();
        assert_eq!(face.call("lxc-snapshot", &[&one, "-L"]).ok(), "No snapshots");
        assert!(!snaps.exists());
        face.call("lxc-destroy", &[&one]).ok();
        assert_eq!(fs::read_dir(&face.path).expect("read").count(), 0);
    });
}
