//! Links of each kind against the real kernel, in network namespaces of the tests' own.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests; a skipped test says why")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use network::{
    Error, LinkRecord, LinkSpec, Place, create_link, loopback_up, parse_link, pin_netns, plan_record, read_phys,
    undo_link,
};
use sys::Errno;

use common::{Netns, pair};

/// Makes a link of a container that is called as its address.
fn attach(host: &Netns, container: &Netns, text: &str) -> (LinkSpec, LinkRecord) {
    let (spec, record) = plan(text);
    host.run(|| create_link(&spec, &record, container.fd())).unwrap();
    (spec, record)
}

fn plan(text: &str) -> (LinkSpec, LinkRecord) {
    let spec = parse_link(text).unwrap();
    let record = plan_record(&spec, text, None);
    (spec, record)
}

/// Sends a word over TCP.
fn reaches(from: &Netns, to: &Netns, address: &str) {
    let address: SocketAddr = address.parse().unwrap();
    let listener = to.run(|| TcpListener::bind(SocketAddr::new(address.ip(), 0)).unwrap());
    let target = listener.local_addr().unwrap();
    let wait = Duration::from_secs(10);
    let mut client = from.run(|| TcpStream::connect_timeout(&target, wait)).unwrap();
    client.write_all(b"hello").unwrap();
    drop(client);
    let mut text = String::new();
    listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
}

#[test]
fn ports_of_a_bridge_reach_each_other_and_the_host() {
    let (Some((host, a)), Some(b)) = (pair(), Netns::new()) else { return };
    host.ip("link add br0 type bridge");
    host.ip("addr add 10.7.0.1/24 dev br0");
    host.ip("addr add fd07::1/64 nodad dev br0");
    host.ip("link set br0 up");
    let (_, first) = attach(&host, &a, "veth:bridge=br0,address=10.7.0.2/24,address=fd07::2/64,gateway=10.7.0.1");
    let text = "veth:bridge=br0,address=10.7.0.3/24,address=fd07::3/64,mac=02:00:00:00:00:07";
    attach(&host, &b, text);
    assert!(b.ip("link show eth0").contains("02:00:00:00:00:07"));
    for address in ["10.7.0.3:0", "[fd07::3]:0"] {
        reaches(&a, &b, address);
        reaches(&host, &b, address);
    }
    reaches(&b, &host, "10.7.0.1:0");
    assert_eq!(host.names().len(), 4);
    assert!(host.run(|| undo_link(&first)).unwrap());
    assert!(!host.run(|| undo_link(&first)).unwrap());
    assert_eq!((host.names().len(), a.names().len()), (3, 1));
}

#[test]
fn what_is_no_bridge_is_refused() {
    let Some((host, container)) = pair() else { return };
    host.ip("link add v0 type veth peer name v1");
    let (spec, record) = plan("veth:bridge=v0");
    let error = host.run(|| create_link(&spec, &record, container.fd())).unwrap_err();
    assert_eq!(error.to_string(), "network device \"v0\" is no bridge");
    let (spec, record) = plan("veth:bridge=nope");
    let error = host.run(|| create_link(&spec, &record, container.fd())).unwrap_err();
    assert!(matches!(&error, Error::Missing { name, place: Place::Host } if name == "nope"), "{error}");
    assert_eq!((host.names().len(), container.names().len()), (3, 1));
}

#[test]
fn more_routes_lead_through_the_link() {
    let Some((host, container)) = pair() else { return };
    attach(
        &host,
        &container,
        "veth:address=10.7.0.2/24,host-address=10.7.0.1/24,route=10.99.0.0/16 via 10.7.0.1,route=10.98.0.0/16",
    );
    let routes = container.ip("route show");
    assert!(routes.contains("10.99.0.0/16 via 10.7.0.1 dev eth0 proto static"), "{routes}");
    assert!(routes.contains("10.98.0.0/16 dev eth0 proto static scope link"), "{routes}");
}

/// A network beyond the host: `lan` of the host, `eth0` of the neighbour.
fn neighbour(host: &Netns) -> Option<Netns> {
    let neighbour = Netns::new()?;
    let spec = parse_link(
        "veth:host=lan,address=192.0.2.9/24,address=2001:db8::9/64,host-address=192.0.2.1/24,host-address=2001:db8::1/64",
    );
    let spec = spec.unwrap();
    host.run(|| create_link(&spec, &plan_record(&spec, "neighbour", None), neighbour.fd())).unwrap();
    Some(neighbour)
}

#[test]
fn a_routed_container_is_reached_by_neighbours_of_the_host() {
    let Some((host, container)) = pair() else { return };
    let Some(neighbour) = neighbour(&host) else { return };
    host.run(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    });
    let text = "veth:mode=routed,parent=lan,address=192.0.2.77/32,address=2001:db8::77/128";
    let (_, record) = attach(&host, &container, text);
    for address in ["192.0.2.77:0", "[2001:db8::77]:0"] {
        // The neighbour asks who has the address, and the host answers.
        reaches(&neighbour, &container, address);
        reaches(&host, &container, address);
    }
    for address in ["192.0.2.9:0", "[2001:db8::9]:0", "192.0.2.1:0"] {
        reaches(&container, if address.ends_with("1:0") { &host } else { &neighbour }, address);
    }
    assert!(host.ip("neigh show proxy").contains("192.0.2.77 dev lan"));
    assert!(host.run(|| undo_link(&record)).unwrap());
    assert_eq!((host.ip("neigh show proxy").trim(), host.ip("route show 192.0.2.77").trim()), ("", ""));
    assert!(!host.run(|| undo_link(&record)).unwrap());
}

#[test]
fn a_macvlan_is_a_neighbour_of_its_own() {
    let Some((host, container)) = pair() else { return };
    let Some(neighbour) = neighbour(&host) else { return };
    let (_, record) = attach(&host, &container, "macvlan:parent=lan,address=192.0.2.50/24,address=2001:db8::50/64");
    reaches(&neighbour, &container, "192.0.2.50:0");
    reaches(&container, &neighbour, "[2001:db8::9]:0");
    assert!(container.ip("-d link show eth0").contains("macvlan mode bridge"));
    assert_eq!(host.names(), ["lo", "lan"]);
    assert!(!host.run(|| undo_link(&record)).unwrap(), "it goes with the container's network namespace");
    let (spec, record) = plan("macvlan:parent=lan,name=second,gateway=fe80::9,mtu=1400,mode=private");
    host.run(|| create_link(&spec, &record, container.fd())).unwrap();
    assert_eq!(container.find("second").unwrap().0.mtu, 1400);
}

#[test]
fn a_link_in_a_namespace_that_stays_is_deleted_there() {
    let Some((host, container)) = pair() else { return };
    host.ip("link add v0 type veth peer name v1");
    let spec = parse_link("macvlan:parent=v0").unwrap();
    let folder = Folder::new("inside");
    let pin = folder.pin();
    container.run(|| pin_netns(&pin, container.fd())).unwrap();
    let record = plan_record(&spec, "web1", Some(&pin));
    host.run(|| create_link(&spec, &record, container.fd())).unwrap();
    assert_eq!(container.names(), ["lo", "eth0"]);
    assert!(host.run(|| undo_link(&record)).unwrap());
    assert!(!host.run(|| undo_link(&record)).unwrap());
    assert_eq!(container.names(), ["lo"]);
    sys::mount::unmount(&pin, sys::mount::UnmountFlags::DETACH).unwrap();
}

/// The kinds that this kernel may lack.
#[test]
fn a_kind_that_the_kernel_lacks_is_named() {
    for (text, kind) in [
        ("vlan:parent=lan,id=7,address=10.7.7.2/24", "vlan"),
        ("ipvlan:parent=lan,mode=l2,address=192.0.2.60/24", "ipvlan"),
    ] {
        let Some((host, container)) = pair() else { return };
        let Some(neighbour) = neighbour(&host) else { return };
        let (spec, record) = plan(text);
        match host.run(|| create_link(&spec, &record, container.fd())) {
            Ok(()) if kind == "ipvlan" => reaches(&neighbour, &container, "192.0.2.60:0"),
            Ok(()) => assert!(container.ip("-d link show eth0").contains("vlan protocol 802.1Q id 7")),
            Err(error) => {
                let expected = format!(
                    "this kernel has no network devices of kind {kind:?}: operation not supported (EOPNOTSUPP)"
                );
                assert_eq!((error.to_string(), error.errno()), (expected, Some(Errno::OPNOTSUPP)));
                assert_eq!(container.names(), ["lo"]);
            }
        }
    }
}

/// A folder of a test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("network-links-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn pin(&self) -> String {
        self.0.join("netns").to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn a_device_of_the_host_comes_back_when_the_container_is_gone() {
    let Some((host, container)) = pair() else { return };
    let Some(neighbour) = neighbour(&host) else { return };
    let folder = Folder::new("phys");
    let spec = parse_link("phys:device=lan,name=net0,address=192.0.2.30/24,gateway=192.0.2.9").unwrap();
    let record = host.run(|| read_phys(&spec, &folder.pin(), container.fd())).unwrap().unwrap();
    let record: LinkRecord = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
    assert!(host.run(|| undo_link(&record)).unwrap(), "nothing has happened yet, and the device is there");
    pin_netns(&folder.pin(), container.fd()).unwrap();
    host.run(|| create_link(&spec, &record, container.fd())).unwrap();
    assert_eq!((host.names(), container.names()), (vec!["lo".to_owned()], vec!["lo".to_owned(), "net0".to_owned()]));
    reaches(&neighbour, &container, "192.0.2.30:0");
    assert!(container.ip("route show default").starts_with("default via 192.0.2.9 dev net0"));
    drop(container);
    assert!(host.run(|| undo_link(&record)).unwrap());
    assert_eq!(host.addresses("lan"), ["192.0.2.1/24", "2001:db8::1/64"]);
    reaches(&neighbour, &host, "192.0.2.1:0");
    assert!(!std::path::Path::new(&folder.pin()).exists());
    assert!(host.run(|| undo_link(&record)).unwrap(), "again is fine");
}

/// Bytes of payload in a datagram of the measurement, and of the packet on the link: UDP, IPv4 and Ethernet headers.
const PAYLOAD: usize = 1400;
const PACKET: f64 = 1400.0 + 8.0 + 20.0 + 14.0;

/// What a flood of datagrams carries in three seconds after half a second to begin with, as bits per second on the link.
/// A flood rather than a connection: TCP gives way for reasons of its own when the machine is busy.
fn measure(from: &Netns, to: &Netns, address: &str) -> f64 {
    let socket = to.run(|| UdpSocket::bind(address).unwrap());
    let target = socket.local_addr().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let sender = from.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
            let mut last = Instant::now();
            while !done.load(Ordering::Relaxed) {
                // 80 Mbit/s in all: more than any limit here, and little work. ENOBUFS says that the queue is full.
                for _ in 0..7 {
                    sender.send_to(&[7; PAYLOAD], target).ok();
                }
                std::thread::sleep(Duration::from_millis(1).saturating_sub(last.elapsed()));
                last = Instant::now();
            }
        });
        let mut buffer = [0; 2 * PAYLOAD];
        let mut receive_for = |time: Duration| {
            let (begin, mut packets) = (Instant::now(), 0u32);
            while begin.elapsed() < time {
                socket.recv(&mut buffer).unwrap();
                packets += 1;
            }
            f64::from(packets) * PACKET * 8.0 / begin.elapsed().as_secs_f64()
        };
        receive_for(Duration::from_millis(500));
        let rate = receive_for(Duration::from_secs(3));
        done.store(true, Ordering::Relaxed);
        rate
    })
}

#[test]
fn limits_hold_in_each_direction_alone() {
    let Some((host, container)) = pair() else { return };
    let base = "veth:address=10.7.0.2/24,host-address=10.7.0.1/24";
    let (_, record) = attach(&host, &container, &format!("{base},egress=10mbit,ingress=40mbit"));
    let (up, down) = std::thread::scope(|scope| {
        let up = scope.spawn(|| measure(&container, &host, "10.7.0.1:0"));
        let down = scope.spawn(|| measure(&host, &container, "10.7.0.2:0"));
        (up.join().unwrap(), down.join().unwrap())
    });
    eprintln!("up {up:.0} bit/s of 10 Mbit/s, down {down:.0} bit/s of 40 Mbit/s");
    assert!((9.5e6..=10.5e6).contains(&up), "{up}");
    assert!((38e6..=42e6).contains(&down), "{down}");
    assert_eq!(host.names().len(), 3);
    assert!(host.run(|| undo_link(&record)).unwrap());
    assert_eq!(host.names(), ["lo"]);
}

#[test]
fn a_taken_name_of_the_shaper_leaves_nothing() {
    let Some((host, container)) = pair() else { return };
    let (spec, record) = plan("veth:egress=1mbit");
    let LinkRecord::Veth { shaper: Some(shaper), .. } = &record else { panic!("{record:?}") };
    host.ip(&format!("link add {} type bridge", shaper.name));
    let error = host.run(|| create_link(&spec, &record, container.fd())).unwrap_err();
    assert!(matches!(&error, Error::Taken { name, place: Place::Host } if *name == shaper.name), "{error}");
    assert_eq!((host.names().len(), container.names().len()), (2, 1));
}

#[test]
fn limits_beyond_32_bits_are_kept() {
    let Some((host, container)) = pair() else { return };
    attach(&host, &container, "veth:host=v0,ingress=100gbit,egress=8kbit");
    let shown = host.run(|| {
        let out = std::process::Command::new("tc").args(["qdisc", "show"]).output().expect("iproute2");
        String::from_utf8(out.stdout).unwrap()
    });
    assert!(shown.contains("rate 100Gbit"), "{shown}");
    assert!(shown.contains("rate 8Kbit"), "{shown}");
}

#[test]
fn loopback_is_not_needed_for_a_link() {
    let Some((host, container)) = pair() else { return };
    host.run(loopback_up).unwrap();
    attach(&host, &container, "veth:address=10.7.0.2/24,host-address=10.7.0.1/24");
    reaches(&container, &host, "10.7.0.1:0");
}

/// Bits per second at which iperf3 gets 400 MB through, to an address where its server listens; None while it does not.
fn iperf3(from: &Netns, address: &str) -> Option<f64> {
    let output = from.run(|| {
        std::process::Command::new("iperf3")
            .args(["-c", address, "-n", "400M", "-J", "--connect-timeout", "5000"])
            .output()
            .unwrap()
    });
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    answer.pointer("/end/sum_received/bits_per_second").and_then(serde_json::Value::as_f64)
}

/// A program that is killed at the end.
struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Pairs of runs, one through our link and one through a link made by hand, until the median of their ratios says enough.
#[test]
fn a_link_is_as_fast_as_one_made_by_hand() {
    if std::process::Command::new("iperf3").arg("-v").output().is_err() {
        eprintln!("skipped: needs iperf3");
        return;
    }
    let Some((host, container)) = pair() else { return };
    attach(&host, &container, "veth:address=10.7.0.2/24,host-address=10.7.0.1/24");
    host.ip("link add hand0 type veth peer name hand1");
    host.ip("addr add 10.8.0.1/24 dev hand0");
    host.ip("link set hand0 up");
    host.run(|| {
        // The namespace of the container, as ip(8) can find it.
        let pid = container.run(|| Server(std::process::Command::new("sleep").arg("60").spawn().unwrap()));
        host.ip(&format!("link set hand1 netns {}", pid.0.id()));
    });
    container.ip("addr add 10.8.0.2/24 dev hand1");
    container.ip("link set hand1 up");
    let serve =
        || std::process::Command::new("iperf3").args(["-s"]).stdout(std::process::Stdio::null()).spawn().unwrap();
    let _server = Server(host.run(serve));
    // The server takes a moment to begin, and between two clients.
    let carried = |address: &str| {
        let begun = Instant::now();
        loop {
            if let Some(rate) = iperf3(&container, address) {
                return rate;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "the server does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    carried("10.7.0.1");
    let mut ratios: Vec<f64> = Vec::new();
    let median = |ratios: &mut Vec<f64>| {
        ratios.sort_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    };
    while ratios.len() < 60 {
        let ours = carried("10.7.0.1");
        let hand = carried("10.8.0.1");
        ratios.push(ours / hand);
        if ratios.len() >= 7 && median(&mut ratios) >= 0.97 {
            break;
        }
    }
    let (pairs, ratio) = (ratios.len(), median(&mut ratios));
    eprintln!("{ratio:.3} of a link made by hand (median of {pairs} pairs)");
    assert!(ratio >= 0.97, "{ratios:?}");
}
