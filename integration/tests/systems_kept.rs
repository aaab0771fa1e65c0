//! Whole systems that are copied, renamed, put aside and brought back, and waited for.

use std::fs;
use std::path::PathBuf;

use integration::defined::{Defined, text};
use integration::host::within;
use integration::net::Net;
use integration::requires::Need;
use integration::systems::roots;
use integration::{Value, case_with, json};
use std::time::Duration;

const NEEDS: [Need; 4] = [Need::Skep, Need::Systems, Need::Program("/usr/bin/nsenter"), Need::Program("/usr/sbin/nft")];

fn root(name: &str) -> PathBuf {
    roots().expect("they are needed").join(name)
}

/// A booted system with ids, terminals, an address, a place in the order of the boot, and files of its own.
#[test]
fn a_copy_of_a_system_is_another_one_and_a_renamed_one_the_same() {
    case_with(&NEEDS, |sb| {
        let net = Net::new(sb);
        let d = Defined::within(sb, &net);
        let (first, copy, after) = (d.name("first"), d.name("copy"), d.name("after"));
        let network = format!("n{}", first.replace('-', "").chars().rev().take(8).collect::<String>());
        d.call(&["network", "create", &network, "--subnet", "10.93.7.0/24"]).ok();
        let root = root("busybox");
        let options =
            ["--init", "--network", &network, "--ttys", "1", "--autostart", "--order", "3", "--memory", "64M"];
        d.create_plain(&first, text(&root), &options).ok();
        d.create_plain(&after, text(&root), &["--init", "--autostart", "--order", "4", "--after", &first]).ok();
        d.call(&["start", &first]).ok();
        d.call(&["wait", &first, "ready", "--time", "60"]).ok();
        // What its own programs made of its number, and a file.
        sb.exec_sh(
            &first,
            "mkdir -p /var/lib/dbus /root; cp /etc/machine-id /var/lib/dbus/machine-id; echo one >/root/file",
        )
        .ok();
        d.call(&["snapshot", &first, "before"]).ok();
        sb.exec_sh(&first, "echo two >/root/file").ok();

        // Of one that runs.
        d.call(&["copy", &first, &copy]).ok();
        let (one, other) = (d.definition(&first), d.definition(&copy));
        assert_ne!(one["ids"], other["ids"]);
        assert_ne!(one["system"]["machine_id"], other["system"]["machine_id"]);
        assert_eq!((&one["system"]["ttys"], &one["autostart"]), (&other["system"]["ttys"], &other["autostart"]));
        d.call(&["start", &copy]).ok();
        d.call(&["wait", &copy, "ready", "--time", "60"]).ok();
        let ask = |name: &str, script: &str| sb.exec_sh(name, script).ok();
        let ids = "cat /etc/machine-id /var/lib/dbus/machine-id | uniq";
        let mac = "cat /sys/class/net/eth0/address";
        for script in [ids, mac, "hostname", "ip -4 -o addr show eth0 || busybox ip -4 addr show eth0"] {
            assert_ne!(ask(&first, script), ask(&copy, script), "{script}");
        }
        assert_eq!(ask(&copy, ids), other["system"]["machine_id"].as_str().expect("text"));
        assert_eq!(ask(&copy, "cat /root/file"), "two");
        let address = |name: &str| d.listed(name)["ipv4"][0].as_str().expect("an address").to_owned();
        for name in [&first, &copy] {
            let hosts = ask(name, "cat /etc/hosts");
            assert!(
                hosts.lines().any(|line| line.starts_with(&address(name)) && line.contains(name.as_str())),
                "{hosts}"
            );
            assert_eq!(ask(name, "hostname"), *name);
        }
        d.call(&["stop", "--time", "30", &copy]).ok();
        d.call(&["destroy", &copy]).ok();

        // A way back, and another name.
        d.call(&["stop", "--time", "30", &first]).ok();
        d.call(&["restore", &first, "before"]).ok();
        let (lease, id) = (address(&first), ask_definition(&d, &first));
        let renamed = d.name("renamed");
        d.call(&["rename", &first, &renamed]).ok();
        assert_eq!((address(&renamed), ask_definition(&d, &renamed)), (lease, id));
        assert_eq!(d.definition(&after)["autostart"]["after"], json!([renamed]));
        let waves = d.call(&["autostart", "--list", "--json"]).json();
        assert_eq!(waves.as_array().expect("a list").iter().filter(|row| row["name"] == json!(renamed)).count(), 1);
        d.call(&["start", &renamed]).ok();
        d.call(&["wait", &renamed, "ready", "--time", "60"]).ok();
        assert_eq!(ask(&renamed, "cat /root/file; hostname"), format!("one\n{renamed}"));
        let hosts = ask(&renamed, "cat /etc/hosts");
        assert!(hosts.contains(&renamed) && !hosts.contains(&first), "{hosts}");
        d.call(&["stop", "--time", "30", &renamed]).ok();
        d.call(&["destroy", &renamed, &after]).ok();
        d.call(&["network", "remove", &network]).ok();
    });
}

/// What a copy of it shares and what not.
fn ask_definition(d: &Defined<'_>, name: &str) -> (Value, Value) {
    let definition = d.definition(name);
    (definition["ids"].clone(), definition["system"]["machine_id"].clone())
}

/// Ids that were named are those of one container, too.
#[test]
fn a_copy_of_a_program_has_ids_of_its_own() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let (one, other) = (d.name("one"), d.name("other"));
        d.create(&one, text(&d.base()), &["--ids", "300000:65536"], &["sleep", "1000"]).ok();
        d.call(&["copy", &one, &other]).ok();
        assert_ne!(d.definition(&one)["ids"], d.definition(&other)["ids"]);
        assert!(d.definition(&other)["ids"].is_array());
        d.call(&["start", &one, &other]).ok();
        assert_eq!(sb.exec_sh(&other, "stat -c %u /bin/busybox").ok(), "0");
        d.call(&["destroy", "-f", &one, &other]).ok();
    });
}

#[test]
fn every_state_can_be_waited_for() {
    case_with(&[Need::Skep], |sb| {
        let (d, name) = (Defined::new(sb), Defined::new(sb).name("a"));
        let options = ["--restart", "always", "--autostart", "--ready", "exec:test -e /ready"];
        d.create(&name, text(&d.base()), &options, &["sleep", "1000"]).ok();
        let wait = |state: &str, seconds: &str| d.call(&["wait", &name, state, "--time", seconds]).code;
        for state in ["running", "paused", "ready", "restarting"] {
            assert_eq!(wait(state, "0"), 1, "{state} of one that is stopped");
        }
        d.call(&["start", &name]).ok();
        assert_eq!((wait("running", "5"), wait("ready", "1"), wait("stopped", "0")), (0, 1, 1));
        let ready = d.prepare(&["wait", &name, "ready"]).spawn();
        sb.exec_sh(&name, ": >/ready").ok();
        ready.wait(Duration::from_secs(10)).ok();
        let paused = d.prepare(&["wait", &name, "paused"]).spawn();
        d.call(&["freeze", &name]).ok();
        paused.wait(Duration::from_secs(10)).ok();
        assert_eq!((wait("frozen", "0"), wait("RUNNING", "0")), (0, 0));
        d.call(&["unfreeze", &name]).ok();
        let restarting = d.prepare(&["wait", &name, "restarting"]).spawn();
        sb.call(&["kill", &name, "KILL"]).run().ok();
        restarting.wait(Duration::from_secs(10)).ok();
        d.call(&["destroy", "-f", &name]).ok();
    });
}

/// A system with systemd is ready when no job of its boot is left.
#[test]
fn systemd_says_when_it_is_ready() {
    case_with(&[Need::Skep, Need::Systems], |sb| {
        let (d, name) = (Defined::new(sb), Defined::new(sb).name("a"));
        d.create_plain(&name, text(&root("systemd")), &["--init"]).ok();
        d.call(&["start", &name]).ok();
        assert_eq!(d.call(&["wait", &name, "ready", "--time", "0"]).code, 1, "it has hardly begun");
        d.call(&["wait", &name, "ready", "--time", "60"]).ok();
        let state = sb.exec_with(&name, &[], &["systemctl", "is-system-running"]);
        assert_eq!(state.stdout.trim(), "running");
        d.call(&["stop", "--time", "60", &name]).ok();
        assert!(within(Duration::from_secs(1), || d.listed(&name)["state"] == "stopped"));
        assert!(fs::read_to_string(d.folder(&name).join("own/last.json")).expect("read").contains("halted"));
    });
}
