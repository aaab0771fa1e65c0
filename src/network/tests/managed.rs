//! Managed networks against the real kernel: hosts, containers and neighbours are network namespaces of the tests' own.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests; a skipped test says why")]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use network::managed::{self, Lease, Network, NewNetwork, PortForward, Store, Tools, Wanted};
use network::{LinkRecord, create_link, loopback_up, parse_link, plan_record, undo_link};

use common::Netns;

/// A host with networks.
struct Host {
    net: Netns,
    store: Store,
    tools: Tools,
    folder: PathBuf,
}

/// A container with a lease in a network.
struct Guest {
    net: Netns,
    lease: Lease,
    record: LinkRecord,
}

impl Host {
    fn new() -> Option<Host> {
        let net = Netns::new()?;
        net.run(loopback_up).unwrap();
        Some(Host::within(net))
    }

    /// The same host with another data folder.
    fn within(net: Netns) -> Host {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("network-managed-{}-{number}", std::process::id()));
        let store = Store::open(folder.to_str().unwrap()).unwrap();
        let path = |name: &str| Some(format!("/usr/sbin/{name}")).filter(|path| Path::new(path).exists());
        // A test of docker's chains says so: else each call would cost two more programs.
        let tools = Tools { nft: path("nft"), iptables: None, ip6tables: None };
        assert!(tools.nft.is_some(), "nftables is installed for these tests");
        Host { net, store, tools, folder }
    }

    fn create(&self, new: &NewNetwork) -> Network {
        let network = self.net.run(|| managed::create(&self.store, new)).unwrap();
        self.ensure(&network.name);
        network
    }

    fn ensure(&self, name: &str) {
        self.net.run(|| managed::ensure(&self.store, &self.tools, name)).unwrap();
    }

    fn start(&self, network: &str, container: &str) -> Guest {
        let lease = managed::lease(&self.store, network, container, &Wanted::default()).unwrap();
        let net = Netns::new().unwrap();
        net.run(loopback_up).unwrap();
        let (definition, _) = managed::read(&self.store, network).unwrap();
        let spec = managed::plan_link(&definition, &lease, "eth0");
        let record = plan_record(&spec, container, None);
        self.net.run(|| create_link(&spec, &record, net.fd())).unwrap();
        Guest { net, lease, record }
    }

    fn publish(&self, network: &str, container: &str, forwards: &[&str]) -> Result<(), managed::Error> {
        let forwards: Vec<PortForward> = forwards.iter().map(|text| text.parse().unwrap()).collect();
        self.net.run(|| managed::publish(&self.store, &self.tools, network, container, &forwards))
    }

    fn ruleset(&self) -> String {
        self.net.run(|| program("nft", &["list", "ruleset"]))
    }

    /// A neighbour on a network of its own, 192.0.2.0/24 and 2001:db8::/64, where the host has .1.
    fn neighbour(&self) -> Netns {
        let neighbour = Netns::new().unwrap();
        let spec = parse_link(
            "veth:host=wan,address=192.0.2.9/24,address=2001:db8::9/64,host-address=192.0.2.1/24,\
             host-address=2001:db8::1/64",
        )
        .unwrap();
        self.net.run(|| create_link(&spec, &plan_record(&spec, "neighbour", None), neighbour.fd())).unwrap();
        neighbour
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

impl Guest {
    fn ip(&self, v6: bool) -> IpAddr {
        self.lease.addresses.iter().map(|prefix| prefix.ip).find(|ip| ip.is_ipv6() == v6).unwrap()
    }
}

fn program(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(name).args(arguments).output().unwrap();
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn both(name: &str) -> NewNetwork {
    let subnets = vec!["10.90.0.0/24".parse().unwrap(), "fd90::/64".parse().unwrap()];
    NewNetwork { subnets, ..NewNetwork::new(name) }
}

/// Answers each connection with the address that it comes from, until dropped.
struct Server {
    net: Netns,
    target: SocketAddr,
}

/// Serves in a network namespace: on a thread that stays there.
fn serve(net: &Netns, address: &str) -> Server {
    let listener = net.run(|| TcpListener::bind(address).unwrap());
    let target = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap().ip().to_string();
            if peer == "0.0.0.0" || stream.write_all(peer.as_bytes()).is_err() {
                return;
            }
        }
    });
    Server { net: Netns(net.fd().try_clone_to_owned().unwrap()), target }
}

impl Server {
    fn port(&self) -> u16 {
        assert!(!self.net.names().is_empty());
        self.target.port()
    }
}

/// Connects and returns the address that the server saw.
fn ask(from: &Netns, target: impl std::fmt::Display) -> Result<String, std::io::Error> {
    let target: SocketAddr = target.to_string().parse().unwrap();
    let mut stream = from.run(|| TcpStream::connect_timeout(&target, Duration::from_secs(4)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn refused(from: &Netns, target: impl std::fmt::Display) {
    let target: SocketAddr = target.to_string().parse().unwrap();
    let wait = Duration::from_millis(700);
    assert!(from.run(|| TcpStream::connect_timeout(&target, wait)).is_err(), "{target} must not be reached");
}

/// An address with a port, as sockets write it.
fn at(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}

#[test]
fn fifty_containers_reach_each_other_the_host_and_a_server_beyond() {
    let Some(host) = Host::new() else { return };
    let neighbour = host.neighbour();
    host.create(&both("lan"));
    let guests: Vec<Guest> = (0..50).map(|number| host.start("lan", &format!("c{number}"))).collect();
    let servers: Vec<Server> = guests.iter().map(|guest| serve(&guest.net, "[::]:0")).collect();
    let far = serve(&neighbour, "[::]:0");
    let near = serve(&host.net, "[::]:0");
    for v6 in [false, true] {
        let (server, gateway) = if v6 { ("2001:db8::9", "fd90::1") } else { ("192.0.2.9", "10.90.0.1") };
        for (number, guest) in guests.iter().enumerate() {
            let next = (number + 1) % guests.len();
            let seen = ask(&guest.net, at(guests[next].ip(v6), servers[next].port())).unwrap();
            assert!(seen.ends_with(&guest.ip(v6).to_string()), "{seen}");
            ask(&host.net, at(guest.ip(v6), servers[number].port())).unwrap();
            ask(&guest.net, at(gateway.parse().unwrap(), near.port())).unwrap();
            let seen = ask(&guest.net, at(server.parse().unwrap(), far.port())).unwrap();
            assert!(seen.ends_with(if v6 { "2001:db8::1" } else { "192.0.2.1" }), "behind the host: {seen}");
        }
        // The neighbour has no way in, even with a route.
        neighbour.ip(if v6 {
            "-6 route add fd90::/64 via 2001:db8::1"
        } else {
            "route add 10.90.0.0/24 via 192.0.2.1"
        });
        refused(&neighbour, at(guests[0].ip(v6), servers[0].port()));
    }
    let names = managed::read_names(&host.store, &["lan"]).unwrap();
    assert_eq!(names.len(), 50);
    host.net.run(|| guests.iter().for_each(|guest| assert!(undo_link(&guest.record).unwrap())));
    let gone = host.net.run(|| managed::reconcile(&host.store, &host.tools, &["c7"])).unwrap();
    assert_eq!(gone.len(), 49);
    let exists = |name: &str| name == "c7";
    let error = host.net.run(|| managed::remove(&host.store, &host.tools, "lan", &exists)).unwrap_err();
    assert_eq!(error.to_string(), "network \"lan\" is in use by c7");
    host.net.run(|| managed::remove(&host.store, &host.tools, "lan", &|_| false)).unwrap();
    assert_eq!((host.net.names(), host.ruleset().as_str()), (vec!["lo".to_owned(), "wan".to_owned()], ""));
    assert_eq!(std::fs::read_dir(host.folder.join("networks")).unwrap().count(), 1, "the lock alone");
}

#[test]
fn ports_of_the_host_lead_to_a_container_from_everywhere() {
    let Some(host) = Host::new() else { return };
    let neighbour = host.neighbour();
    host.create(&both("lan"));
    let (web, other) = (host.start("lan", "web"), host.start("lan", "other"));
    let server = serve(&web.net, "[::]:0");
    let port = server.port();
    host.publish("lan", "web", &[&format!("8080:{port}"), &format!("127.0.0.1:9090:{port}")]).unwrap();
    for _ in 0..2 {
        let seen = ask(&neighbour, "192.0.2.1:8080").unwrap();
        assert!(seen.ends_with("192.0.2.9"), "the container sees who asks: {seen}");
        assert_eq!(ask(&neighbour, "[2001:db8::1]:8080").unwrap(), "2001:db8::9");
        for (number, (from, target)) in [
            (&host.net, "192.0.2.1:8080"),
            (&host.net, "10.90.0.1:8080"),
            (&host.net, "127.0.0.1:8080"),
            (&host.net, "127.0.0.1:9090"),
            (&host.net, "[2001:db8::1]:8080"),
            (&other.net, "192.0.2.1:8080"),
            (&other.net, "[2001:db8::1]:8080"),
            (&other.net, "10.90.0.1:8080"),
            (&web.net, "192.0.2.1:8080"),
            (&web.net, "10.90.0.1:8080"),
            (&web.net, "[2001:db8::1]:8080"),
        ]
        .into_iter()
        .enumerate()
        {
            ask(from, target).unwrap_or_else(|error| panic!("{number}: {target}: {error}"));
        }
        let error = ask(&host.net, "[::1]:8080").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "at once: programs try 127.0.0.1 next");
        refused(&neighbour, "192.0.2.1:9090");
        refused(&other.net, "10.90.0.1:9090");
        // Again, as after a crash: nothing changes.
        host.ensure("lan");
    }
    let error = host.publish("lan", "other", &["8000-8100:1-101"]).unwrap_err();
    assert_eq!(error.to_string(), "port 8000-8100:1-101/tcp of the host leads to container \"web\" already");
    let error = host.publish("lan", "nobody", &["1:1"]).unwrap_err();
    assert_eq!(error.to_string(), "container \"nobody\" has no address in network \"lan\"");
    assert!(host.net.run(|| managed::unpublish(&host.store, &host.tools, "web")).unwrap());
    assert!(!host.net.run(|| managed::unpublish(&host.store, &host.tools, "web")).unwrap());
    refused(&neighbour, "192.0.2.1:8080");
    refused(&host.net, "127.0.0.1:9090");
    assert!(!host.ruleset().contains("chain prerouting"));
}

#[test]
fn udp_and_ranges_of_ports() {
    let Some(host) = Host::new() else { return };
    let neighbour = host.neighbour();
    host.create(&both("lan"));
    let guest = host.start("lan", "dns");
    host.publish("lan", "dns", &["5300-5302:6300-6302/udp"]).unwrap();
    for offset in 0..3u16 {
        let socket = guest.net.run(|| UdpSocket::bind(("0.0.0.0", 6300 + offset)).unwrap());
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let client = neighbour.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.send_to(b"ask", ("192.0.2.1", 5300 + offset)).unwrap();
        let mut buffer = [0; 8];
        let (_, from) = socket.recv_from(&mut buffer).unwrap();
        socket.send_to(b"answer", from).unwrap();
        let (length, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from.port()), (&b"answer"[..], 5300 + offset));
    }
}

/// A flow that began before the forward, and one that goes on after it: both follow the forward as it is now.
#[test]
fn datagrams_of_old_flows_follow_the_forward() {
    let Some(host) = Host::new() else { return };
    let neighbour = host.neighbour();
    host.create(&both("lan"));
    for (address, any) in [("192.0.2.1:5400", "0.0.0.0:0"), ("[2001:db8::1]:5400", "[::]:0")] {
        let client = neighbour.run(|| UdpSocket::bind(any).unwrap());
        client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let ask = |expected: Option<&[u8]>| {
            // A packet may be lost while the neighbours find each other.
            let mut buffer = [0; 8];
            let answer = (0..5).find_map(|_| {
                // One that was refused before is told now.
                client.send_to(b"ask", address).ok();
                client.recv_from(&mut buffer).ok().map(|(length, _)| buffer[..length].to_vec())
            });
            assert_eq!(answer.as_deref(), expected, "{address}");
        };
        ask(None);
        for name in ["first", "second"] {
            let guest = host.start("lan", name);
            let socket = guest.net.run(|| UdpSocket::bind("[::]:6400").unwrap());
            std::thread::spawn(move || {
                let mut buffer = [0; 8];
                while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                    socket.send_to(name.as_bytes(), from).ok();
                }
            });
            host.publish("lan", name, &["5400:6400/udp"]).unwrap();
            ask(Some(name.as_bytes()));
            assert!(host.net.run(|| managed::release(&host.store, &host.tools, name)).unwrap());
            ask(None);
            host.net.run(|| undo_link(&guest.record)).unwrap();
        }
    }
}

#[test]
fn a_port_on_which_a_program_listens_is_not_taken_from_it() {
    let Some(host) = Host::new() else { return };
    host.create(&both("lan"));
    host.start("lan", "web");
    let listener = host.net.run(|| TcpListener::bind("127.0.0.1:8500").unwrap());
    let error = host.publish("lan", "web", &["8499-8501:1-3"]).unwrap_err().to_string();
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    let who = format!("{} (pid {}) listens on 127.0.0.1:8500", name.trim(), std::process::id());
    assert_eq!(error, format!("port 8499-8501:1-3/tcp of the host is in use: {who}"));
    host.publish("lan", "web", &["8500:1/udp", "192.0.2.1:8500:1"]).unwrap();
    let error = host.publish("lan", "web", &["127.0.0.1:8500:1"]).unwrap_err();
    assert!(matches!(error, managed::Error::PortInUse { .. }), "{error}");
    drop(listener);
    let socket = host.net.run(|| UdpSocket::bind("[::]:8600").unwrap());
    let error = host.publish("lan", "web", &["8600:1/udp"]).unwrap_err().to_string();
    assert!(error.contains("listens on [::]:8600"), "{error}");
    drop(socket);
    host.publish("lan", "web", &["8500:1", "8600:1/udp"]).unwrap();
}

/// Two data folders on one host: neither changes rules, bridges or forwards of the other.
#[test]
fn two_data_folders_do_not_take_each_others_rules() {
    let Some(first) = Host::new() else { return };
    let neighbour = first.neighbour();
    let second = Host::within(Netns(first.net.0.try_clone().unwrap()));
    assert_ne!(first.store.table(), second.store.table());
    first.create(&both("lan"));
    let guest = first.start("lan", "web");
    let server = serve(&guest.net, "[::]:0");
    first.publish("lan", "web", &[&format!("8700:{}", server.port())]).unwrap();
    let error = second.net.run(|| managed::create(&second.store, &NewNetwork::new("lan"))).unwrap_err();
    assert!(matches!(error, managed::Error::Foreign { .. }), "{error}");
    // The table of a version that had one name for all: theirs stays, ours goes with the next change.
    let old = |bridge: &str| {
        let rules =
            format!("add table inet skep; add set inet skep bridges {{ type ifname; elements = {{ {bridge:?} }}; }}");
        first.net.run(|| program("nft", &[&rules]));
    };
    old("skep-lan");
    second.create(&NewNetwork { subnets: vec!["10.91.0.0/24".parse().unwrap()], ..NewNetwork::new("other") });
    assert!(first.ruleset().contains("table inet skep {"), "{}", first.ruleset());
    second.start("other", "mail");
    second.publish("other", "mail", &["8701:80"]).unwrap();
    assert!(ask(&neighbour, "192.0.2.1:8700").is_ok());
    second.net.run(|| managed::remove(&second.store, &second.tools, "other", &|_| false)).unwrap();
    assert!(ask(&neighbour, "192.0.2.1:8700").is_ok());
    first.ensure("lan");
    assert!(!first.ruleset().contains("table inet skep {"), "{}", first.ruleset());
    assert!(ask(&neighbour, "[2001:db8::1]:8700").is_ok());
    first.net.run(|| managed::remove(&first.store, &first.tools, "lan", &|_| false)).unwrap();
    assert_eq!(first.ruleset(), "");
}

#[test]
fn networks_are_apart_unless_they_are_told() {
    let Some(host) = Host::new() else { return };
    let neighbour = host.neighbour();
    let network =
        |name: &str, subnet: &str| NewNetwork { subnets: vec![subnet.parse().unwrap()], ..NewNetwork::new(name) };
    host.create(&network("a", "10.91.0.0/24"));
    host.create(&NewNetwork { isolate: false, ..network("b", "10.92.0.0/24") });
    host.create(&NewNetwork { isolate: false, ..network("c", "10.93.0.0/24") });
    host.create(&NewNetwork { internal: true, ..network("d", "10.94.0.0/24") });
    host.create(&NewNetwork { nat: false, ..network("e", "10.95.0.0/24") });
    let guests: Vec<Guest> = ["a", "b", "c", "d", "e"].iter().map(|name| host.start(name, name)).collect();
    let servers: Vec<Server> = guests.iter().map(|guest| serve(&guest.net, "0.0.0.0:0")).collect();
    let target = |number: usize| at(guests[number].ip(false), servers[number].port());
    let seen = ask(&guests[1].net, target(2)).unwrap();
    assert_eq!(seen, guests[1].ip(false).to_string(), "no address in between");
    refused(&guests[0].net, target(1));
    refused(&guests[1].net, target(0));
    let far = serve(&neighbour, "0.0.0.0:0");
    let far = format!("192.0.2.9:{}", far.port());
    refused(&guests[3].net, &far);
    assert!(ask(&host.net, target(3)).is_ok(), "the host reaches a network that is inside alone");
    neighbour.ip("route add 10.95.0.0/24 via 192.0.2.1");
    assert_eq!(ask(&neighbour, target(4)).unwrap(), "192.0.2.9");
    assert_eq!(ask(&guests[4].net, &far).unwrap(), guests[4].ip(false).to_string());
    // Ports are a way in between networks that are apart, but not into or out of one that is inside alone.
    host.publish("a", "a", &[&format!("7000:{}", servers[0].port())]).unwrap();
    assert!(ask(&guests[1].net, "192.0.2.1:7000").is_ok());
    guests[3].net.ip("route add default via 10.94.0.1");
    refused(&guests[3].net, "192.0.2.1:7000");
}

#[test]
fn loopback_of_the_host_is_out_of_reach() {
    let Some(host) = Host::new() else { return };
    host.create(&both("lan"));
    let guest = host.start("lan", "bad");
    let server = serve(&host.net, "127.0.0.1:0");
    guest.net.ip("route add 127.0.0.0/8 via 10.90.0.1 dev eth0 table 7");
    guest.net.ip("addr del 127.0.0.1/8 dev lo");
    guest.net.run(|| std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap());
    guest.net.ip("route del 127.0.0.0/8 table 7");
    guest.net.ip("route add 127.0.0.1/32 via 10.90.0.1 dev eth0");
    refused(&guest.net, server.target);
}

#[test]
fn what_was_interrupted_is_put_right() {
    let Some(host) = Host::new() else { return };
    let network = host.create(&both("lan"));
    let rules = host.ruleset();
    host.net.run(|| program("nft", &["delete", "table", "inet", host.store.table()]));
    host.net.ip("link set skep-lan down");
    host.net.ip("addr flush dev skep-lan");
    host.net.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap());
    host.ensure("lan");
    assert_eq!(host.ruleset(), rules);
    assert_eq!(host.net.addresses("skep-lan"), ["10.90.0.1/24", "fd90::1/64"]);
    host.net.ip("link del skep-lan");
    host.ensure("lan");
    let (link, _) = host.net.find("skep-lan").unwrap();
    assert!(link.up);
    let forwards = host.net.run(|| std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap());
    assert_eq!(forwards.trim(), "1");
    // A half-written file is nobody's.
    std::fs::write(host.folder.join("networks/.lan.leases.new"), b"{\"lea").unwrap();
    managed::lease(&host.store, "lan", "web", &Wanted::default()).unwrap();
    // Removed half: the definition is gone, the rules are not.
    std::fs::remove_file(host.folder.join("networks/lan.json")).unwrap();
    host.net.run(|| managed::reconcile(&host.store, &host.tools, &[])).unwrap();
    assert_eq!(host.ruleset(), "");
    assert!(matches!(managed::read(&host.store, "lan"), Err(managed::Error::Missing { .. })));
    let again =
        host.net.run(|| managed::create(&host.store, &NewNetwork { bridge: Some("other".into()), ..both("dmz") }));
    assert!(again.is_err(), "the bridge of the lost definition still has the addresses");
    host.net.ip("link del skep-lan");
    assert_eq!(host.net.run(|| managed::create(&host.store, &both("lan"))).unwrap(), network);
    let (_, leases) = managed::read(&host.store, "lan").unwrap();
    assert!(leases.leases.is_empty(), "leases of the network before it are nobody's");
}

#[test]
fn a_device_in_the_place_of_the_bridge_is_refused() {
    let Some(host) = Host::new() else { return };
    host.net.run(|| managed::create(&host.store, &both("lan"))).unwrap();
    host.net.ip("link add skep-lan type veth peer name v1");
    let error = host.net.run(|| managed::ensure(&host.store, &host.tools, "lan")).unwrap_err();
    assert_eq!(error.to_string(), "network device \"skep-lan\" is no bridge");
    host.net.run(|| managed::remove(&host.store, &host.tools, "lan", &|_| false)).unwrap();
    assert!(host.net.names().contains(&"skep-lan".to_owned()), "it is somebody else's");
}

#[test]
fn a_bridge_of_somebody_else_is_neither_taken_nor_deleted() {
    let Some(host) = Host::new() else { return };
    host.net.ip("link add br0 type bridge");
    let new = NewNetwork { bridge: Some("br0".into()), ..both("lan") };
    let error = host.net.run(|| managed::create(&host.store, &new)).unwrap_err();
    assert!(matches!(error, managed::Error::Foreign { .. }), "{error}");
    // It came later than the definition.
    host.net.ip("link del br0");
    host.net.run(|| managed::create(&host.store, &new)).unwrap();
    host.net.ip("link add br0 type bridge");
    let error = host.net.run(|| managed::ensure(&host.store, &host.tools, "lan")).unwrap_err();
    assert!(matches!(error, managed::Error::Foreign { .. }), "{error}");
    host.net.run(|| managed::remove(&host.store, &host.tools, "lan", &|_| false)).unwrap();
    assert!(host.net.names().contains(&"br0".to_owned()), "it is somebody else's");
}

#[test]
fn the_host_does_not_listen_to_routers_among_containers() {
    let Some(host) = Host::new() else { return };
    let network = host.create(&both("lan"));
    let web = host.start("lan", "web");
    let LinkRecord::Veth { host: end, .. } = &web.record else { panic!("{:?}", web.record) };
    let read = |path: String| {
        let text = host.net.run(|| std::fs::read_to_string(format!("/proc/sys/net/{path}")).unwrap());
        text.trim().to_owned()
    };
    assert_eq!(read(format!("ipv6/conf/{}/accept_ra", network.bridge)), "0");
    assert_eq!(read(format!("ipv6/conf/{}/accept_ra", end.name)), "0");
    for family in ["ipv4", "ipv6"] {
        assert_eq!(read(format!("{family}/conf/{}/accept_redirects", end.name)), "0");
    }
    assert_eq!(read("ipv6/conf/default/accept_ra".to_owned()), "1", "for devices that come later");
}

#[test]
fn a_damaged_file_is_named() {
    let Some(host) = Host::new() else { return };
    host.net.run(|| managed::create(&host.store, &both("lan"))).unwrap();
    std::fs::write(host.folder.join("networks/lan.leases"), b"{").unwrap();
    let error = managed::read(&host.store, "lan").unwrap_err();
    assert!(error.to_string().ends_with("networks/lan.leases cannot be read"), "{error}");
}

/// Set in processes that allocate: the folder and a number.
const ALLOCATE: &str = "NETWORK_TEST_ALLOCATE";

/// Processes take and give back addresses at the same time, and some are killed on the way: no address has two owners, and
/// nothing is stuck.
#[test]
fn addresses_are_nobodys_twice_under_kills() {
    if let Some(value) = std::env::var_os(ALLOCATE) {
        let value = value.into_string().unwrap();
        let (folder, number) = value.rsplit_once('#').unwrap();
        let store = Store::open(folder).unwrap();
        for round in 0u32.. {
            let name = format!("p{number}-{round}");
            managed::lease(&store, "lan", &name, &Wanted::default()).unwrap();
            if round % 3 == 2 {
                let old = format!("p{number}-{}", round - 2);
                managed::release(&store, &Tools::default(), &old).unwrap();
            }
            if round == 60 {
                return;
            }
        }
    }
    let Some(host) = Host::new() else { return };
    let subnets = vec!["10.90.0.0/20".parse().unwrap()];
    host.net.run(|| managed::create(&host.store, &NewNetwork { subnets, ..NewNetwork::new("lan") })).unwrap();
    let start = |number: u32| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "addresses_are_nobodys_twice_under_kills"])
            .env(ALLOCATE, format!("{}#{number}", host.folder.display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut children: Vec<_> = (0..10).map(start).collect();
    for (number, child) in children.iter_mut().enumerate().skip(5) {
        std::thread::sleep(Duration::from_millis(40 * u64::try_from(number).unwrap()));
        child.kill().unwrap();
        child.wait().unwrap();
        let (_, leases) = managed::read(&host.store, "lan").unwrap();
        let mut ips: Vec<_> = leases.leases.iter().map(|lease| lease.addresses[0].ip).collect();
        ips.sort_unstable();
        let all = ips.len();
        ips.dedup();
        assert_eq!(ips.len(), all);
    }
    for mut child in children.into_iter().take(5) {
        assert!(child.wait().unwrap().success());
    }
    let (_, leases) = managed::read(&host.store, "lan").unwrap();
    for number in 0..5 {
        let of_process = leases.leases.iter().filter(|lease| lease.container.starts_with(&format!("p{number}-")));
        assert_eq!(of_process.count(), 41, "61 taken, 20 given back");
    }
    managed::lease(&host.store, "lan", "after", &Wanted::default()).unwrap();
}

#[test]
fn fifty_starts_and_stops_leave_nothing() {
    let Some(host) = Host::new() else { return };
    host.create(&both("lan"));
    let (rules, names) = (host.ruleset(), host.net.names());
    for _ in 0..50 {
        host.ensure("lan");
        let guest = host.start("lan", "web");
        host.publish("lan", "web", &["8080:80"]).unwrap();
        host.net.run(|| assert!(undo_link(&guest.record).unwrap()));
        assert!(host.net.run(|| managed::release(&host.store, &host.tools, "web")).unwrap());
    }
    assert_eq!((host.ruleset(), host.net.names()), (rules, names));
}
