//! What is changed in containers, and seen of them, while they run: mounts, devices, links, files of groups, states.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::Duration;

use integration::defined::{Defined, text};
use integration::host::{eventually, own_mounts};
use integration::net::Net;
use integration::requires::Need;
use integration::{Sandbox, Value, case_with, json};

const SLEEP: [&str; 3] = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"];

/// Nothing is left of any container.
#[track_caller]
fn is_clean(sb: &Sandbox, d: &Defined<'_>) {
    assert_eq!(d.call(&["ls", "-q"]).ok(), "");
    let left: Vec<String> =
        own_mounts().into_iter().map(|mount| mount.target).filter(|target| target.starts_with(text(&sb.dir))).collect();
    assert_eq!(left, [""; 0]);
    assert_eq!(sb.call(&["list", "-q"]).run().ok(), "");
}

/// A container with a user namespace and one without.
const KINDS: [(&str, &[&str]); 2] = [("plain", &[]), ("mapped", &["--ids", "300000:65536"])];

#[test]
fn mounts_come_and_go_while_a_container_runs() {
    case_with(&[Need::Skep], |sb| {
        let (d, shared) = (Defined::new(sb), sb.host_dir("shared"));
        fs::write(shared.join("file"), "of the host").expect("write");
        let (folder, file) = (text(&shared), shared.join("file"));
        for (kind, options) in KINDS {
            let name = d.name(kind);
            d.create(&name, text(&d.base()), options, &SLEEP).ok();
            d.call(&["start", &name]).ok();
            let added = d.call(&["mount", "add", &name, folder, "/new/deep", "--json"]).json();
            assert_eq!((&added["active"], &added["saved"]), (&json!(true), &json!(false)));
            // Owners are the container's in both: what it makes is root's on the host too.
            let script = "cat /new/deep/file; echo mine > /new/deep/made; stat -c %u /new/deep/file";
            assert_eq!(sb.exec_sh(&name, script).ok(), "of the host0");
            let made = fs::metadata(shared.join("made")).expect("made");
            assert_eq!((made.uid(), made.gid()), (0, 0), "{kind}");
            fs::remove_file(shared.join("made")).expect("remove");

            d.call(&["mount", "add", &name, text(&file), "/etc/one", "-r", "--save"]).ok();
            assert_eq!(
                sb.exec_sh(&name, "cat /etc/one; echo no > /etc/one || echo refused").ok(),
                "of the hostrefused"
            );
            let listed = d.call(&["mount", "ls", &name, "--json"]).json();
            let targets: Vec<&Value> = listed.as_array().expect("a list").iter().map(|row| &row["target"]).collect();
            assert_eq!(targets, ["/etc/one", "/new/deep"]);
            d.call(&["mount", "add", &name, folder, "/new//deep/"]).fails_saying("already");

            d.call(&["mount", "del", &name, folder, "/new/deep"]).ok();
            assert_eq!(sb.exec_sh(&name, "ls /new/deep").ok(), "");
            d.call(&["mount", "del", &name, "/new/deep"]).fails_saying("has nothing of the host on /new/deep");
            d.call(&["mount", "del", &name, "/proc"]).fails_saying("has nothing of the host");

            d.call(&["mount", "add", &name, folder, "/passing"]).ok();
            d.call(&["restart", "-t", "0", &name]).ok();
            let script = "ls /passing; cat /etc/one; echo no > /etc/one || echo refused; stat -c %u /etc/one";
            assert_eq!(
                sb.exec_sh(&name, script).ok(),
                "of the hostrefused\n0",
                "{kind}: what was saved is there again"
            );
            d.call(&["mount", "del", &name, "/etc/one"]).ok();
            d.call(&["restart", "-t", "0", &name]).ok();
            assert_eq!(sb.exec_sh(&name, "cat /etc/one").ok(), "of the host");
            d.call(&["mount", "del", &name, "/etc/one", "--save"]).ok();
            d.call(&["stop", "-t", "0", &name]).ok();
            assert_eq!(d.call(&["mount", "ls", &name, "--json"]).json(), json!([]));

            // A stopped one gets it with its next start.
            d.call(&["mount", "add", &name, folder, "/later"]).ok();
            d.call(&["start", &name]).ok();
            assert_eq!(sb.exec_sh(&name, "cat /later/file").ok(), "of the host");
            d.call(&["stop", "-t", "0", &name]).ok();
            d.call(&["mount", "del", &name, "/later"]).ok();
            d.call(&["destroy", &name]).ok();
            is_clean(sb, &d);
        }
    });
}

/// The container's own mounts are not taken for those that it was given.
#[test]
fn a_mount_of_the_container_s_own_stays() {
    case_with(&[Need::Skep], |sb| {
        let (d, shared, name) = (Defined::new(sb), sb.host_dir("shared"), Defined::new(sb).name("a"));
        fs::write(shared.join("file"), "of the host").expect("write");
        let (folder, file) = (text(&shared), shared.join("file"));
        let volume = format!("{folder}:/defined");
        let options = ["--volume", &volume, "--seccomp", "unconfined", "--start"];
        d.create(&name, text(&d.base()), &options, &SLEEP).ok();
        let busybox = |args: &[&str]| sb.exec_with(&name, &["--cap", "CAP_SYS_ADMIN"], &[&["busybox"], args].concat());
        let active = |target: &str| {
            let rows = d.call(&["mount", "ls", &name, "--json"]).json();
            let row = rows.as_array().expect("a list").iter().find(|row| row["target"] == target).cloned();
            row.map(|row| row["active"] == true)
        };
        sb.exec_sh(&name, "ln -s /real /link").ok();
        d.call(&["mount", "add", &name, folder, "/hot"]).ok();
        d.call(&["mount", "add", &name, folder, "/link"]).ok();
        d.call(&["mount", "add", &name, text(&file), "/one"]).ok();
        for target in ["/hot", "/link", "/defined"] {
            busybox(&["mount", "-t", "tmpfs", "own", target]).ok();
            sb.exec_sh(&name, &format!("echo own > {target}/mine")).ok();
            d.call(&["mount", "del", &name, target]).fails_saying("has mounted something of its own over");
            assert_eq!(sb.exec_sh(&name, &format!("cat {target}/mine")).ok(), "own", "{target} stays");
            assert_eq!(active(target), Some(true), "{target}");
            busybox(&["umount", target]).ok();
            d.call(&["mount", "del", &name, target]).ok();
            assert_eq!(sb.exec_sh(&name, &format!("ls {target}")).ok(), "", "{target}");
        }
        // The same files, which the container has mounted a second time.
        busybox(&["mount", "--bind", "/one", "/one"]).ok();
        d.call(&["mount", "del", &name, "/one"]).fails_saying("has mounted something of its own over");
        busybox(&["umount", "/one"]).ok();
        // It took away itself what it was given, and has something else there.
        busybox(&["umount", "/one"]).ok();
        busybox(&["mount", "-t", "tmpfs", "own", "/real"]).ok();
        assert_eq!(active("/one"), Some(false));
        d.call(&["mount", "del", &name, "/one"]).ok();

        // A defined one that is away is listed so, comes back by the same words, and not as a double.
        assert_eq!((active("/hot"), active("/defined")), (None, Some(false)));
        d.call(&["mount", "del", &name, "/defined"]).fails_saying("was taken away from container");
        d.call(&["mount", "add", &name, text(&file), "/defined", "--save"]).fails_saying("mount del --save");
        d.call(&["mount", "add", &name, folder, "/defined", "--host-owners"]).ok();
        assert_eq!(
            (sb.exec_sh(&name, "cat /defined/file").ok().as_str(), active("/defined")),
            ("of the host", Some(true))
        );
        assert_eq!(d.definition(&name)["volumes"].as_array().map(Vec::len), Some(1));
        d.call(&["mount", "del", &name, "/defined"]).ok();
        d.call(&["restart", "-t", "0", &name]).ok();
        assert_eq!(active("/defined"), Some(true), "it is there with each start");
        d.call(&["destroy", "-f", &name]).ok();
        is_clean(sb, &d);
    });
}

/// What fails on the way leaves nothing of a device, and one that is taken away is not listed as there.
#[test]
fn a_device_that_cannot_be_kept_is_not_left_behind() {
    case_with(&[Need::Skep, Need::Program("/usr/bin/mount")], |sb| {
        let d = Defined::new(sb);
        for (kind, options) in KINDS {
            let name = d.name(kind);
            let options = [options, &["--device", "/dev/zero:/dev/defined", "--start"]].concat();
            d.create(&name, text(&d.base()), &options, &SLEEP).ok();
            let document = d.folder(&name).join("definition.toml");
            // Nothing can be renamed over what is mounted.
            sb.program("/usr/bin/mount").args(["--bind", text(&document), text(&document)]).run().ok();
            let added = d.call(&["device", "add", &name, "/dev/fuse", "--save"]);
            sb.program("/usr/bin/umount").args([text(&document)]).run().ok();
            added.fails_saying("definition.toml");
            assert_eq!(sb.exec_sh(&name, "test -e /dev/fuse || echo gone").ok(), "gone", "{kind}");
            let active = || {
                let rows = d.call(&["device", "ls", &name, "--json"]).json();
                rows.as_array().expect("a list").iter().map(|row| row["active"] == true).collect::<Vec<_>>()
            };
            assert_eq!(active(), [true]);
            d.call(&["device", "del", &name, "/dev/defined"]).ok();
            assert_eq!(active(), [false], "{kind}");
            d.call(&["device", "del", &name, "/dev/defined"]).fails_saying("was taken away from container");
            d.call(&["device", "add", &name, "/dev/zero", "/dev/defined"]).ok();
            assert_eq!(active(), [true], "{kind}");
            assert_eq!(sb.exec_sh(&name, "head -c 3 /dev/defined | wc -c").ok(), "3");
            d.call(&["destroy", "-f", &name]).ok();
            is_clean(sb, &d);
        }
    });
}

/// A verb that saves says what the next start would, in the words of checkconfig, and only of what it changes.
#[test]
fn nothing_is_saved_that_the_next_start_refuses() {
    case_with(&[Need::Skep], |sb| {
        let (d, name) = (Defined::new(sb), Defined::new(sb).name("a"));
        d.create(&name, text(&d.base()), &["--no-monitor"], &SLEEP).ok();
        let before = d.definition(&name);
        for (words, said) in [
            (&["config", "set", &name, "restart=always"][..], "monitor: the monitor holds a terminal"),
            (&["config", "set", &name, "command=[\"\"]"], "process.args: there is nothing to run"),
            (&["cgroup", "set", &name, "cpu.max", "500 100000", "--save"], "limits.millicpus: 5: want 10 to"),
            (&["cgroup", "set", &name, "pids.max", "0", "--save"], "limits.pids: 0: want 1 to"),
        ] {
            d.call(words).fails_saying(said);
            assert_eq!(d.definition(&name), before, "{words:?}");
        }
        for (script, said) in [
            ("sed -i 's/kind = \"none\"/kind = \"managed\"\\nname = \"none-such\"/'", "none-such"),
            ("sed -i '1i storage = \"copy\"'", "storage: it is not changed once it is defined"),
            ("sh -c 'printf \"[oci.process]\\noomScoreAdj = 5000\\n\" >>$0'", "oci: process.oomScoreAdj"),
        ] {
            d.edit(&name, script).fails_saying(said);
            assert_eq!(d.definition(&name), before, "{script}");
        }
        // What start refuses, checkconfig tells.
        let mut odd = before.clone();
        odd["oci"] = json!({ "process": { "oomScoreAdj": 5000 } });
        d.write_definition(&name, &odd);
        d.call(&["start", &name]).fails_saying("oci: process.oomScoreAdj");
        let told = d.call(&["checkconfig", &name]);
        assert!(told.code == 1 && told.stdout.contains("oci: process.oomScoreAdj"), "{told:?}");
        // Another change goes on, and mends nothing.
        d.call(&["config", "set", &name, "pids=30"]).ok();
        d.edit(&name, "sed -i 's/pids = 30/pids = 31/'").ok();
        d.edit(&name, "sed -i 's/pids = 31/pids = 0/'").fails_saying("limits.pids: 0: want 1 to");
        assert_eq!(d.definition(&name)["limits"]["pids"], json!(31));
        d.write_definition(&name, &before);
        d.call(&["start", &name]).ok();

        // A path of a device may have a colon, as those by the place of a disk have.
        let place = sb.dir.join("pci-0000:00:1f.2");
        symlink("/dev/zero", &place).expect("link");
        d.call(&["device", "add", &name, text(&place), "/dev/a:b", "--save"]).ok();
        d.call(&["restart", "-t", "0", &name]).ok();
        assert_eq!(sb.exec_sh(&name, "head -c 3 /dev/a:b | wc -c").ok(), "3");
        d.call(&["destroy", "-f", &name]).ok();
        is_clean(sb, &d);
    });
}

#[test]
fn the_place_of_a_mount_is_below_the_root_of_the_container() {
    case_with(&[Need::Skep], |sb| {
        let (d, shared, outside) = (Defined::new(sb), sb.host_dir("shared"), sb.host_dir("outside"));
        fs::write(shared.join("file"), "of the host").expect("write");
        let (base, name) = (d.base(), d.name("a"));
        symlink(&outside, base.join("absolute")).expect("link");
        symlink("../../../../../../../../..", base.join("up")).expect("link");
        symlink("/proc/1/root", base.join("magic")).expect("link");
        d.create(&name, text(&base), &[], &SLEEP).ok();
        d.call(&["start", &name]).ok();
        d.call(&["mount", "add", &name, text(&shared), "/absolute/x"]).ok();
        assert_eq!(fs::read_dir(&outside).expect("read").count(), 0, "a link leads nowhere outside");
        assert_eq!(sb.exec_sh(&name, &format!("cat {}/x/file", outside.display())).ok(), "of the host");
        d.call(&["mount", "add", &name, text(&shared), "/up/top"]).ok();
        assert_eq!(sb.exec_sh(&name, "cat /top/file").ok(), "of the host");
        let top = std::path::Path::new("/top");
        assert!(!top.exists(), "{}", top.display());
        d.call(&["mount", "add", &name, text(&shared), "/magic/x"]).fails_saying("/magic/x in container");

        for (words, said) in [
            (["mount", "add", &name, text(&shared), "relative"], "must be an absolute path"),
            (["mount", "add", &name, text(&shared), "/a/../.."], "have no \"..\""),
            (["mount", "add", &name, text(&shared), "/"], "must lie below /"),
            (["mount", "add", &name, "/no/such", "/x"], "cannot use /no/such"),
            (["mount", "add", "nobody", text(&shared), "/x"], "is not defined"),
            (["mount", "add", &name, text(&shared.join("file")), "/etc"], "/etc"),
        ] {
            d.call(&words).fails_saying(said);
        }
        d.call(&["destroy", "-f", &name]).ok();
        is_clean(sb, &d);
    });
}

/// What is shown read-only stays so for root of a user namespace too, who may mount.
#[test]
fn a_mount_that_is_read_only_cannot_be_made_writable_inside() {
    case_with(&[Need::Skep], |sb| {
        let (d, shared, name) = (Defined::new(sb), sb.host_dir("shared"), Defined::new(sb).name("a"));
        fs::write(shared.join("file"), "of the host").expect("write");
        let options = ["--ids", "300000:65536", "--seccomp", "unconfined", "--start"];
        d.create(&name, text(&d.base()), &options, &SLEEP).ok();
        let admin = |args: &[&str]| sb.exec_with(&name, &["--cap", "CAP_SYS_ADMIN"], &[&["busybox"], args].concat());
        for (source, target) in [(text(&shared), "/folder"), (text(&shared.join("file")), "/one")] {
            d.call(&["mount", "add", &name, source, target, "--read-only"]).ok();
            admin(&["mount", "-o", "remount,bind,rw", target]).fails();
            assert_eq!(sb.exec_sh(&name, &format!("grep -c ' {target} ro' /proc/self/mountinfo")).ok(), "1");
            admin(&["umount", target]).ok();
            d.call(&["mount", "del", &name, target]).ok();
        }
        // One that may be written is not locked up: the same calls work there.
        d.call(&["mount", "add", &name, text(&shared), "/folder"]).ok();
        admin(&["mount", "-o", "remount,bind,ro", "/folder"]).ok();
        admin(&["mount", "-o", "remount,bind,rw", "/folder"]).ok();
        d.call(&["destroy", "-f", &name]).ok();
        is_clean(sb, &d);
    });
}

/// Opens a device by its number, without its node.
const OPEN_ANOTHER: &str =
    "mknod /tmp/other c 10 229; (: < /tmp/other) 2>/dev/null && echo open || echo shut; rm /tmp/other";

#[test]
fn a_device_is_there_with_its_rule_and_goes_with_it() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        for (kind, options) in KINDS {
            let name = d.name(kind);
            d.create(&name, text(&d.base()), options, &SLEEP).ok();
            d.call(&["start", &name]).ok();
            let can_make = kind == "plain";
            let is_open =
                || sb.exec_sh(&name, "mkdir -p /tmp; (: < /dev/fuse) 2>/dev/null && echo open || echo shut").ok();
            if can_make {
                assert_eq!(sb.exec_sh(&name, &format!("mkdir -p /tmp; {OPEN_ANOTHER}")).ok(), "shut");
            }
            let added = d.call(&["device", "add", &name, "/dev/fuse", "--json"]).json();
            assert_eq!((&added["kind"], &added["access"]), (&json!("device"), &json!("rwm")));
            assert_eq!(is_open(), "open", "{kind}");
            assert_eq!(sb.exec_sh(&name, "stat -c '%a %u %g' /dev/fuse").ok(), "660 0 0");
            if can_make {
                assert_eq!(sb.exec_sh(&name, OPEN_ANOTHER).ok(), "open");
            }
            d.call(&["device", "add", &name, "/dev/fuse"]).fails_saying("already");
            d.call(&["device", "add", &name, "/dev/zero", "/opt/nothing", "--access", "r", "--save"]).ok();
            assert_eq!(sb.exec_sh(&name, "head -c 3 /opt/nothing | wc -c").ok(), "3");
            let listed = d.call(&["device", "ls", &name, "--json"]).json();
            assert_eq!(listed.as_array().expect("a list").len(), 2);

            d.call(&["device", "del", &name, "/dev/fuse"]).ok();
            assert_eq!(sb.exec_sh(&name, "test -e /dev/fuse || echo gone").ok(), "gone");
            if can_make {
                assert_eq!(sb.exec_sh(&name, OPEN_ANOTHER).ok(), "shut");
            }
            assert_eq!(sb.exec_sh(&name, "head -c 3 /opt/nothing | wc -c").ok(), "3", "others stay as they are");
            d.call(&["device", "del", &name, "/dev/fuse"]).fails_saying("has no device of the host on /dev/fuse");
            d.call(&["device", "add", &name, "/dev/fuse"]).ok();
            d.call(&["restart", "-t", "0", &name]).ok();
            assert_eq!(is_open(), "shut", "{kind}: it was not saved");
            let is_saved = "test -c /opt/nothing || test -c /dev/fuse || echo none";
            if kind == "plain" {
                assert_eq!(sb.exec_sh(&name, &format!("head -c 3 /opt/nothing | wc -c; {is_saved}")).ok(), "3");
            }
            d.call(&["stop", "-t", "0", &name]).ok();
            d.call(&["device", "del", &name, "/opt/nothing"]).ok();
            d.call(&["device", "add", &name, "/dev/fuse"]).ok();
            d.call(&["start", &name]).ok();
            assert_eq!(is_open(), "open", "{kind}: a stopped one has it with its next start");
            d.call(&["device", "del", &name, "/dev/fuse"]).ok();
            assert_eq!(is_open(), "shut", "{kind}");
            for (words, said) in [
                (vec!["/no/such"], "cannot use the device /no/such"),
                (vec!["/etc/passwd"], "it is no device"),
                (vec!["/dev/full", "x"], "must be an absolute path"),
                (vec!["/dev/full", "/dev/full", "--access", "x"], "want some of r, w and m"),
            ] {
                d.call(&[&["device", "add", &name], &words[..]].concat()).fails_saying(said);
            }
            d.call(&["destroy", "-f", &name]).ok();
            is_clean(sb, &d);
        }
    });
}

#[test]
fn a_link_of_the_host_goes_in_and_comes_back() {
    let needs = [Need::Skep, Need::Program("/usr/bin/nsenter"), Need::Program("/usr/sbin/ip")];
    case_with(&needs, |sb| {
        let net = Net::new(sb);
        let (d, name) = (Defined::within(sb, &net), Defined::new(sb).name("a"));
        net.ip("link add wan type veth peer name wan2");
        net.ip("addr add 10.35.0.1/24 dev wan");
        net.ip("link set wan up");
        let devices = net.names();
        let is_back = || net.names() == devices && net.ip("addr show wan").contains("10.35.0.1/24");
        d.create(&name, text(&d.base()), &[], &SLEEP).ok();
        d.call(&["start", &name]).ok();
        d.call(&["device", "add", &name, "no0"]).fails_saying("no0");
        d.call(&["device", "add", &name, "wan", "up/link"]).fails();
        let added = d.call(&["device", "add", &name, "wan", "inside", "--json"]).json();
        assert_eq!((&added["kind"], &added["inside"]), (&json!("link"), &json!("inside")));
        assert!(sb.exec(&name, &["busybox", "ip", "addr", "show", "inside"]).ok().contains("10.35.0.1/24"));
        assert!(!net.names().contains(&"wan".to_owned()));
        d.call(&["device", "del", &name, "wan"]).fails_saying("no link of the host called \"wan\"");
        d.call(&["device", "del", &name, "inside"]).ok();
        assert!(is_back());

        // Whatever ends the container, the link is not lost with its namespace.
        for end in ["stop", "crash"] {
            d.call(&["device", "add", &name, "wan"]).ok();
            if end == "stop" {
                d.call(&["stop", "-t", "0", &name]).ok();
            } else {
                sb.call(&["kill", &name, "KILL"]).run().ok();
                eventually("it is dead", || d.listed(&name)["state"] == "stopped");
            }
            eventually("the link is back", is_back);
            d.call(&["start", &name]).ok();
        }
        d.call(&["device", "add", &name, "wan", "--save"]).ok();
        d.call(&["restart", "-t", "0", &name]).ok();
        assert!(sb.exec(&name, &["busybox", "ip", "link"]).ok().contains("wan"), "it was saved");
        d.call(&["device", "del", &name, "wan"]).fails_saying("came with the start");
        d.call(&["device", "del", &name, "wan", "--save"]).ok();
        d.call(&["destroy", "-f", &name]).ok();
        eventually("the link is back", is_back);
        is_clean(sb, &d);
    });
}

#[test]
fn files_of_a_group_are_read_and_written_by_their_names() {
    case_with(&[Need::Skep], |sb| {
        let (d, name) = (Defined::new(sb), Defined::new(sb).name("a"));
        d.create(&name, text(&d.base()), &[], &SLEEP).ok();
        let get = |key: &str| d.call(&["cgroup", "get", &name, key]);
        let set = |words: &[&str]| d.call(&[&["cgroup", "set", &name], words].concat());
        get("pids.max").fails_saying("does not run");
        set(&["pids.max", "30"]).fails_saying("--save keeps a limit for its next start");
        set(&["pids.max", "30", "--save"]).ok();
        d.call(&["start", &name]).ok();
        assert_eq!(get("pids.max").ok(), "30");
        set(&["pids.max", "40"]).ok();
        assert_eq!(d.call(&["cgroup", "get", &name, "pids.max", "--json"]).json()["value"], "40");
        // A weight has other names in the two versions.
        let (weight, value) = if get("cpu.weight").code == 0 { ("cpu.weight", "50") } else { ("cpu.shares", "512") };
        set(&[weight, value, "--save"]).ok();
        for key in ["../pids.max", "a/b.c", "tasks", ".hidden", "pids..max", ""] {
            get(key).fails_saying("is no file of a group");
            set(&[key, "1"]).fails_saying("is no file of a group");
        }
        get("no.such").fails_saying("has a file no.such");
        set(&["pids.max", "many"]).fails_saying("cannot set pids.max");
        set(&["memory.stat", "1", "--save"]).fails_saying("memory.stat");
        d.call(&["restart", "-t", "0", &name]).ok();
        assert_eq!((get("pids.max").ok(), get(weight).ok()), ("30".to_owned(), value.to_owned()));
        assert_eq!(d.call(&["config", "get", &name, "pids", "--json"]).json(), json!(30));
        set(&["pids.max", "max", "--save"]).ok();
        assert_eq!(d.call(&["config", "get", &name, "pids", "--json"]).json(), json!(null));
        d.call(&["destroy", "-f", &name]).ok();
        is_clean(sb, &d);
    });
}

#[test]
fn changes_of_states_are_told_as_they_happen() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let (web, other) = (d.name("web"), d.name("other"));
        let glob = format!("{}*", &web[..web.len() - 1]);
        let all = d.prepare(&["monitor"]).spawn();
        let one = d.prepare(&["monitor", &glob, "--json", "--initial"]).spawn();
        for name in [&web, &other] {
            d.create(name, text(&d.base()), &[], &["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done"]).ok();
        }
        // Both have seen it: a state that ends before one of them looks is left out.
        let told = |word: &str| {
            let said = all.stdout().lines().filter(|line| line.starts_with(&format!("{web} {word}"))).count();
            let state = format!("\"state\":\"{word}\"");
            said.min(one.stdout().lines().filter(|line| line.contains(&state)).count())
        };
        eventually("the definition is told", || told("stopped") == 1);
        d.call(&["start", &web]).ok();
        d.call(&["start", &other]).ok();
        eventually("the start is told", || told("running") == 1);
        d.call(&["freeze", &web]).ok();
        eventually("the freeze is told", || told("paused") == 1);
        d.call(&["unfreeze", &web]).ok();
        eventually("that it goes on is told", || told("running") == 2);
        // By the runtime's own verbs too, of which the manager knows nothing.
        sb.call(&["pause", &web]).run().ok();
        eventually("the pause is told", || told("paused") == 2);
        sb.call(&["resume", &web]).run().ok();
        eventually("the resume is told", || told("running") == 3);
        sb.call(&["kill", &web, "KILL"]).run().ok();
        eventually("the death is told", || told("stopped") == 2);
        d.call(&["destroy", "-f", &web, &other]).ok();
        eventually("the removal is told", || told("destroyed") == 1);

        let lines: Vec<Value> = one.stdout().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert!(lines.iter().all(|line| line["name"] == json!(web)), "{lines:?}");
        let states: Vec<&Value> = lines.iter().map(|line| &line["state"]).collect();
        assert_eq!(states, ["stopped", "running", "paused", "running", "paused", "running", "stopped", "destroyed"]);
        assert!(lines[1]["pid"].is_u64() && lines[6]["pid"].is_null());
        for running in [all, one] {
            rustix::process::kill_process(
                rustix::process::Pid::from_raw(running.pid()).expect("a pid"),
                rustix::process::Signal::INT,
            )
            .expect("kill");
            running.wait(Duration::from_secs(10)).ok();
        }
        d.call(&["monitor", "--regex", "("]).fails_saying("is no regular expression");
        is_clean(sb, &d);
    });
}

/// Whoever waits for changes uses no processor meanwhile.
#[test]
fn waiting_for_changes_costs_nothing() {
    case_with(&[Need::Skep], |sb| {
        let (d, name) = (Defined::new(sb), Defined::new(sb).name("a"));
        d.create(&name, text(&d.base()), &["--start"], &SLEEP).ok();
        let monitor = d.prepare(&["monitor", "--initial"]).spawn();
        eventually("it has looked", || monitor.stdout().contains("running"));
        let switches = || {
            let status = fs::read_to_string(format!("/proc/{}/status", monitor.pid())).expect("proc");
            status.lines().find(|line| line.starts_with("voluntary_ctxt_switches:")).expect("a line").to_owned()
        };
        eventually("a second goes by in which it is not woken", || {
            let before = switches();
            std::thread::sleep(Duration::from_secs(1));
            switches() == before
        });
        drop(monitor);
        d.call(&["destroy", "-f", &name]).ok();
    });
}
