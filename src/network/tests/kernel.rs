//! Against the real kernel, as root, in network namespaces of the tests' own that go with the last descriptor of them.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;

use network::{
    DeviceMove, Error, HostEnd, LinkAddress, LinkRecord, LinkSpec, Place, Undone, apply_device_move, create_link,
    delete_link, list_addresses, loopback_up, parse_veth, plan_record, read_device_move, undo_device_move, undo_link,
};
use sys::Errno;

use common::{Netns, identity, pair};

fn record(spec: &LinkSpec, id: &str) -> LinkRecord {
    plan_record(spec, id, None)
}

/// The end on the host of a veth.
fn host_end(record: &LinkRecord) -> &HostEnd {
    match record {
        LinkRecord::Veth { host, .. } => host,
        other => panic!("{other:?}"),
    }
}

#[test]
fn loopback_answers_when_it_is_up() {
    let Some(container) = Netns::new() else { return };
    assert!(!container.find("lo").unwrap().0.up);
    container.run(loopback_up).unwrap();
    let (lo, _) = container.find("lo").unwrap();
    assert!(lo.up);
    container.run(|| {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let socket = UdpSocket::bind(address).unwrap();
            socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
            let mut byte = [0];
            assert_eq!(socket.recv(&mut byte).unwrap(), 1);
        }
    });
}

const WEB: &str = "eth0,address=10.88.0.2/24,address=fd00::2/64,gateway=10.88.0.1,gateway=fd00::1,\
                   host-address=10.88.0.1/24,host-address=fd00::1/64,mtu=1400";

#[test]
fn a_veth_carries_both_families() {
    let Some((host, container)) = pair() else { return };
    let veth = parse_veth(WEB).unwrap();
    let record = record(&veth, "web1");
    host.run(|| create_link(&veth, &record, container.fd())).unwrap();

    let end = host_end(&record);
    let (outside, _) = host.find(&end.name).unwrap();
    assert_eq!((outside.mtu, outside.up, outside.kind.as_deref()), (1400, true, Some("veth")));
    assert_eq!(outside.mac, end.mac);
    assert_eq!(host.addresses(&end.name), ["10.88.0.1/24", "fd00::1/64"]);
    let (inside, _) = container.find("eth0").unwrap();
    assert_eq!((inside.mtu, inside.up), (1400, true));
    assert_eq!(container.addresses("eth0"), ["10.88.0.2/24", "fd00::2/64"]);
    assert!(container.ip("-4 route show default").starts_with("default via 10.88.0.1 dev eth0"));
    assert!(container.ip("-6 route show default").starts_with("default via fd00::1 dev eth0"));

    for address in ["10.88.0.2:0", "[fd00::2]:0"] {
        let listener = container.run(|| TcpListener::bind(address).unwrap());
        let target: SocketAddr = listener.local_addr().unwrap();
        let mut client = host.run(|| TcpStream::connect(target).unwrap());
        client.write_all(b"hello").unwrap();
        drop(client);
        let mut text = String::new();
        listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    assert!(host.run(|| undo_link(&record)).unwrap());
    assert_eq!(host.names(), ["lo"]);
    assert_eq!(container.names(), ["lo"]);
    assert!(!host.run(|| undo_link(&record)).unwrap());
}

#[test]
fn a_taken_host_name_is_refused_and_its_owner_stays() {
    let Some((host, container)) = pair() else { return };
    host.ip("link add br0 type bridge");
    let veth = parse_veth("eth0,host=br0").unwrap();
    let record = record(&veth, "web1");
    let error = host.run(|| create_link(&veth, &record, container.fd())).unwrap_err();
    assert!(matches!(&error, Error::Taken { name, place: Place::Host } if name == "br0"), "{error}");
    assert!(!host.run(|| undo_link(&record)).unwrap(), "the undo list must not delete somebody else's bridge");
    assert_eq!(host.names(), ["lo", "br0"]);
}

#[test]
fn another_containers_veth_of_the_same_name_stays() {
    let Some((host, container)) = pair() else { return };
    let veth = parse_veth("eth0,host=shared").unwrap();
    host.run(|| create_link(&veth, &record(&veth, "web1"), container.fd())).unwrap();
    assert!(!host.run(|| undo_link(&record(&veth, "web2"))).unwrap());
    assert_eq!(host.names(), ["lo", "shared"]);
}

#[test]
fn a_taken_container_name_is_refused() {
    let Some((host, container)) = pair() else { return };
    container.ip("link add eth0 type bridge");
    let veth = parse_veth("eth0").unwrap();
    let error = host.run(|| create_link(&veth, &record(&veth, "web1"), container.fd())).unwrap_err();
    assert!(matches!(&error, Error::Taken { name, place: Place::Container } if name == "eth0"), "{error}");
    assert_eq!(host.names(), ["lo"]);
}

#[test]
fn a_veth_whose_route_fails_is_taken_back() {
    let Some((host, container)) = pair() else { return };
    let mut veth = parse_veth("eth0,address=10.88.0.2/24").unwrap();
    veth.gateways = vec!["192.0.2.1".parse().unwrap()];
    let error = host.run(|| create_link(&veth, &record(&veth, "web1"), container.fd())).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::NETUNREACH));
    assert_eq!(
        error.to_string(),
        "add the default route through 192.0.2.1 on network device \"eth0\": \
         network is unreachable (ENETUNREACH) (kernel: Nexthop has invalid gateway)"
    );
    assert_eq!((host.names(), container.names()), (vec!["lo".to_owned()], vec!["lo".to_owned()]));
}

#[test]
fn deleting_a_link_that_is_gone_is_no_error() {
    let Some(host) = Netns::new() else { return };
    host.ip("link add v0 type veth peer name v1");
    assert!(host.run(|| delete_link("v0")).unwrap());
    assert!(!host.run(|| delete_link("v0")).unwrap());
    assert_eq!(host.run(|| delete_link("lo")).unwrap_err().errno(), Some(Errno::OPNOTSUPP));
}

/// A device `data0` with addresses of each sort on a host of its own, and an empty container.
fn device() -> Option<(Netns, Netns)> {
    let (host, container) = pair()?;
    host.ip("link add data0 mtu 1300 type veth peer name data1");
    host.ip("link set data1 up");
    host.ip("link set data0 up");
    host.ip("addr add 192.0.2.5/24 brd 192.0.2.255 metric 300 noprefixroute dev data0");
    host.ip("addr add 192.0.2.6/24 dev data0");
    host.ip("addr add 203.0.113.1 peer 203.0.113.2/32 dev data0");
    host.ip("addr add 2001:db8::5/64 nodad dev data0");
    host.ip("addr add 198.51.100.7/24 valid_lft 1000 preferred_lft 1000 dev data0");
    host.ip("addr add 169.254.3.4/16 scope link dev data0");
    Some((host, container))
}

const KEPT: [&str; 4] = ["192.0.2.5/24", "203.0.113.1/32", "192.0.2.6/24", "2001:db8::5/64"];

#[test]
fn a_moved_device_keeps_its_permanent_global_addresses() {
    let Some((host, container)) = device() else { return };
    let mac = host.find("data0").unwrap().0.mac;
    let plan = host.run(|| read_device_move("data0", Some("eth1"), container.fd())).unwrap();
    assert!(host.find("data0").unwrap().0.up, "looking changes nothing");
    let plan: DeviceMove = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
    host.run(|| apply_device_move(&plan, container.fd())).unwrap();

    assert_eq!(host.names(), ["lo", "data1"]);
    let (link, addresses) = container.find("eth1").unwrap();
    assert_eq!((link.up, link.mtu, link.mac), (true, 1300, mac));
    let mut kept = container.addresses("eth1");
    kept.sort();
    let mut expected = KEPT;
    expected.sort_unstable();
    assert_eq!(kept, expected);
    for address in &plan.addresses {
        let found = addresses.iter().find(|found| found.prefix == address.prefix).unwrap();
        // SECONDARY is a matter of order, PERMANENT and the chosen flags are not.
        assert_eq!(
            LinkAddress { flags: found.flags & !1, ..found.clone() },
            LinkAddress { flags: address.flags & !1, ..address.clone() }
        );
    }
    let shown = container.ip("addr show dev eth1");
    assert!(shown.contains("inet 192.0.2.5/24 metric 300 brd 192.0.2.255 scope global noprefixroute eth1"), "{shown}");
    assert!(shown.contains("inet 203.0.113.1 peer 203.0.113.2/32 scope global eth1"), "{shown}");
}

#[test]
fn an_undone_move_restores_the_device() {
    let Some((host, container)) = device() else { return };
    let plan = host.run(|| read_device_move("data0", None, container.fd())).unwrap();
    assert_eq!(plan.container_name, "data0");
    assert_eq!(host.run(|| undo_device_move(&plan, container.fd())).unwrap(), Undone::Restored, "before the move");
    host.run(|| apply_device_move(&plan, container.fd())).unwrap();
    for _ in 0..2 {
        assert_eq!(host.run(|| undo_device_move(&plan, container.fd())).unwrap(), Undone::Restored);
    }
    assert_eq!(container.names(), ["lo"]);
    assert_restored(&host);
    host.ip("link del data0");
    assert_eq!(host.run(|| undo_device_move(&plan, container.fd())).unwrap(), Undone::Gone);
}

fn assert_restored(host: &Netns) {
    assert!(host.find("data0").unwrap().0.up);
    let found = host.addresses("data0");
    for address in KEPT {
        assert!(found.iter().any(|found| found == address), "{address} in {found:?}");
    }
}

#[test]
fn a_device_that_was_down_is_down_again() {
    let Some((host, container)) = pair() else { return };
    host.ip("link add data0 type veth peer name data1");
    let plan = host.run(|| read_device_move("data0", Some("eth0"), container.fd())).unwrap();
    host.run(|| apply_device_move(&plan, container.fd())).unwrap();
    assert!(container.find("eth0").unwrap().0.up);
    host.run(|| undo_device_move(&plan, container.fd())).unwrap();
    assert!(!host.find("data0").unwrap().0.up);
}

#[test]
fn a_move_whose_addresses_fail_is_taken_back() {
    let Some((host, container)) = device() else { return };
    let mut plan = host.run(|| read_device_move("data0", Some("eth0"), container.fd())).unwrap();
    plan.addresses.push(LinkAddress { metric: None, ..LinkAddress::new("192.0.2.9/24".parse().unwrap()) });
    plan.addresses.last_mut().unwrap().prefix.length = 40;
    let error = host.run(|| apply_device_move(&plan, container.fd())).unwrap_err();
    // The address is as wrong on the way back as on the way there, which is said too.
    let Error::Undo { first, undo } = &error else { panic!("{error}") };
    assert_eq!((first.errno(), undo.errno()), (Some(Errno::INVAL), Some(Errno::INVAL)), "{error}");
    assert_eq!(container.names(), ["lo"]);
    assert_restored(&host);
}

#[test]
fn a_move_that_stopped_before_the_renaming_is_undone() {
    let Some((host, container)) = device() else { return };
    let mut plan = host.run(|| read_device_move("data0", None, container.fd())).unwrap();
    host.run(|| apply_device_move(&plan, container.fd())).unwrap();
    plan.container_name = "eth0".to_owned();
    container.ip("link add eth0 type bridge");
    assert_eq!(host.run(|| undo_device_move(&plan, container.fd())).unwrap(), Undone::Restored);
    assert_eq!(container.names(), ["lo", "eth0"]);
    assert_restored(&host);
}

#[test]
fn a_name_taken_after_the_look_leaves_the_device_on_the_host() {
    let Some((host, container)) = device() else { return };
    let plan = host.run(|| read_device_move("data0", Some("eth0"), container.fd())).unwrap();
    container.ip("link add eth0 type bridge");
    let error = host.run(|| apply_device_move(&plan, container.fd())).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EXIST), "{error}");
    assert!(
        error.to_string().starts_with(
            "move network device \"data0\" to another network namespace as \"eth0\": file exists (EEXIST)"
        ),
        "{error}"
    );
    assert_eq!(container.names(), ["lo", "eth0"]);
    assert_eq!(container.find("eth0").unwrap().0.kind.as_deref(), Some("bridge"));
    assert_restored(&host);
}

#[test]
fn a_missing_device_and_a_taken_name_are_refused() {
    let Some((host, container)) = device() else { return };
    let error = host.run(|| read_device_move("nope0", None, container.fd())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no network device \"nope0\" in the host's network namespace: no such device (ENODEV)"
    );
    let error = host.run(|| read_device_move("data0", Some("lo"), container.fd())).unwrap_err();
    assert!(matches!(&error, Error::Taken { name, place: Place::Container } if name == "lo"), "{error}");
    let error = host.run(|| read_device_move("data0", Some("a/b"), container.fd())).unwrap_err();
    assert!(matches!(error, Error::Name { .. }), "{error}");
    assert!(host.find("data0").unwrap().0.up);
}

#[test]
fn a_template_takes_the_lowest_free_number() {
    let Some((host, container)) = device() else { return };
    container.ip("link add eth0 type bridge");
    let plan = host.run(|| read_device_move("data0", Some("eth%d"), container.fd())).unwrap();
    assert_eq!(plan.container_name, "eth1");
    host.run(|| apply_device_move(&plan, container.fd())).unwrap();
    assert_eq!(container.addresses("eth1").len(), KEPT.len());
}

#[test]
fn a_device_that_cannot_move_says_so() {
    let Some((host, container)) = pair() else { return };
    let mut plan = host.run(|| read_device_move("lo", Some("lo1"), container.fd())).unwrap();
    plan.addresses.clear();
    let error = host.run(|| apply_device_move(&plan, container.fd())).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::INVAL), "{error}");
    assert_eq!((host.names(), container.names()), (vec!["lo".to_owned()], vec!["lo".to_owned()]));
}

#[test]
fn something_that_is_no_network_namespace_is_refused() {
    let Some(host) = Netns::new() else { return };
    let file = std::fs::File::open("/dev/null").unwrap();
    let veth = parse_veth("eth0").unwrap();
    let error = host.run(|| create_link(&veth, &record(&veth, "web1"), file.as_fd())).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::INVAL), "{error}");
    assert_eq!(host.names(), ["lo"]);
}

#[test]
fn a_table_larger_than_one_datagram_is_read_whole() {
    let Some(host) = Netns::new() else { return };
    host.ip("link add data0 type veth peer name data1");
    let commands: String =
        (0..600).map(|n| format!("addr add 10.1.{}.{}/32 dev data0\n", n / 200, n % 200 + 1)).collect();
    let path = std::env::temp_dir().join(format!("network-test-{}", std::process::id()));
    std::fs::write(&path, commands).unwrap();
    host.ip(&format!("-batch {}", path.display()));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(host.addresses("data0").len(), 600);
}

/// Set in the process that the test below starts in a user namespace.
const IN_USER_NAMESPACE: &str = "NETWORK_TEST_IN_USER_NAMESPACE";

/// In a user namespace that does not own the host's network namespace, a process may enter one that it made itself, but
/// may not return.
#[test]
fn who_could_not_return_is_refused_before_leaving() {
    if std::env::var_os(IN_USER_NAMESPACE).is_some() {
        let before = identity();
        let container = Netns::new().unwrap();
        let error = list_addresses(Some(container.fd())).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::PERM), "{error}");
        assert_eq!(identity(), before);
        return;
    }
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "who_could_not_return_is_refused_before_leaving"])
        .env(IN_USER_NAMESPACE, "1")
        .status()
        .expect("util-linux");
    assert!(status.success());
}
