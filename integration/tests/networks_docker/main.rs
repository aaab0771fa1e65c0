//! Managed networks beside Debian's dockerd, which has the host drop what is forwarded.
//!
//! The one file of this crate that links a crate of the runtime: networks have no command of their own here. All of it is
//! in a cell, whose network namespace stands for the host.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::client::daemon::Daemon;
use integration::client::{Cell, Cli, Need, in_cell};
use network::managed::{self, Lease, NewNetwork, Store, Tools, Wanted};
use network::{create_link, parse_link, plan_record};

const NEEDS: [Need; 4] = [
    Need { program: "dockerd", package: "docker.io" },
    Need { program: "containerd", package: "containerd" },
    Need { program: "iptables", package: "iptables" },
    Need { program: "nft", package: "nftables" },
];

/// CLONE_NEWNET.
const NEWNET: u64 = 0x4000_0000;

#[test]
fn networks_work_beside_docker() {
    in_cell("networks_work_beside_docker", &NEEDS, beside_docker).unwrap();
}

fn beside_docker(cell: &Cell) -> Result<()> {
    let daemon = start_daemon(cell)?;
    ensure!(run("iptables", &["-S"])?.contains("-P FORWARD DROP"), "docker has the host drop what is forwarded");
    let store = Store::open(cell.dir.join("data").to_str().context("a UTF-8 path")?)?;
    let path = |name: &str| Some(format!("/usr/sbin/{name}"));
    let tools = Tools { nft: path("nft"), iptables: path("iptables"), ip6tables: path("ip6tables") };
    let wan = Guest::beyond()?;
    let subnets = vec!["10.90.0.0/24".parse()?, "fd90::/64".parse()?];
    managed::create(&store, &NewNetwork { subnets, ..NewNetwork::new("lan") })?;

    managed::ensure(&store, &Tools { iptables: None, ip6tables: None, ..tools.clone() }, "lan")?;
    let (web, other) = (Guest::start(&store, "web")?, Guest::start(&store, "other")?);
    ensure!(web.ask(&wan, "192.0.2.9").is_err(), "without rules in docker's chain nothing gets through");
    managed::ensure(&store, &tools, "lan")?;
    let check = || -> Result<()> {
        for address in ["192.0.2.9", "2001:db8::9"] {
            web.ask(&wan, address).with_context(|| format!("{address} beyond the host"))?;
        }
        for ip in web.addresses() {
            other.ask(&web, &ip.to_string()).with_context(|| format!("{ip} on the bridge"))?;
        }
        wan.ask_port("192.0.2.1", 8080).context("the published port")
    };
    let port = web.port;
    managed::publish(&store, &tools, "lan", "web", &[format!("8080:{port}").parse()?])?;
    check()?;

    let rules = run("iptables", &["-S", "DOCKER-USER"])?;
    managed::ensure(&store, &tools, "lan")?;
    ensure!(rules == run("iptables", &["-S", "DOCKER-USER"])?, "again changes nothing");

    unpublished_ports_of_docker_stay_out_of_reach(&web)?;

    daemon.stop()?;
    for chain in ["DOCKER-USER", "FORWARD"] {
        run("iptables", &["-F", chain])?;
    }
    run("nft", &["delete", "table", "inet", store.table()])?;
    let daemon = start_daemon(cell)?;
    ensure!(web.ask(&wan, "192.0.2.9").is_err(), "the rules are gone with the restart");
    managed::ensure(&store, &tools, "lan")?;
    check()?;

    managed::remove(&store, &tools, "lan", &|_| false)?;
    for program in ["iptables", "ip6tables"] {
        let left = run(program, &["-S"])?;
        ensure!(!left.contains("skep"), "{program} has rules left: {left}");
        ensure!(program != "iptables" || left.contains("-A DOCKER-USER -j RETURN"), "docker's own stay: {left}");
    }
    ensure!(!run("nft", &["list", "ruleset"])?.contains("skep"), "nft has rules left");
    ensure!(!Path::new("/sys/class/net/skep-lan").exists(), "the bridge is left");
    daemon.stop()
}

/// A container of docker's is played by a network namespace at its bridge: with docker's rules as they are before version 28
/// every port of it would be reached, once another has accepted the packet.
fn unpublished_ports_of_docker_stay_out_of_reach(web: &Guest) -> Result<()> {
    let guest = |bridge: &str, number: u8| -> Result<Guest> {
        let shown = run("ip", &["-4", "-o", "addr", "show", bridge])?;
        let gateway = shown.split_whitespace().find(|word| word.contains('/')).context("the bridge's address")?;
        let (ip, length) = gateway.split_once('/').context("a prefix")?;
        let near = ip.rsplit_once('.').context("an IPv4 address")?.0;
        let text = format!("veth:host=played{number},bridge={bridge},address={near}.{number}/{length},gateway={ip}");
        let spec = parse_link(&text)?;
        let netns = make_netns()?;
        create_link(&spec, &plan_record(&spec, bridge, None), netns.as_fd())?;
        Guest::serve(netns, None)
    };
    let played = guest("docker0", 77)?;
    let address = run("ip", &["-4", "-o", "addr", "show", "docker0"])?;
    let near = address.split_whitespace().find(|word| word.contains('/')).context("an address")?;
    let near = near.rsplit_once('.').context("an IPv4 address")?.0;
    let at = format!("{near}.77");
    ensure!(web.ask(&played, &at).is_err(), "{at} is reached, and nothing of it is published");
    // As docker publishes: a translation, and an accept in its own chain.
    let port = played.port.to_string();
    let to = format!("{at}:{port}");
    run(
        "iptables",
        &["-t", "nat", "-I", "DOCKER", "-p", "tcp", "--dport", "9099", "-j", "DNAT", "--to-destination", &to],
    )?;
    run("iptables", &["-I", "DOCKER", "-d", &at, "-p", "tcp", "--dport", &port, "-j", "ACCEPT"])?;
    web.ask_port("192.0.2.1", 9099).context("a port that docker publishes")?;
    ensure!(web.ask(&played, &at).is_err(), "{at} is reached past the published port");
    // A network that docker makes later, of which our rules have not been told.
    run("ip", &["link", "add", "br-0123456789ab", "type", "bridge"])?;
    run("ip", &["addr", "add", "172.31.0.1/16", "dev", "br-0123456789ab"])?;
    run("ip", &["link", "set", "br-0123456789ab", "up"])?;
    let later = guest("br-0123456789ab", 78)?;
    ensure!(web.ask(&later, "172.31.0.78").is_err(), "a later network of docker's is reached");
    run("ip", &["link", "del", "br-0123456789ab"])?;
    Ok(())
}

fn start_daemon(cell: &Cell) -> Result<Daemon> {
    let cli = Cli::new(&cell.dir, &["docker"])?;
    let mut command = Command::new("dockerd");
    command.arg("--data-root").arg(cell.dir.join("docker"));
    command.args(["--exec-root", "/run/docker", "--pidfile", "/run/docker.pid", "--host", "unix:///run/docker.sock"]);
    command.args(["--experimental", "--ipv6", "--fixed-cidr-v6", "fd0d::/64", "--ip6tables"]);
    Daemon::start(&cell.dir, &mut command, || Ok(cli.run("version", "")?.code == 0)).context("dockerd")
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| program.to_owned())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{program} {arguments:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

/// A network namespace with a server in it.
struct Guest {
    netns: OwnedFd,
    lease: Option<Lease>,
    port: u16,
}

impl Guest {
    /// One with a lease and a link in the network.
    fn start(store: &Store, name: &str) -> Result<Guest> {
        let lease = managed::lease(store, "lan", name, &Wanted::default())?;
        let (definition, _) = managed::read(store, "lan")?;
        let spec = managed::plan_link(&definition, &lease, "eth0");
        let netns = make_netns()?;
        create_link(&spec, &plan_record(&spec, name, None), netns.as_fd())?;
        Guest::serve(netns, Some(lease))
    }

    /// A neighbour of the host.
    fn beyond() -> Result<Guest> {
        let spec = parse_link(
            "veth:host=wan,address=192.0.2.9/24,address=2001:db8::9/64,host-address=192.0.2.1/24,\
             host-address=2001:db8::1/64",
        )?;
        let netns = make_netns()?;
        create_link(&spec, &plan_record(&spec, "wan", None), netns.as_fd())?;
        Guest::serve(netns, None)
    }

    fn serve(netns: OwnedFd, lease: Option<Lease>) -> Result<Guest> {
        let listener = within(&netns, || Ok(TcpListener::bind("[::]:0")?))?;
        let port = listener.local_addr()?.port();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut stream = stream;
                stream.write_all(b"here").ok();
            }
        });
        Ok(Guest { netns, lease, port })
    }

    fn addresses(&self) -> Vec<IpAddr> {
        self.lease.iter().flat_map(|lease| &lease.addresses).map(|prefix| prefix.ip).collect()
    }

    fn ask(&self, server: &Guest, address: &str) -> Result<()> {
        self.ask_port(address, server.port)
    }

    fn ask_port(&self, address: &str, port: u16) -> Result<()> {
        let target = SocketAddr::new(address.parse()?, port);
        let connect = || Ok(TcpStream::connect_timeout(&target, Duration::from_secs(3))?);
        let mut text = String::new();
        within(&self.netns, connect)?.read_to_string(&mut text)?;
        ensure!(text == "here", "{text:?}");
        Ok(())
    }
}

fn make_netns() -> Result<OwnedFd> {
    let made = std::thread::spawn(|| -> Result<OwnedFd> {
        sys::namespace::unshare(NEWNET)?;
        network::loopback_up()?;
        Ok(sys::netlink::current_netns()?)
    });
    made.join().expect("the thread does not panic")
}

/// Runs something on a thread in a network namespace.
fn within<T: Send>(netns: &OwnedFd, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            sys::namespace::join(netns.as_fd(), NEWNET)?;
            work()
        });
        thread.join().expect("the thread does not panic")
    })
}
