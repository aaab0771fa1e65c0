//! Links and CNI networks of defined containers, in a network namespace that stands for the host.

use std::time::Duration;

use integration::defined::{Defined, text};
use integration::host::eventually;
use integration::net::Net;
use integration::requires::Need;
use integration::{Sandbox, Value, case_with, json};

fn with_net(body: impl FnOnce(&Sandbox, &Net<'_>, &Defined<'_>)) {
    let needs = [Need::Skep, Need::Program("/usr/bin/nsenter"), Need::Program("/usr/sbin/ip")];
    case_with(&needs, |sb| {
        let net = Net::new(sb);
        body(sb, &net, &Defined::within(sb, &net));
    });
}

const SLEEP: [&str; 2] = ["sleep", "1000"];

/// Nothing is left of a container: devices are those of before, and no namespace is held.
#[track_caller]
fn is_clean(sb: &Sandbox, net: &Net<'_>, devices: &[String]) {
    eventually("its links are gone", || net.names() == devices);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("proc");
    assert!(!mounts.contains(text(&sb.dir)), "a mount is left:\n{mounts}");
    assert_eq!(sb.call(&["list", "-q"]).run().ok(), "");
}

#[test]
fn a_container_has_links_of_every_kind_until_it_stops() {
    with_net(|sb, net, d| {
        net.ip("link add br0 type bridge");
        net.ip("addr add 10.30.0.1/24 dev br0");
        net.ip("addr add fd00:30::1/64 dev br0 nodad");
        net.ip("link set br0 up");
        net.ip("link add lan type veth peer name lan2");
        net.ip("link set lan up");
        net.ip("link add wan type veth peer name wan2");
        net.ip("addr add 10.33.0.1/24 dev wan");
        net.ip("link set wan up");
        let devices = net.names();
        let (a, base) = (d.name("a"), d.base());
        let links = [
            "veth:bridge=br0,address=10.30.0.2/24,address=fd00:30::2/64,gateway=10.30.0.1,mtu=1400,\
             mac=02:00:00:00:00:07,egress=10mbit,ingress=20mbit,route=10.39.0.0/16 via 10.30.0.1",
            "veth:mode=routed,name=routed,address=10.31.0.2/32,gateway=fe80::1",
            "macvlan:parent=lan,mode=bridge,address=10.32.0.2/24,address=fd00:32::2/64",
            "phys:device=wan,address=10.33.0.7/24",
        ];
        // Two default routes of one family: the second one has to be said to be none.
        let options: Vec<&str> = links.iter().flat_map(|link| ["--link", link]).collect();
        d.create(&a, text(&base), &options, &SLEEP).fails_saying("default route");
        let routed = "veth:mode=routed,name=routed,address=fd00:31::2/128";
        let options = ["--link", links[0], "--link", routed, "--link", links[2], "--link", links[3]];
        d.create(&a, text(&base), &options, &SLEEP).ok();
        let listed = d.listed(&a);
        assert_eq!(listed["ipv4"], json!(["10.30.0.2", "10.32.0.2", "10.33.0.7"]));
        assert_eq!(listed["ipv6"], json!(["fd00:30::2", "fd00:31::2", "fd00:32::2"]));
        let names: Vec<&Value> = listed["links"].as_array().expect("links").iter().map(|link| &link["name"]).collect();
        assert_eq!(names, ["eth0", "routed", "eth1", "eth2"]);
        assert_eq!(net.names(), devices, "nothing is made before the start");

        for end in ["stop", "crash", "crash and start"] {
            d.call(&["start", &a]).ok();
            let shown = sb.exec(&a, &["busybox", "ip", "addr"]).ok();
            for part in ["10.30.0.2/24", "fd00:30::2/64", "fd00:31::2/128", "10.32.0.2/24", "10.33.0.7/24", "mtu 1400"]
            {
                assert!(shown.contains(part), "{part} in {shown}");
            }
            assert!(shown.contains("02:00:00:00:00:07"), "{shown}");
            let routes = sb.exec(&a, &["busybox", "ip", "route"]).ok();
            assert!(
                routes.contains("default via 10.30.0.1") && routes.contains("10.39.0.0/16 via 10.30.0.1"),
                "{routes}"
            );
            assert!(!net.names().contains(&"wan".to_owned()));
            for host in ["10.30.0.1", "fd00:30::1"] {
                sb.exec(&a, &["busybox", "ping", "-c", "1", "-W", "5", host]).ok();
            }
            net.call("/bin/busybox", &["ping", "-c", "1", "-W", "5", "fd00:31::2"]).run().ok();
            let limits = net.call("/usr/sbin/tc", &["qdisc"]).run().ok();
            assert!(limits.contains("rate 10Mbit") && limits.contains("rate 20Mbit"), "{limits}");
            let hosts = sb.exec(&a, &["cat", "/etc/hosts"]).ok();
            assert!(hosts.contains("10.30.0.2") && hosts.contains("fd00:30::2"), "{hosts}");
            if end == "stop" {
                d.call(&["stop", "-t", "0", &a]).ok();
                is_clean(sb, net, &devices);
                assert!(net.ip("addr show wan").contains("10.33.0.1/24"));
            } else {
                sb.call(&["kill", &a, "KILL"]).run().ok();
                eventually("it is dead", || d.listed(&a)["state"] == "stopped");
            }
            if end == "crash" {
                // The device of the host waits in its namespace; the monitor or stop brings it back.
                d.call(&["stop", &a]).ok();
                is_clean(sb, net, &devices);
                assert!(net.ip("addr show wan").contains("10.33.0.1/24"));
            }
        }
        // As after a crash that nobody has seen: the next start takes everything back first.
        d.call(&["start", &a]).ok();
        assert!(sb.exec(&a, &["busybox", "ip", "addr"]).ok().contains("10.33.0.7/24"));
        d.call(&["destroy", "-f", &a]).ok();
        is_clean(sb, net, &devices);
        assert!(net.ip("addr show wan").contains("10.33.0.1/24"));
    });
}

#[test]
fn vlan_and_ipvlan_where_the_kernel_has_them() {
    with_net(|sb, net, d| {
        net.ip("link add lan type veth peer name lan2");
        net.ip("link set lan up");
        let (devices, base) = (net.names(), d.base());
        for (kind, link) in [
            ("vlan", "vlan:parent=lan,id=9,name=tag9,address=10.34.0.2/24,address=fd00:34::2/64"),
            ("ipvlan", "ipvlan:parent=lan,mode=l2,address=10.34.0.3/24,gateway=10.34.0.1"),
        ] {
            let name = d.name(kind);
            d.create(&name, text(&base), &["--link", link], &SLEEP).ok();
            let started = d.call(&["start", &name]);
            if started.code == 0 {
                assert!(sb.exec(&name, &["busybox", "ip", "addr"]).ok().contains("10.34.0."));
                d.call(&["stop", "-t", "0", &name]).ok();
            } else {
                started.fails_saying("this kernel has no network devices of kind");
                assert!(
                    !integration::requires::lane().starts_with("vm-"),
                    "the kernel of the virtual machine has {kind}"
                );
                assert_eq!(d.listed(&name)["state"], "stopped");
            }
            d.call(&["destroy", &name]).ok();
            is_clean(sb, net, &devices);
        }
    });
}

#[test]
fn links_that_cannot_be_had_are_refused_early_and_leave_nothing() {
    with_net(|sb, net, d| {
        net.ip("link add lan type veth peer name lan2");
        let (devices, base, a) = (net.names(), d.base(), d.name("a"));
        let make = |options: &[&str]| d.create(&a, text(&base), options, &SLEEP);
        make(&["--network", "host", "--link", "veth"]).fails_saying("--network host");
        make(&["--link", "tunnel:x=y"]).fails_saying("unknown kind");
        make(&["--link", "veth:name=a", "--link", "veth:name=a"]).fails_saying("two links");
        make(&["--network", "host", "--egress", "1mbit"]).fails_saying("a --link has its own");
        make(&["--class", "device=lan,rate=1mbit"]).fails_saying("--class needs");
        make(&["--network", "cni:nothing", "--cni-conf", "/nonexistent"]).fails_saying("there is no CNI network");
        assert_eq!(d.call(&["ls", "-q"]).ok(), "");
        // A device that is missing shows at the start: what was made before it is taken back.
        make(&["--link", "phys:device=lan", "--link", "veth:bridge=nope"]).ok();
        d.call(&["start", &a]).fails_saying("nope");
        is_clean(sb, net, &devices);
        d.call(&["destroy", &a]).ok();
    });
}

/// A start that is killed is taken back by the next command for the container, early and late.
#[test]
fn a_killed_start_leaves_no_link() {
    with_net(|sb, net, d| {
        net.ip("link add br0 type bridge");
        net.ip("link add lan type veth peer name lan2");
        net.ip("addr add 10.35.0.1/24 dev lan");
        net.ip("link set lan up");
        let (devices, base, a) = (net.names(), d.base(), d.name("a"));
        let options = ["--link", "phys:device=lan", "--link", "veth:bridge=br0,egress=1mbit"];
        d.create(&a, text(&base), &options, &SLEEP).ok();
        for step in 0..16u64 {
            let mut start = d.prepare(&["start", &a]).spawn();
            std::thread::sleep(Duration::from_millis(4 * step));
            start.kill();
            // The runtime that it had called may have gone on.
            eventually("it stays stopped", || {
                let stopped = d.call(&["stop", "-t", "0", &a]).code == 0;
                std::thread::sleep(Duration::from_millis(200));
                stopped && sb.call(&["list", "-q"]).run().ok().is_empty()
            });
            is_clean(sb, net, &devices);
            assert!(net.ip("addr show lan").contains("10.35.0.1/24"), "after {} ms", 4 * step);
        }
        d.call(&["destroy", &a]).ok();
    });
}
