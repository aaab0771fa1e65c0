//! Root file systems where layers cannot be stacked: files are copied.

use std::fs;

use integration::defined::{Defined, text};
use integration::requires::Need;
use integration::{Sandbox, case_with};

/// The data folder on a file system that the kernel takes no upper layer from: an overlay itself.
fn mount_data(sb: &Sandbox) {
    let data = sb.host_dir("data");
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| sb.host_dir(name));
    let options = format!("lowerdir={},upperdir={},workdir={}", text(&lower), text(&upper), text(&work));
    sb.program("/bin/mount").args(["-t", "overlay", "overlay", "-o", &options, text(&data)]).run().ok();
}

fn stop(d: &Defined<'_>, name: &str) {
    d.call(&["stop", "--time", "0", name]).ok();
}

#[test]
fn a_container_has_a_copy_where_layers_cannot_be_stacked() {
    case_with(&[Need::Skep], |sb| {
        mount_data(sb);
        let d = Defined::new(sb);
        let base = d.base();
        fs::write(base.join("etc/below"), "below").expect("write");
        let (web, copy, app) = (d.name("web"), d.name("copy"), d.name("app"));
        let made = d.create(&web, text(&base), &["--start"], &["sleep", "1000"]);
        assert!(made.stderr_now().contains("gets a copy of all its files"), "{}", made.stderr_now());
        assert!(made.stderr_now().contains("which is on overlay"), "{}", made.stderr_now());
        made.ok();
        assert_eq!(d.listed(&web)["storage"], "copy");
        let sh = |name: &str, script: &str| sb.exec_sh(name, script).ok();
        assert_eq!(
            sh(&web, "cat /etc/below; echo one > /file; rm /etc/below; ls /etc/below 2>&1 | grep -c No"),
            "below1"
        );
        assert_eq!(fs::read_to_string(base.join("etc/below")).expect("read"), "below");
        d.call(&["snapshot", &web, "running"]).ok();
        assert_eq!(sb.status(&web), "running");
        sh(&web, "echo two > /file; mkdir /dir");
        d.call(&["copy", &web, &copy]).ok();
        sh(&web, "echo three > /file");
        d.call(&["diff", &web]).fails_saying("has a copy of all its files");
        let archive = sb.dir.join("all.tar");
        d.call(&["export", &web, text(&archive)]).ok();
        let listed = sb.program("/usr/bin/tar").args(["-tf", text(&archive)]).run().ok();
        assert!(listed.contains("bin/busybox\n") && listed.contains("\ndir/"), "{listed}");
        stop(&d, &web);
        d.call(&["snapshot", &web, "stopped"]).ok();
        d.call(&["start", &copy]).ok();
        assert_eq!(sh(&copy, "cat /file; ls -d /dir; test -e /etc/below || echo gone"), "two\n/dir\ngone");
        d.call(&["rename", &web, &app]).ok();
        for (snapshot, expected) in [("running", "one\n"), ("stopped", "three\n/dir"), ("running", "one\n")] {
            d.call(&["restore", &app, snapshot]).ok();
            d.call(&["start", &app]).ok();
            assert_eq!(sh(&app, "cat /file; ls -d /dir 2>/dev/null; :").trim_end(), expected.trim_end());
            assert_eq!(d.call(&["refresh", &app, "-o", "json"]).json()[0]["action"], "current");
            stop(&d, &app);
        }
        d.call(&["destroy", "-f", &app, &copy]).ok();
        d.call(&["gc"]).ok();
        assert_eq!(fs::read_dir(d.data.join("changes")).expect("read").count(), 0);
    });
}

#[test]
fn what_a_copy_cannot_be_is_refused() {
    case_with(&[Need::Skep], |sb| {
        mount_data(sb);
        let d = Defined::new(sb);
        let (base, name) = (d.base(), d.name("web"));
        let refused = |from: &str, options: &[&str], why: &str| {
            let said = d.create(&name, from, options, &["true"]).fails();
            assert!(said.contains(why) && said.contains("which is on overlay"), "{said}");
            assert!(!d.folder(&name).exists());
        };
        refused(text(&base), &["--storage", "overlay"], "--storage overlay cannot be had");
        refused(text(&base), &["--ids", "100000:65536"], "leave --ids out");
        refused("host", &[], "the host's own files are not copied");
        // Nothing of the data folder is written to.
        d.create(&name, text(&base), &["--ephemeral", "--start"], &["sleep", "1000"]).ok();
        assert_eq!(d.listed(&name)["storage"], "overlay");
        d.call(&["destroy", "-f", &name]).ok();
    });
}

#[test]
fn a_copy_can_be_asked_for() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let name = d.name("web");
        d.create(&name, text(&d.base()), &["--storage", "copy", "--start"], &["sleep", "1000"]).ok();
        let root = sb.exec_sh(&name, "grep ' / / ' /proc/self/mountinfo; grep -c overlay /proc/self/mountinfo; :").ok();
        assert!(root.ends_with('0'), "{root}");
        d.call(&["destroy", "-f", &name]).ok();
        d.create(&name, text(&d.base()), &["--storage", "copy", "--ephemeral"], &["true"])
            .fails_saying("leave --ephemeral");
    });
}

/// The kernel takes no frozen layer that lies inside `/`: it is copied instead.
#[test]
fn a_container_of_the_hosts_files_has_snapshots_beside_them() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let (web, copy) = (d.name("web"), d.name("copy"));
        d.create(&web, "host", &["--start"], &["sleep", "1000"]).ok();
        let sh = |name: &str, script: &str| sb.exec_sh(name, script).ok();
        sh(&web, "echo one > /usr/file; rm /usr/bin/env; chmod 751 /opt");
        d.call(&["snapshot", &web, "running"]).ok();
        sh(&web, "echo two > /usr/file");
        d.call(&["copy", &web, &copy]).ok();
        stop(&d, &web);
        d.call(&["snapshot", &web, "stopped"]).ok();
        let diff = d.call(&["diff", &copy]).ok();
        assert!(diff.contains("A /usr/file") && diff.contains("D /usr/bin/env"), "{diff}");
        d.call(&["start", &copy]).ok();
        assert_eq!(sh(&copy, "cat /usr/file; test -e /usr/bin/env || echo gone"), "two\ngone");
        for (snapshot, expected) in [("running", "one"), ("stopped", "two")] {
            d.call(&["restore", &web, snapshot]).ok();
            d.call(&["start", &web]).ok();
            assert_eq!(sh(&web, "cat /usr/file; test -e /usr/bin/env || stat -c %a /opt"), format!("{expected}\n751"));
            stop(&d, &web);
        }
        let list = d.call(&["snapshot", &web, "--list", "-o", "json"]).json();
        assert_eq!(list.as_array().map(Vec::len), Some(2));
        d.call(&["destroy", "-f", &web, &copy]).ok();
        d.call(&["gc"]).ok();
    });
}
