//! What CRIU is asked for, and what comes of its failures: judged against a program that speaks its protocol and fails.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use integration::host::eventually;
use integration::{Bundle, Call, Sandbox, case, json};

/// A folder whose `criu` is the fake one.
fn fake(sb: &Sandbox) -> PathBuf {
    let built = PathBuf::from(env!("CARGO_BIN_EXE_fake-criu"));
    // Where the tests were carried to another machine it lies beside them.
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("fake-criu")));
    let program = [Some(built), beside].into_iter().flatten().find(|path| path.is_file()).expect("fake-criu is built");
    let folder = sb.host_dir("path");
    let script = format!("#!/bin/bash\n[ \"$1\" = swrk ] || exit 9\nexec {} <&\"$2\"\n", program.display());
    fs::write(folder.join("criu"), script).expect("write");
    fs::set_permissions(folder.join("criu"), fs::Permissions::from_mode(0o755)).expect("chmod");
    folder
}

/// A verb whose CRIU is the fake one, in this manner.
fn call(sb: &Sandbox, manner: &str, args: &[&str]) -> Call {
    let call = sb.call(args).env("PATH", fake(sb).to_str().expect("UTF-8")).env("FAKE_CRIU", manner);
    call.env("FAKE_CRIU_LOG", log(sb).to_str().expect("UTF-8"))
}

fn log(sb: &Sandbox) -> PathBuf {
    sb.host_dir("asked").join("log")
}

/// What was asked for, `field value` a line.
fn asked(sb: &Sandbox, kind: &str) -> Vec<String> {
    let text = fs::read_to_string(log(sb)).expect("read what was asked");
    text.lines().filter_map(|line| line.strip_prefix(kind)).map(|line| line.trim().to_owned()).collect()
}

#[track_caller]
fn asks(lines: &[String], wanted: &str) {
    assert!(lines.iter().any(|line| line == wanted), "{wanted:?} is not in {lines:#?}");
}

fn images(sb: &Sandbox) -> String {
    sb.dir.join("images").to_str().expect("UTF-8").to_owned()
}

#[test]
fn without_criu_the_container_runs_on() {
    case(|sb| {
        let b = sb.bundle().sleeper();
        sb.detached(&b);
        let call = sb.call(&["checkpoint", "--image-path", &images(sb), &b.id]);
        call.env("PATH", "/nonexistent").run().fails_saying("criu is not installed");
        assert_eq!(sb.status(&b.id), "running");
    });
}

#[test]
fn an_old_criu_is_refused() {
    case(|sb| {
        let b = sb.bundle().sleeper();
        sb.detached(&b);
        call(sb, "old", &["checkpoint", "--image-path", &images(sb), &b.id])
            .run()
            .fails_saying("criu 2.12.0 is too old");
        assert_eq!(sb.status(&b.id), "running");
    });
}

#[test]
fn what_does_not_run_is_not_saved() {
    case(|sb| {
        let b = sb.bundle().sleeper();
        sb.create(&b).ok();
        let checkpoint = || call(sb, "fails", &["checkpoint", "--image-path", &images(sb), &b.id]).run();
        checkpoint().fails_saying("cannot be checkpointed in created state");
        sb.kill(&b.id, "KILL").ok();
        sb.wait_status(&b.id, "stopped");
        checkpoint().fails_saying("cannot be checkpointed in stopped state");
        assert!(!Path::new(&images(sb)).exists());
    });
}

#[test]
fn a_dump_names_what_is_of_the_host_and_tells_why_it_fails() {
    case(|sb| {
        let data = sb.host_dir("data");
        let b = sb.bundle().bind(&data, "/conf/x", &[]).folder("real").link("conf", "/real").sleeper();
        let b = b.set("/linux/maskedPaths", json!(["/proc/uptime", "/proc/acpi", "/proc/nothing"]));
        let container = sb.detached(&b);
        let work = sb.dir.join("work");
        let options = ["checkpoint", "--image-path", &images(sb), "--work-path", work.to_str().expect("UTF-8")];
        let more = ["--tcp-established", "--manage-cgroups-mode", "full", "--leave-running", &b.id];
        let said = call(sb, "fails", &[&options[..], &more[..]].concat()).run().fails();
        assert!(said.contains("criu failed: type DUMP errno 22: Error (criu/fake.c:7): fake: no such luck"), "{said}");
        assert!(said.contains(&format!("(log: {}/dump.log)", work.display())), "{said}");
        assert_eq!(sb.status(&b.id), "running");

        let asked = asked(sb, "DUMP");
        asks(&asked, &format!("2 {}", container.pid));
        asks(&asked, "3 1");
        asks(&asked, "5 1");
        asks(&asked, "10 dump.log");
        asks(&asked, &format!("13 {}", b.rootfs().canonicalize().expect("a rootfs").display()));
        asks(&asked, "34 4");
        asks(&asked, "38 1073741824");
        asks(&asked, "51 /etc/criu/runc.conf");
        let mounts: Vec<_> = asked.iter().filter(|line| line.starts_with("23 ")).collect();
        assert!(mounts.iter().any(|line| line.matches("/real/x").count() == 2), "the link is followed: {mounts:#?}");
        assert!(mounts.iter().any(|line| line.contains("/proc/uptime") && line.contains("/dev/null")), "{mounts:#?}");
        assert!(fs::read_to_string(format!("{}/descriptors.json", images(sb))).expect("read").starts_with('['));
    });
}

#[test]
fn a_criu_that_dies_leaves_the_container_running() {
    case(|sb| {
        let b = sb.bundle().sh("n=0; while :; do n=$((n+1)); echo $n > /dev/shm/n; sleep 0.1; done");
        sb.detached(&b);
        let said = call(sb, "dies", &["checkpoint", "--image-path", &images(sb), &b.id]).run().fails();
        assert!(said.contains("it ended without an answer"), "{said}");
        assert_eq!(sb.status(&b.id), "running");
        let count = || sb.exec(&b.id, &["cat", "/dev/shm/n"]).stdout_now();
        let before = count();
        eventually("the counter goes on", || count() != before);
    });
}

#[test]
fn features_that_are_missing_are_named() {
    case(|sb| {
        let b = sb.bundle().sleeper();
        sb.detached(&b);
        let checkpoint = |option| call(sb, "fails", &["checkpoint", "--image-path", &images(sb), option, &b.id]).run();
        checkpoint("--pre-dump").fails_saying("CONFIG_MEM_SOFT_DIRTY");
        checkpoint("--lazy-pages").fails_saying("userfaultfd");
        assert_eq!(sb.status(&b.id), "running");
    });
}

fn saved(sb: &Sandbox) -> Bundle {
    fs::create_dir_all(images(sb)).expect("make the folder");
    fs::write(format!("{}/descriptors.json", images(sb)), r#"["pipe:[77]", "/dev/null", "/dev/null"]"#).expect("write");
    sb.bundle().sleeper()
}

#[test]
fn a_restore_that_fails_leaves_nothing() {
    case(|sb| {
        let data = sb.host_dir("data");
        let b = saved(sb).bind(&data, "/conf/x", &[]).folder("real").link("conf", "/real");
        b.write();
        let bundle = b.dir.to_str().expect("UTF-8").to_owned();
        let options = ["restore", "-d", "--bundle", &bundle, "--image-path", &images(sb)];
        let more = ["--manage-cgroups-mode", "ignore", "--lsm-profile", "apparmor:x", &b.id];
        let said = call(sb, "fails", &[&options[..], &more[..]].concat()).run().fails();
        assert!(said.contains("criu failed: type RESTORE errno 22: Error (criu/fake.c:7)"), "{said}");
        sb.call(&["state", &b.id]).run().fails_saying("does not exist");
        for mount in integration::host::cgroup_mounts() {
            assert!(!mount.join(&sb.name).join(&b.id).exists(), "{} stays", mount.display());
        }
        assert!(b.rootfs().join("real/x").is_dir(), "the mount point is made");

        let asked = asked(sb, "RESTORE");
        asks(&asked, "26 1");
        asks(&asked, "34 0");
        asks(&asked, "53 apparmor:x");
        asks(&asked, "10 restore.log");
        let has = |field: &str, parts: &[&str]| {
            let found =
                asked.iter().filter(|l| l.starts_with(field)).any(|l| parts.iter().all(|part| l.contains(part)));
            assert!(found, "{field} {parts:?} is not in {asked:#?}");
        };
        has("23 ", &["/real/x", data.to_str().expect("UTF-8")]);
        has("25 ", &[&format!("/{}", b.id)]);
        has("27 ", &["pipe:[77]"]);
        has("13 ", &[&format!("/{}", b.id)]);
    });
}

#[test]
fn images_that_are_not_there_leave_nothing() {
    case(|sb| {
        let b = sb.bundle().sleeper();
        b.write();
        let bundle = b.dir.to_str().expect("UTF-8").to_owned();
        call(sb, "fails", &["restore", "-d", "--bundle", &bundle, "--image-path", "/nonexistent", &b.id]).run().fails();
        sb.call(&["state", &b.id]).run().fails_saying("does not exist");
    });
}
