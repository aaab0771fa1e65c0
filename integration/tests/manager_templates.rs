//! Templates: built, switched, used and collected.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use integration::defined::{Defined, text};
use integration::host::{eventually, within};
use integration::requires::Need;
use integration::{Sandbox, case_with, json};

/// A source of a template: its document, and scripts by name.
fn source(sb: &Sandbox, folder: &str, document: &str, scripts: &[(&str, &str)]) -> PathBuf {
    let dir = sb.host_dir(folder);
    fs::write(dir.join("template.toml"), document).expect("write");
    fs::create_dir_all(dir.join("scripts")).expect("mkdir");
    for (name, script) in scripts {
        program(&dir.join("scripts").join(name), script);
    }
    dir
}

fn program(path: &Path, script: &str) {
    fs::write(path, format!("#!/bin/sh\n{script}\n")).expect("write");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
}

fn document(base: &Path, rest: &str) -> String {
    format!("name = \"app\"\nbase = \"{}\"\n{rest}", base.display())
}

/// The versions as `template list` has them, the current one with a star.
fn versions(d: &Defined<'_>) -> Vec<String> {
    let list = d.call(&["template", "list", "-o", "json"]).json();
    let line = |row: &integration::Value| {
        let mark = if row["current"] == json!(true) { "*" } else { "" };
        format!("{}:{}{mark}", row["name"].as_str().expect("a name"), row["version"].as_str().expect("a version"))
    };
    list.as_array().expect("a list").iter().map(line).collect()
}

#[test]
fn containers_take_the_current_version_when_they_start() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let base = d.base();
        let rest = "[defaults]\ncommand = [\"sleep\", \"1000\"]\nhostname = \"{name}.test\"\nenv = { COLOUR = \"blue\" }\n\
                    limits = { pids = 33 }\nworkdir = \"/tmp\"\n";
        let dir = source(
            sb,
            "src",
            &document(&base, rest),
            &[
                ("20-second", "cat /order > /again; echo second >> /order"),
                ("10-first", "echo first > /order; cat /dev/skep/note > /note; test $(id -u) = 0"),
            ],
        );
        fs::write(dir.join("note"), "from the folder").expect("write");
        assert_eq!(d.call(&["template", "build", text(&dir)]).ok(), "app:1");
        let web = d.name("web");
        d.create_plain(&web, "app", &["--start"]).ok();
        assert_eq!(
            sb.exec_sh(&web, "cat /order /again /note; hostname").ok(),
            format!("first\nsecond\nfirst\nfrom the folder{web}.test")
        );
        assert_eq!(
            sb.exec_sh(&web, "tr '\\0' '\\n' < /proc/1/environ | grep COLOUR; readlink /proc/1/cwd").ok(),
            "COLOUR=blue\n/tmp"
        );
        sb.cgroup_is("pids", &web, "pids.max", "33");
        // Nothing of the build is in it, and nothing that a container does.
        sb.exec_sh(&web, "echo mine > /order; rm /again").ok();
        let rootfs = d.data.join("templates/app/versions/1/rootfs");
        assert_eq!(fs::read_to_string(rootfs.join("order")).expect("read"), "first\nsecond\n");
        assert!(rootfs.join("again").exists() && !rootfs.join("dev/skep").exists());
        assert_eq!(fs::read_to_string(base.join("order")).ok(), None);

        program(&dir.join("scripts/10-first"), "echo changed > /order; echo new > /new");
        assert_eq!(d.call(&["template", "build", text(&dir), "--version", "1.1", "--no-switch"]).ok(), "app:1.1");
        d.call(&["template", "build", text(&dir), "--version", "1.1"]).fails_saying("has a version \"1.1\" already");
        assert_eq!(versions(&d), ["app:1*", "app:1.1"]);
        d.call(&["template", "switch", "app", "1.1"]).ok();
        assert_eq!(versions(&d), ["app:1", "app:1.1*"]);
        sb.exec_sh(&web, "test ! -e /new").ok();
        // What runs keeps its version, whatever is collected.
        assert_eq!(d.call(&["template", "gc"]).ok().lines().count(), 1);
        d.call(&["template", "remove", "app", "1"]).fails_saying("a running container uses version");
        let dry = d.call(&["refresh", "--all", "--dry-run", "-o", "json"]).json();
        assert_eq!(
            dry,
            json!([{ "name": web, "action": "restarted", "from": "template:app", "shadowed": ["/order"] }])
        );
        sb.exec_sh(&web, "test ! -e /new").ok();
        d.call(&["refresh", "--time", "0", &web]).ok();
        assert_eq!(sb.exec_sh(&web, "cat /new /order").ok(), "new\nmine");
        assert_eq!(d.call(&["refresh", &web, "-o", "json"]).json()[0]["action"], "current");
        let collected = d.call(&["template", "gc"]).ok();
        assert!(collected.contains("app:1") && versions(&d) == ["app:1.1*"], "{collected}");

        d.call(&["template", "remove", "app", "1.1"]).fails_saying("is the current one");
        d.call(&["template", "remove", "app"]).fails_saying("is what container");
        d.call(&["destroy", "-f", &web]).ok();
        d.call(&["template", "remove", "app"]).ok();
        assert_eq!(versions(&d), Vec::<String>::new());
    });
}

/// Killed between the end of the old run and the beginning of the new one, or while the old one ends.
#[test]
fn a_refresh_that_is_killed_is_finished_by_the_next_command() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let web = d.name("web");
        let base = d.base();
        // It takes its time to end.
        let command = ["sh", "-c", "trap 'sleep 0.3; exit 0' TERM; touch /ready; while :; do sleep 0.01; done"];
        d.create(&web, text(&base), &["--start"], &command).ok();
        let mut killed = 0;
        for round in 0..10u64 {
            eventually("it runs", || d.folder(&web).join("own/upper/ready").exists());
            fs::remove_file(d.folder(&web).join("own/upper/ready")).expect("remove");
            let before = sb.state(&web)["pid"].clone();
            let mut refresh = d.prepare(&["refresh", &web]).spawn();
            let pending = d.folder(&web).join("pending.json");
            eventually("it begins", || pending.exists());
            std::thread::sleep(Duration::from_millis(round * 50));
            killed += u32::from(!refresh.ended());
            refresh.kill();
            // A runtime that the killed command had called may still be at work.
            let said = d.call(&["ls"]).stderr_now();
            let runs = || d.listed(&web)["state"] == "running" && d.listed(&web)["pid"] != before;
            assert!(within(Duration::from_secs(20), runs), "round {round}: {said} {}", d.listed(&web));
            assert!(!pending.exists(), "round {round}");
        }
        assert!(killed > 3, "{killed} were interrupted");
        // One that cannot start stays stopped, and is not tried again by every command.
        fs::rename(base.join("bin"), base.join("nib")).expect("rename");
        d.call(&["refresh", &web]).fails_saying("does not start again");
        assert_eq!(d.call(&["ls"]).ok().matches("warning").count(), 0);
        assert_eq!(d.listed(&web)["state"], "stopped");
        d.call(&["destroy", &web]).ok();
    });
}

#[test]
fn a_build_that_fails_leaves_nothing() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let dir = source(sb, "src", &document(&d.base(), ""), &[("10", "echo told; exit 7")]);
        let said = d.call(&["template", "build", text(&dir)]).fails();
        assert!(said.contains("told") && said.contains("script 10 failed"), "{said}");
        assert_eq!(fs::read_dir(d.data.join("templates/app/versions")).expect("read").count(), 0);
        d.call(&["create", &d.name("web"), "--from", "template:app", "--", "true"]).fails_saying("no template \"app\"");
        // A good one is not hurt by a bad one after it.
        program(&dir.join("scripts/10"), "true");
        d.call(&["template", "build", text(&dir)]).ok();
        program(&dir.join("scripts/10"), "false");
        d.call(&["template", "build", text(&dir)]).fails();
        assert_eq!(versions(&d), ["app:1*"]);
        fs::set_permissions(dir.join("scripts/10"), fs::Permissions::from_mode(0o644)).expect("chmod");
        d.call(&["template", "build", text(&dir)]).fails_saying("chmod +x");
        let wrong = source(sb, "wrong", &document(Path::new("host"), "colour = 1"), &[]);
        d.call(&["template", "build", text(&wrong)]).fails_saying("unknown field");
        let host = source(sb, "host", "name = \"x\"\nbase = \"host\"", &[]);
        d.call(&["template", "build", text(&host)]).fails_saying("the host is no base");
    });
}

#[test]
fn a_build_that_is_killed_is_undone_by_the_next_command() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let dir = source(sb, "src", &document(&d.base(), ""), &[("10", "echo here > /here; sleep 1000")]);
        let mut build = d.prepare(&["template", "build", text(&dir)]).spawn();
        let unfinished = d.data.join("templates/app/versions/.1.new");
        eventually("the script runs", || unfinished.join("rootfs/here").exists());
        // While somebody builds, others leave it alone.
        d.call(&["ls"]).ok();
        assert!(unfinished.exists());
        build.kill();
        d.call(&["ls"]).ok();
        assert!(!unfinished.exists());
        let left = || sb.call(&["list", "--quiet"]).run().ok();
        assert!(within(Duration::from_secs(10), || left().is_empty()), "{}", left());
        program(&dir.join("scripts/10"), "true");
        d.call(&["template", "build", text(&dir)]).ok();
        assert_eq!(versions(&d), ["app:1*"]);
    });
}

#[test]
fn a_template_of_a_template_has_its_files_and_defaults() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let rest = "[defaults]\ncommand = [\"sleep\", \"1000\"]\nenv = { A = \"1\", B = \"1\" }\n";
        let first = source(sb, "first", &document(&d.base(), rest), &[("10", "echo first > /first")]);
        d.call(&["template", "build", text(&first)]).ok();
        let text_of = "name = \"top\"\nbase = \"template:app\"\n[defaults]\nenv = { B = \"2\" }\n[hooks]\npoststart = [\"tell\"]\n";
        let top = source(sb, "top", text_of, &[("10", "cat /first > /second")]);
        let mark = sb.dir.join("mark");
        fs::create_dir(top.join("hooks")).expect("mkdir");
        program(&top.join("hooks/tell"), &format!("cat > {}", mark.display()));
        d.call(&["template", "build", text(&top)]).ok();
        let shown = d.call(&["template", "show", "top", "-o", "json"]).json();
        assert_eq!(shown["base"], "template:app:1");
        // The base may go: a version is whole.
        d.call(&["template", "remove", "app"]).ok();
        let web = d.name("web");
        d.create_plain(&web, "top", &["--start", "--env", "C=3"]).ok();
        assert_eq!(sb.exec_sh(&web, "cat /second").ok(), "first");
        let environ = sb.exec_sh(&web, "tr '\\0' '\\n' < /proc/1/environ | grep '^[ABC]='").ok();
        assert_eq!(environ, "A=1\nB=2\nC=3");
        let state = fs::read_to_string(&mark).expect("the hook ran");
        assert!(state.contains(&web), "{state}");
        d.call(&["destroy", "-f", &web]).ok();
    });
}

/// What is below is newer than what the container made of it: it has to be told, as nobody will see the new file.
#[test]
fn files_that_hide_newer_ones_are_listed() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let base = d.base();
        for name in ["kept", "upgraded", "removed"] {
            fs::write(base.join("etc").join(name), "old").expect("write");
        }
        let web = d.name("web");
        d.create(&web, text(&base), &["--start"], &["sleep", "1000"]).ok();
        sb.exec_sh(&web, "cd /etc; echo mine > kept; echo mine > upgraded; rm removed").ok();
        // A package keeps the time that its file was made with.
        let upgraded = base.join("etc/upgraded");
        std::thread::sleep(Duration::from_millis(20));
        fs::write(base.join("etc/.upgraded.new"), "new").expect("write");
        sb.program("/usr/bin/touch").args(["-d", "2001-01-01", text(&base.join("etc/.upgraded.new"))]).run().ok();
        fs::rename(base.join("etc/.upgraded.new"), &upgraded).expect("rename");
        let dry = d.call(&["refresh", &web, "--dry-run", "-o", "json"]).json();
        assert_eq!(dry[0]["shadowed"], json!(["/etc/upgraded"]));
        assert_eq!(dry[0]["action"], "restarted");
        let pid = sb.state(&web)["pid"].clone();
        d.call(&["refresh", &web, "--time", "0"]).ok();
        assert_ne!(sb.state(&web)["pid"], pid);
        assert_eq!(sb.exec_sh(&web, "cat /etc/upgraded").ok(), "mine");
        d.call(&["stop", "--time", "0", &web]).ok();
        assert_eq!(d.call(&["refresh", &web, "-o", "json"]).json()[0]["action"], "stopped");
        d.call(&["refresh", "no-such"]).fails_saying("is not defined");
        d.call(&["destroy", &web]).ok();
    });
}
