//! Network links of containers, on a host that is a network namespace of the test's own.

use std::time::Duration;

use integration::net::Net;
use integration::runtime::{Kind, wait_pid};
use integration::sandbox::read_pid;
use integration::{Bundle, Output, Sandbox, case};

/// Only skep makes links: other runtimes have nothing to be tested here.
fn links(test: fn(&Sandbox, &Net<'_>)) {
    case(|sb| {
        if sb.runtime.kind == Kind::Skep {
            test(sb, &Net::new(sb));
        }
    });
}

/// Creates a container with links, from within the network namespace.
fn create(net: &Net<'_>, bundle: &Bundle, links: &[&str]) -> Output {
    bundle.write();
    let dir = bundle.dir.to_str().expect("a UTF-8 path");
    let pid = format!("{dir}/pid");
    net.skep(&[&["create", "--bundle", dir, "--pid-file", &pid], links, &[bundle.id.as_str()]].concat())
}

fn start(net: &Net<'_>, bundle: &Bundle, links: &[&str]) {
    create(net, bundle, links).ok();
    net.skep(&["start", &bundle.id]).ok();
}

fn ping(net: &Net<'_>, bundle: &Bundle, address: &str) {
    net.skep(&["exec", &bundle.id, "ping", "-c1", "-W9", address]).ok();
}

#[test]
fn two_containers_on_a_bridge_reach_each_other_and_leave_nothing() {
    links(|sb, net| {
        net.ip("link add br0 type bridge");
        net.ip("addr add 10.9.0.1/24 dev br0");
        net.ip("link set br0 up");
        let (a, b) = (sb.bundle().sleeper(), sb.bundle().sleeper());
        let (a, b) = (a.capabilities(&["CAP_NET_RAW"]), b.capabilities(&["CAP_NET_RAW"]));
        start(net, &a, &["--veth", "eth0,bridge=br0,address=10.9.0.2/24,gateway=10.9.0.1,egress=10mbit"]);
        start(net, &b, &["--link", "veth:bridge=br0,address=10.9.0.3/24,address=fd09::3/64"]);
        ping(net, &a, "10.9.0.3");
        ping(net, &b, "10.9.0.1");
        assert_eq!(net.names().len(), 4, "a bridge, two ports, one shaper: {:?}", net.names());
        net.skep(&["delete", "--force", &a.id]).ok();
        net.skep(&["delete", "--force", &b.id]).ok();
        assert_eq!(net.names(), ["br0"]);
    });
}

#[test]
fn a_device_of_the_host_is_back_after_the_container() {
    links(|sb, net| {
        net.ip("link add lan type veth peer name lan2");
        net.ip("addr add 10.9.1.1/24 dev lan");
        net.ip("link set lan up");
        for end in ["delete", "kill"] {
            let bundle = sb.bundle().sleeper();
            create(net, &bundle, &["--link", "phys:device=lan,name=eth3,address=10.9.1.7/24"]).ok();
            net.skep(&["start", &bundle.id]).ok();
            assert_eq!(net.names(), ["lan2"]);
            let shown = net.skep(&["exec", &bundle.id, "ip", "addr", "show", "eth3"]).ok();
            assert!(shown.contains("10.9.1.7/24"), "{shown}");
            if end == "kill" {
                // As after a crash: the process is gone, and with it, but for the pin, its network namespace.
                let pid = read_pid(&bundle.dir.join("pid"));
                net.skep(&["kill", &bundle.id, "KILL"]).ok();
                assert!(wait_pid(pid, Duration::from_secs(10)));
            }
            net.skep(&["delete", "--force", &bundle.id]).ok();
            assert_eq!(net.names().len(), 2, "{:?}", net.names());
            assert!(net.ip("addr show lan").contains("10.9.1.1/24"));
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("proc");
        assert!(!mounts.contains(sb.root.to_str().expect("a UTF-8 path")), "a pin is left");
    });
}

#[test]
fn a_link_that_fails_takes_the_container_back() {
    links(|sb, net| {
        net.ip("link add lan type veth peer name lan2");
        let bundle = sb.bundle().sleeper();
        let good = ["--link", "phys:device=lan,name=eth1", "--veth", "eth0", "--link"];
        create(net, &bundle, &[&good[..], &["veth:name=eth9,bridge=nope"]].concat()).fails_saying("nope");
        assert_eq!(net.names().len(), 2, "{:?}", net.names());
        create(net, &bundle, &[&good[..], &["veth:name=eth0"]].concat()).fails_saying("eth0");
        create(net, &bundle, &["--link", "tunnel:x=y"]).fails_saying("unknown kind");
        assert_eq!(net.names().len(), 2, "{:?}", net.names());
    });
}

#[test]
fn a_macvlan_is_the_containers_alone() {
    links(|sb, net| {
        net.ip("link add lan type veth peer name lan2");
        net.ip("link set lan up");
        let bundle = sb.bundle().sleeper();
        create(net, &bundle, &["--link", "macvlan:parent=lan,mode=bridge,name=eth0,address=10.9.2.2/24"]).ok();
        net.skep(&["start", &bundle.id]).ok();
        let shown = net.skep(&["exec", &bundle.id, "ip", "addr", "show", "eth0"]).ok();
        assert!(shown.contains("10.9.2.2/24"), "{shown}");
        net.skep(&["delete", "--force", &bundle.id]).ok();
        assert_eq!(net.names().len(), 2);
    });
}

#[test]
fn vlan_and_ipvlan_where_the_kernel_has_them() {
    links(|sb, net| {
        net.ip("link add lan type veth peer name lan2");
        net.ip("link set lan up");
        for (kind, text) in [
            ("vlan", "vlan:parent=lan,id=9,address=10.9.3.2/24"),
            ("ipvlan", "ipvlan:parent=lan,mode=l3,address=10.9.3.3/24"),
        ] {
            let bundle = sb.bundle().sleeper();
            let output = create(net, &bundle, &["--link", text]);
            if output.code == 0 {
                net.skep(&["start", &bundle.id]).ok();
                let shown = net.skep(&["exec", &bundle.id, "ip", "addr", "show", "eth0"]).ok();
                assert!(shown.contains("10.9.3.") && shown.contains("eth0"), "{shown}");
                net.skep(&["delete", "--force", &bundle.id]).ok();
            } else {
                output.fails_saying("this kernel has no network devices of kind");
                output.fails_saying(kind);
            }
            assert_eq!(net.names().len(), 2);
        }
    });
}

#[test]
fn fifty_starts_and_stops_leave_nothing() {
    links(|sb, net| {
        net.ip("link add br0 type bridge");
        net.ip("link set br0 up");
        let bundle = sb.bundle().args(&["true"]);
        bundle.write();
        let dir = bundle.dir.to_str().expect("a UTF-8 path");
        for _ in 0..50 {
            let link = "veth:bridge=br0,address=10.9.4.2/24,egress=10mbit,ingress=10mbit";
            let file = format!("{dir}/pid");
            net.skep(&["run", "--bundle", dir, "--pid-file", &file, "--link", link, &bundle.id]).ok();
        }
        assert_eq!(net.names(), ["br0"]);
    });
}

/// A creation that is killed, early and late, is taken back by `delete`: the links go, the device of the host comes back.
#[test]
fn a_killed_creation_is_taken_back() {
    links(|sb, net| {
        net.ip("link add br0 type bridge");
        net.ip("link add lan type veth peer name lan2");
        net.ip("addr add 10.9.5.1/24 dev lan");
        net.ip("link set lan up");
        for step in 0..24u64 {
            let bundle = sb.bundle().sleeper();
            bundle.write();
            let dir = bundle.dir.to_str().expect("a UTF-8 path");
            let root = sb.root.to_str().expect("a UTF-8 path");
            let links = ["--link", "phys:device=lan,name=eth1", "--veth", "eth0,bridge=br0,egress=1mbit"];
            let args = [&["--root", root, "create", "--bundle", dir], &links[..], &[bundle.id.as_str()]].concat();
            let mut creation = net.call(&sb.runtime.path, &args).spawn();
            std::thread::sleep(Duration::from_millis(2 * step));
            creation.kill();
            net.skep(&["delete", "--force", &bundle.id]).ok();
            assert_eq!(net.names().len(), 3, "after {} ms: {:?}", 2 * step, net.names());
            assert!(net.ip("addr show lan").contains("10.9.5.1/24"), "after {} ms", 2 * step);
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("proc");
        assert!(!mounts.contains(sb.root.to_str().expect("a UTF-8 path")), "a pin is left");
    });
}
