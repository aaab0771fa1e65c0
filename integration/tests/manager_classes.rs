//! Traffic classes of defined containers: what TCP gets through a link of the host that they share.

use std::io::Read;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use integration::defined::{Defined, text};
use integration::host::{end_hidden_hierarchies, eventually};
use integration::net::Net;
use integration::requires::Need;
use integration::{Sandbox, case_with};

const NFT: &str = "/usr/sbin/nft";
/// CLONE_NEWNET.
const NEWNET: u64 = 0x4000_0000;
/// Bytes of a full packet on the link, and of what it carries for TCP with time stamps: IPv4, IPv6.
const PACKET: f64 = 1514.0;
const SEGMENT: [f64; 2] = [1448.0, 1428.0];

/// The host with a link `wan` to the world, which is another network namespace.
fn with_wan(body: impl FnOnce(&Sandbox, &Net<'_>, &Net<'_>, &Defined<'_>)) {
    let needs = [Need::Skep, Need::Program(NFT), Need::Program("/usr/bin/nsenter"), Need::Program("/usr/sbin/ip")];
    case_with(&needs, |sb| {
        let (net, world) = (Net::new(sb), Net::new(sb));
        let pid = world.path().trim_start_matches("/proc/").split('/').next().expect("a pid").to_owned();
        net.ip(&format!("link add wan type veth peer name wan netns {pid}"));
        for (side, host) in [(&net, 1), (&world, 2)] {
            side.ip(&format!("addr add 192.0.2.{host}/24 dev wan"));
            side.ip(&format!("addr add 2001:db8::{host}/64 dev wan nodad"));
            side.ip("link set wan up");
        }
        body(sb, &net, &world, &Defined::within(sb, &net));
    });
}

/// Waits for a connection to a port of the world and reads what comes: bytes a second in the steady state, which begins
/// when the sender's windows are open. It goes on reading until all that measure are done: what one leaves, others take.
///
/// A busy machine lets a sender wait, which is not the class's doing: of three windows the fullest counts, of which none
/// may have more than the class.
fn receive(netns: PathBuf, port: u16, measuring: Arc<AtomicUsize>) -> std::thread::JoinHandle<f64> {
    std::thread::spawn(move || {
        let namespace = std::fs::File::open(&netns).expect("a network namespace");
        sys::namespace::join(namespace.as_fd(), NEWNET).expect("join it");
        let listener = TcpListener::bind(("::", port)).expect("bind");
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut buffer = vec![0; 1 << 16];
        let mut read_for = |time: Duration| {
            let (begin, mut bytes) = (Instant::now(), 0.0);
            while begin.elapsed() < time {
                bytes += match stream.read(&mut buffer).expect("read") {
                    0 => panic!("the sender has ended"),
                    count => f64::from(u32::try_from(count).expect("a small number")),
                };
            }
            bytes / begin.elapsed().as_secs_f64()
        };
        read_for(Duration::from_secs(2));
        let rate = (0..3).map(|_| read_for(Duration::from_secs(3))).fold(0.0, f64::max);
        measuring.fetch_sub(1, Ordering::Relaxed);
        while measuring.load(Ordering::Relaxed) > 0 {
            read_for(Duration::from_millis(20));
        }
        rate
    })
}

/// A program that sends to each port in turn for as long as somebody reads; it tries again until somebody listens.
fn sender(host: &str, ports: &[u16]) -> [String; 3] {
    let send = |port: &u16| format!("until busybox nc {host} {port} </dev/zero; do busybox sleep 0.2; done; ");
    let script: String = ports.iter().map(send).collect();
    ["sh".to_owned(), "-c".to_owned(), format!("{script} sleep 1000")]
}

fn is_about(bytes: f64, segment: f64, expected: f64) {
    let rate = bytes * 8.0 * PACKET / segment;
    assert!((0.95..=1.05).contains(&(rate / expected)), "{rate:.0} bit/s, not {expected:.0}");
}

#[test]
fn tcp_gets_the_rate_of_its_class() {
    with_wan(|sb, net, world, d| {
        let [a, b] = ["a", "b"].map(|suffix| d.name(suffix));
        d.call(&["network", "create", "web", "--subnet", "10.50.0.0/24", "--subnet", "fd00:50::/64"]).ok();
        let create = |name: &str, class: &str, host: &str, port: u16| {
            let command = sender(host, &[port]);
            let command: Vec<&str> = command.iter().map(String::as_str).collect();
            d.create(name, text(&d.base()), &["--network", "web", "--class", class], &command).ok();
        };
        create(&a, "device=wan,rate=10mbit,ceil=10mbit,total=30mbit", "192.0.2.2", 5001);
        create(&b, "device=wan,rate=20mbit,ceil=20mbit,priority=1", "2001:db8::2", 5002);
        let measuring = Arc::new(AtomicUsize::new(2));
        let receivers = [5001, 5002].map(|port| receive(PathBuf::from(world.path()), port, Arc::clone(&measuring)));
        d.call(&["start", &a, &b]).ok();
        let tc = net.call("/usr/sbin/tc", &["class", "show", "dev", "wan"]).run().ok();
        assert!(tc.contains("rate 10Mbit ceil 10Mbit") && tc.contains("rate 20Mbit ceil 20Mbit"), "{tc}");
        let rates = receivers.map(|receiver| receiver.join().expect("the receiver"));
        is_about(rates[0], SEGMENT[0], 10e6);
        is_about(rates[1], SEGMENT[1], 20e6);

        // One that is added must not have more than there is; one that leaves takes its class along.
        let c = d.name("c");
        create(&c, "device=wan,rate=1mbit", "192.0.2.2", 5003);
        d.call(&["start", &c]).fails_saying("passes 30mbit in all");
        sb.call(&["kill", &a, "KILL"]).run().ok();
        d.call(&["stop", "-t", "0", &a]).ok();
        let tc = || net.call("/usr/sbin/tc", &["class", "show", "dev", "wan"]).run().ok();
        assert!(!tc().contains("ceil 10Mbit") && tc().contains("rate 20Mbit"), "{}", tc());
        d.call(&["destroy", "-f", &a, &b, &c]).ok();
        assert_eq!(tc(), "");
        d.call(&["network", "remove", "web"]).ok();
        assert_eq!(net.call(NFT, &["list", "ruleset"]).run().ok(), "");
    });
}

/// A container of the host's own network is told by the number of its sockets (v1 net_cls), else by its v2 group.
#[test]
fn a_container_of_the_hosts_network_has_a_class() {
    with_wan(|sb, net, world, d| {
        // net_cls is mounted in a mount namespace of the test's own, where the kernel has it and v2 is not alone.
        let dir = sb.dir.join("net_cls");
        let held = sb.dir.join("held");
        let script = format!(
            "mkdir {0}; mount -t cgroup -o net_cls none {0} 2>/dev/null || mount -t cgroup -o net_cls,net_prio none {0}; \
             echo $? >{1}; exec sleep 3600",
            text(&dir),
            text(&held)
        );
        let mut holder = sb.program("/usr/bin/unshare").args(["--mount", "sh", "-c", &script]).spawn();
        let mut mounted = String::new();
        eventually("the mount", || {
            mounted = std::fs::read_to_string(&held).unwrap_or_default();
            !mounted.is_empty()
        });
        let v1 = mounted.trim() == "0";
        if !v1 && integration::requires::skip_without(&[Need::V2Alone]) {
            holder.kill();
            return;
        }
        let call = |args: &[&str]| {
            let (of_net, of_mount) =
                (format!("--net={}", net.path()), format!("--mount=/proc/{}/ns/mnt", holder.pid()));
            let runtime = [&of_net, &of_mount, "--", text(&sb.runtime.path), "--root", text(&sb.root)];
            sb.program("/usr/bin/nsenter").args([&runtime, args].concat()).env("SKEP_DATA", text(&d.data)).run()
        };
        let (a, base, parent) = (d.name("a"), d.base(), format!("/{}", sb.name));
        let command = sender("192.0.2.2", &[5001]);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let class = "device=wan,rate=10mbit,ceil=10mbit";
        let options = ["create", &a, "--from", text(&base), "--cgroup-parent", &parent];
        call(&[&options[..], &["--network", "host", "--class", class, "--"], &command].concat()).ok();
        let receiver = receive(PathBuf::from(world.path()), 5001, Arc::new(AtomicUsize::new(1)));
        call(&["start", &a]).ok();
        let rules = net.call(NFT, &["list", "ruleset"]).run().ok();
        assert!(rules.contains(if v1 { "meta cgroup" } else { "socket cgroupv2" }), "{rules}");
        is_about(receiver.join().expect("the receiver"), SEGMENT[0], 10e6);
        call(&["destroy", "-f", &a]).ok();
        assert_eq!(net.call(NFT, &["list", "ruleset"]).run().ok(), "");
        let remove = format!("rmdir {0}{parent} || true; umount {0}; rmdir {0}", text(&dir));
        if v1 {
            let of_mount = format!("--mount=/proc/{}/ns/mnt", holder.pid());
            sb.program("/usr/bin/nsenter").args([&of_mount, "--", "sh", "-c", &remove]).run().ok();
        }
        holder.kill();
    });
    // The namespace and the groups of the test are gone now.
    eventually("nothing is left of the hierarchy", end_hidden_hierarchies);
}

#[test]
fn a_scheduler_of_somebody_else_stays() {
    with_wan(|_, net, _, d| {
        net.call("/usr/sbin/tc", &["qdisc", "add", "dev", "wan", "root", "handle", "7:", "htb"]).run().ok();
        let a = d.name("a");
        d.call(&["network", "create", "web", "--subnet", "10.51.0.0/24"]).ok();
        d.create(&a, text(&d.base()), &["--network", "web", "--class", "device=wan,rate=1mbit"], &["true"]).ok();
        d.call(&["start", &a]).fails_saying("has a scheduler that somebody else has given it");
        assert!(net.call("/usr/sbin/tc", &["qdisc", "show", "dev", "wan"]).run().ok().contains("htb 7:"));
        d.call(&["destroy", &a]).ok();
        assert!(net.call("/usr/sbin/tc", &["qdisc", "show", "dev", "wan"]).run().ok().contains("htb 7:"));
        d.call(&["network", "remove", "web"]).ok();
    });
}
