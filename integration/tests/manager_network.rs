//! Defined containers in managed networks, in a network namespace that stands for the host.

use std::time::Duration;

use integration::defined::{Defined, text};
use integration::host::eventually;
use integration::net::Net;
use integration::requires::Need;
use integration::{Sandbox, case_with, json};

const NFT: &str = "/usr/sbin/nft";

fn with_net(body: impl FnOnce(&Sandbox, &Net<'_>, &Defined<'_>)) {
    let needs = [Need::Skep, Need::Program(NFT), Need::Program("/usr/bin/nsenter"), Need::Program("/usr/sbin/ip")];
    case_with(&needs, |sb| {
        let net = Net::new(sb);
        body(sb, &net, &Defined::within(sb, &net));
    });
}

/// Text of the firewall's rules.
fn rules(net: &Net<'_>) -> String {
    net.call(NFT, &["list", "ruleset"]).run().ok()
}

/// A server on port 80 whose page is its own host name.
const SERVER: [&str; 3] =
    ["sh", "-c", "mkdir -p /www; hostname > /www/index.html; exec busybox httpd -f -p 80 -h /www"];

/// The command that reads the page of a host.
const READ: [&str; 6] = ["timeout", "2", "busybox", "wget", "-q", "-O-"];

fn get(net: &Net<'_>, host: &str) -> String {
    let mut said = String::new();
    eventually(&format!("{host} answers"), || {
        let output = net.call("/bin/busybox", &[&READ[..], &[host]].concat()).run();
        said = output.stdout_now().trim().to_owned();
        output.code == 0
    });
    said
}

#[test]
fn containers_reach_each_other_the_host_and_the_world() {
    with_net(|sb, net, d| {
        // The world: another namespace with one address of each family, which knows no way back to private addresses.
        let world = Net::new(sb);
        net.ip(&format!(
            "link add wan type veth peer name wan netns {}",
            world.path().trim_start_matches("/proc/").split('/').next().expect("a pid")
        ));
        for (side, host) in [(net, 1), (&world, 2)] {
            side.ip(&format!("addr add 192.0.2.{host}/24 dev wan"));
            side.ip(&format!("addr add 2001:db8::{host}/64 dev wan nodad"));
            side.ip("link set wan up");
        }
        let base = d.base();
        let (a, b) = (d.name("a"), d.name("b"));
        d.call(&["network", "create", "web", "--subnet", "10.20.0.0/24", "--subnet", "fd00:20::/64"]).ok();
        let ports = ["--publish", "8080:80", "--publish", "[2001:db8::1]:8090:80"];
        d.create(&a, text(&base), &[&["--network", "web"], &ports[..]].concat(), &SERVER).ok();
        d.create(&b, text(&base), &["--network", "web", "--ip", "10.20.0.77", "--egress", "10mbit"], &SERVER).ok();
        assert_eq!(d.listed(&a)["ipv4"], json!(["10.20.0.2"]));
        d.call(&["start", &a, &b]).ok();
        assert_eq!(d.listed(&b)["ipv4"], json!(["10.20.0.77"]));
        let six = d.listed(&b)["ipv6"][0].as_str().expect("an address").to_owned();

        let page = |from: &str, host: &str| {
            let mut said = String::new();
            eventually(&format!("{from} reads {host}"), || {
                let output = sb.exec(from, &[&["busybox"], &READ[..], &[host]].concat());
                said = output.stdout_now().trim().to_owned();
                output.code == 0
            });
            said
        };
        assert_eq!(page(&a, &b), b);
        assert_eq!(page(&b, &a), a);
        assert_eq!(page(&a, &format!("[{six}]")), b);
        // The host, and through it the world, by both families.
        for address in ["10.20.0.1", "fd00:20::1", "192.0.2.2", "2001:db8::2"] {
            sb.exec(&a, &["busybox", "ping", "-c", "1", "-W", "5", address]).ok();
        }
        // The published port: from the world, from the host, from a neighbour; nothing else is let in.
        assert_eq!(get(&world, "192.0.2.1:8080"), a);
        assert_eq!(get(&world, "[2001:db8::1]:8080"), a);
        assert_eq!(get(&world, "[2001:db8::1]:8090"), a);
        assert_eq!(page(&b, "[2001:db8::1]:8090"), a);
        assert_eq!(get(net, "127.0.0.1:8080"), a);
        assert_eq!(page(&b, "10.20.0.1:8080"), a);
        world.ip("route add 10.20.0.0/24 via 192.0.2.1");
        assert_ne!(world.call("/bin/busybox", &[&READ[..], &["10.20.0.77"]].concat()).run().code, 0);

        // What went through each link, and what one of them may send.
        let shown = d.call(&["network", "show", "web", "-o", "json"]).json();
        assert!(shown["containers"][&a]["traffic"]["rx_bytes"].as_u64().expect("a number") > 500, "{shown}");
        assert!(net.call("/usr/sbin/tc", &["qdisc"]).run().ok().contains("rate 10Mbit"));

        d.call(&["stop", "-t", "0", &a, &b]).ok();
        assert!(!rules(net).contains("8080"), "{}", rules(net));
        assert_eq!(net.names(), ["wan", "skep-web"]);
        d.call(&["network", "remove", "web"]).fails_saying("is in use");
        d.call(&["destroy", &a, &b]).ok();
        d.call(&["network", "remove", "web"]).ok();
        assert_eq!((rules(net).as_str(), net.names()), ("", vec!["wan".to_owned()]));
        assert_eq!(d.call(&["network", "list", "-o", "json"]).json(), json!([]));
    });
}

/// A network of one family, which is IPv6: addresses, the world behind the host, ports and names.
#[test]
fn a_network_may_have_ipv6_alone() {
    with_net(|sb, net, d| {
        let world = Net::new(sb);
        let pid = world.path().trim_start_matches("/proc/").split('/').next().expect("a pid").to_owned();
        net.ip(&format!("link add wan type veth peer name wan netns {pid}"));
        for (side, host) in [(net, 1), (&world, 2)] {
            side.ip(&format!("addr add 2001:db8::{host}/64 dev wan nodad"));
            side.ip("link set wan up");
        }
        let [a, b] = ["a", "b"].map(|suffix| d.name(suffix));
        d.call(&["network", "create", "six", "--subnet", "fd00:24::/64"]).ok();
        d.create(&a, text(&d.base()), &["--network", "six", "--publish", "8088:80"], &SERVER).ok();
        d.create(&b, text(&d.base()), &["--network", "six", "--publish", "127.0.0.1:8089:80"], &SERVER).ok();
        d.call(&["start", &b]).fails_saying("has no address of that family");
        d.call(&["start", &a]).ok();
        assert_eq!((&d.listed(&a)["ipv4"], &d.listed(&a)["ipv6"]), (&json!([]), &json!(["fd00:24::2"])));
        sb.exec(&a, &["busybox", "ping", "-c", "1", "-W", "5", "2001:db8::2"]).ok();
        assert_eq!(get(&world, "[2001:db8::1]:8088"), a);
        assert!(sb.exec(&a, &["cat", "/etc/hosts"]).ok().contains(&format!("fd00:24::2\t{a}")));
        d.call(&["destroy", "-f", &a, &b]).ok();
        d.call(&["network", "remove", "six"]).ok();
        assert_eq!((rules(net).as_str(), net.names()), ("", vec!["wan".to_owned()]));
    });
}

#[test]
fn a_port_of_the_host_that_is_in_use_is_not_published() {
    with_net(|_, net, d| {
        let a = d.name("a");
        let server = net.call("/bin/busybox", &["nc", "-l", "-p", "8095"]).spawn();
        eventually("it listens", || net.call("/usr/bin/ss", &["-Hltn"]).run().stdout.contains(":8095"));
        d.call(&["network", "create", "web", "--subnet", "10.25.0.0/24"]).ok();
        d.create(&a, text(&d.base()), &["--network", "web", "--publish", "8095:80"], &["sleep", "1000"]).ok();
        let said = d.call(&["start", &a]).fails();
        let who = format!("port 8095:80/tcp of the host is in use: busybox (pid {}) listens on", server.pid());
        assert!(said.contains(&who), "{said}");
        let mut server = server;
        server.kill();
        d.call(&["start", &a]).ok();
        d.call(&["destroy", "-f", &a]).ok();
        d.call(&["network", "remove", "web"]).ok();
    });
}

#[test]
fn what_cannot_be_had_of_a_network_is_refused_and_no_address_is_lost() {
    with_net(|_, net, d| {
        let base = d.base();
        let (a, b) = (d.name("a"), d.name("b"));
        let make = |name: &str, options: &[&str]| d.create(name, text(&base), options, &["sleep", "1000"]);
        make(&a, &["--network", "web"]).fails_saying("no network");
        make(&a, &["--publish", "80:80"]).fails_saying("--publish needs --network");
        d.call(&["network", "create", "web", "--subnet", "10.21.0.0/30"]).ok();
        d.call(&["network", "create", "web"]).fails_saying("exists");
        d.call(&["network", "create", "two", "--subnet", "10.21.0.0/16"]).fails_saying("overlaps");
        make(&a, &["--network", "web", "--publish", "nonsense"]).fails_saying("is no port forward");
        make(&a, &["--network", "web", "--ip", "10.9.9.9"]).fails_saying("10.9.9.9");
        assert_eq!(d.call(&["ls", "-q"]).ok(), "");
        make(&a, &["--network", "web", "--publish", "9000:1"]).ok();
        // The only address is taken, and free again once its container is gone.
        make(&b, &["--network", "web"]).fails_saying("are taken");
        d.call(&["destroy", &a]).ok();
        make(&b, &["--network", "web", "--publish", "9000:1"]).ok();
        d.call(&["network", "create", "more"]).ok();
        make(&a, &["--network", "more", "--publish", "9000:2"]).ok();
        d.call(&["start", &b]).ok();
        d.call(&["start", &a]).fails_saying(&b);
        assert_eq!(d.listed(&a)["state"], "stopped");
        d.call(&["destroy", "-f", &a, &b]).ok();
        d.call(&["network", "remove", "web", "more"]).ok();
        assert_eq!((rules(net).as_str(), net.names().len()), ("", 0));
    });
}

/// A container that dies takes its link with it. Its ports go when its monitor sees that; without one, with the next stop or
/// start.
#[test]
fn nothing_is_left_after_a_crash() {
    with_net(|sb, net, d| {
        let [a, b] = ["a", "b"].map(|suffix| d.name(suffix));
        d.call(&["network", "create", "web"]).ok();
        let create = |name: &str, port: &str, more: &[&str]| {
            d.create(name, text(&d.base()), &[&["--network", "web", "--publish", port], more].concat(), &SERVER).ok();
        };
        create(&a, "8080:80", &["--no-monitor"]);
        create(&b, "8081:80", &[]);
        for name in [&a, &a, &b, &b] {
            d.call(&["start", name]).ok();
            sb.call(&["kill", name, "KILL"]).run().ok();
            eventually("it is dead", || d.listed(name)["state"] == "stopped");
            eventually("its link is gone", || net.names() == ["skep-web"]);
        }
        eventually("the monitor takes its ports", || !rules(net).contains("8081"));
        assert!(rules(net).contains("8080"));
        d.call(&["stop", &a]).ok();
        assert!(!rules(net).contains("8080"));
        assert_eq!(sb.call(&["list", "-q"]).run().ok(), "");
        d.call(&["destroy", &a, &b]).ok();
        d.call(&["network", "remove", "web"]).ok();
        assert_eq!((rules(net).as_str(), net.names().len()), ("", 0));
    });
}

/// Fifty times, or as often as the environment variable `SOAK_CYCLES` says: with all that a start can make on the host.
#[test]
fn starts_and_stops_leak_nothing() {
    with_net(|sb, net, d| {
        let cycles: u32 = std::env::var("SOAK_CYCLES").ok().and_then(|text| text.parse().ok()).unwrap_or(50);
        net.ip("link add wan type veth peer name lan");
        net.ip("link set wan up");
        net.ip("addr add 10.23.1.1/24 dev lan");
        let (a, base) = (d.name("a"), d.base());
        d.call(&["network", "create", "web", "--subnet", "10.23.2.0/24"]).ok();
        let options = [
            &["--network", "web", "--publish", "8080:80", "--publish", "5300:53/udp", "--egress", "10mbit"][..],
            &["--link", "veth:mode=routed,address=fd00:23::2/128", "--link", "phys:device=lan"],
            &["--class", "device=wan,rate=1mbit"],
        ];
        d.create(&a, text(&base), &options.concat(), &["sleep", "1000"]).ok();
        // What is left of a container: devices, rules, schedulers, groups, mounts, leases, files, states.
        let left = || {
            let groups = sb.program("/usr/bin/find").args(["/sys/fs/cgroup", "-name", &a]).run().stdout;
            let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("proc");
            let mut files = Vec::new();
            for folder in [&d.data, &d.folder(&a), &d.data.join("uplinks"), &d.data.join("networks"), &sb.root] {
                let found = std::fs::read_dir(folder).into_iter().flatten().map(|file| file.expect("a file").path());
                files.extend(found.map(|path| text(&path).to_owned()));
            }
            files.sort();
            [
                net.names().join(" "),
                rules(net),
                net.call("/usr/sbin/tc", &["qdisc"]).run().ok(),
                // Whether a bridge without ports is down yet is the kernel's to say.
                net.ip("route").replace(" linkdown", ""),
                net.ip("addr show lan").split_once("inet").expect("its address").1.to_owned(),
                groups,
                mounts.lines().filter(|line| line.contains(text(&sb.dir))).collect(),
                d.call(&["network", "show", "web", "-o", "json"]).ok(),
                sb.call(&["list", "-q"]).run().ok(),
                files.join("\n"),
            ]
        };
        let mut after_one = None;
        for cycle in 0..cycles {
            d.call(&["start", &a]).ok();
            // Each tenth dies by itself.
            if cycle % 10 == 9 {
                sb.call(&["kill", &a, "KILL"]).run().ok();
            }
            d.call(&["stop", "-t", "0", &a]).ok();
            // The second start puts the log of the first aside: the same files from then on.
            if cycle == 1 || cycle + 1 == cycles || (cycle > 1 && cycle % 25 == 0) {
                let now = left();
                assert_eq!(after_one.get_or_insert_with(|| now.clone()), &now, "after {} cycles", cycle + 1);
            }
        }
        let [devices, rules_left, schedulers, _, _, groups, mounts, ..] = after_one.expect("two cycles at least");
        assert_eq!(devices, "wan skep-web lan");
        assert!(!rules_left.contains("8080") && !rules_left.contains("wan\""), "{rules_left}");
        assert!(!schedulers.contains("htb") && !schedulers.contains("tbf"), "{schedulers}");
        assert_eq!((groups.as_str(), mounts.as_str()), ("", ""));
        d.call(&["destroy", &a]).ok();
        d.call(&["network", "remove", "web"]).ok();
        assert_eq!(rules(net), "");
    });
}

#[test]
fn fifty_containers_of_one_network_reach_each_other() {
    with_net(|sb, _, d| {
        let base = d.base();
        d.call(&["network", "create", "web", "--subnet", "10.22.0.0/24", "--subnet", "fd00:22::/64"]).ok();
        let names: Vec<String> = (0..50).map(|n| d.name(&format!("n{n}"))).collect();
        for name in &names {
            d.create(name, text(&base), &["--network", "web"], &["sleep", "1000"]).ok();
        }
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        d.prepare(&[&["start"], all.as_slice()].concat()).deadline(Duration::from_secs(120)).run().ok();
        let listed = d.call(&["ls", "-o", "json"]).json();
        let address = |entry: &serde_json::Value, family: &str| entry[family][0].as_str().expect("one").to_owned();
        let all_of = |family| listed.as_array().expect("a list").iter().map(|e| address(e, family)).collect::<Vec<_>>();
        let addresses = [all_of("ipv4"), all_of("ipv6")].concat();
        let script = addresses.iter().map(|ip| format!("busybox ping -c 1 -W 5 {ip} >/dev/null || echo {ip}; "));
        let script: String = script.collect();
        for name in [&names[0], &names[49]] {
            assert_eq!(
                sb.exec_call(name, &[], &["sh", "-c", &script]).deadline(Duration::from_secs(60)).run().ok(),
                ""
            );
        }
        // Every name is known to all of them.
        let hosts = sb.exec(&names[0], &["cat", "/etc/hosts"]).ok();
        assert!(names.iter().all(|name| hosts.contains(name.as_str())), "{hosts}");
        d.prepare(&[&["stop", "-t", "0"], all.as_slice()].concat()).deadline(Duration::from_secs(120)).run().ok();
    });
}

#[test]
fn a_copy_has_an_address_of_its_own_and_a_new_name_takes_none_twice() {
    with_net(|_, _, d| {
        let [a, b, c] = ["a", "b", "c"].map(|suffix| d.name(suffix));
        d.call(&["network", "create", "web", "--subnet", "10.22.0.0/29", "--gateway", "10.22.0.1"]).ok();
        d.create(&a, text(&d.base()), &["--network", "web", "--ip", "10.22.0.3", "--publish", "9000:1"], &["true"])
            .ok();
        let copied = d.call(&["copy", &a, &b]);
        copied.ok();
        assert!(
            copied.stderr.contains("publishes no ports") && copied.stderr.contains("other addresses"),
            "{copied:#?}"
        );
        let address = |name: &str| d.listed(name)["ipv4"].clone();
        assert_eq!(address(&a), json!(["10.22.0.3"]));
        let of_copy = address(&b);
        assert!(of_copy != address(&a) && of_copy.as_array().map(Vec::len) == Some(1), "{of_copy}");
        d.call(&["rename", &a, &c]).ok();
        assert_eq!(address(&c), json!(["10.22.0.3"]));
        let leases = d.call(&["network", "show", "web", "-o", "json"]).ok();
        assert!(leases.contains(&c) && leases.contains(&b) && !leases.contains(&format!("\"{a}\"")), "{leases}");
        // Also an address that nobody chose stays with its container.
        let e = d.name("e");
        d.call(&["rename", &b, &e]).ok();
        assert_eq!(address(&e), of_copy);
        d.call(&["destroy", &c, &e]).ok();
        d.call(&["network", "remove", "web"]).ok();
    });
}
