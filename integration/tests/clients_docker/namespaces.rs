//! Namespaces: own, the host's, another container's; and the networks that docker makes with its hooks.

use anyhow::{Result, ensure};
use integration::cases;
use integration::client::lifecycle::network_of_another_container;
use integration::client::{Case, Test};

pub(crate) const CASES: [Case; 18] = cases![
    namespaces_are_own,
    pid_of_another_container,
    pid_of_the_host,
    ipc_of_another_container,
    ipc_of_the_host,
    network_of_another_container,
    network_of_the_host,
    network_none,
    uts_of_the_host,
    cgroup_private,
    hostname_and_domain_name,
    hosts_and_resolver,
    sysctl_of_the_network,
    sysctl_of_ipc,
    bridge_reaches_the_gateway,
    own_bridge_joins_containers,
    published_port,
    connect_and_disconnect,
];

fn namespaces_are_own(t: &Test<'_>) -> Result<()> {
    let inside = t.ok("run --rm bb sh -c", "for n in ipc mnt net pid uts; do readlink /proc/self/ns/$n; done")?;
    for kind in ["ipc", "mnt", "net", "pid", "uts"] {
        let host = std::fs::read_link(format!("/proc/self/ns/{kind}"))?.display().to_string();
        ensure!(inside.contains(&format!("{kind}:[")) && !inside.contains(&host), "{kind}: {inside}");
    }
    Ok(())
}

fn pid_of_another_container(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} bb sleep 4321", "")?;
    t.prints(
        "run --rm --pid container:{} bb sh -c",
        "ps | grep -c '[s]leep 4321'; test $$ -gt 1 && echo joined",
        "1\njoined",
    )?;
    t.prints("exec {} sh -c", "ps | grep -c '[s]leep'", "1")
}

fn pid_of_the_host(t: &Test<'_>) -> Result<()> {
    let host = std::fs::read_link("/proc/self/ns/pid")?.display().to_string();
    t.prints("run --rm --pid host bb readlink /proc/self/ns/pid", "", &host)?;
    // Without a pid namespace of its own, what the container started must be found by its cgroup.
    t.ok("run -d --name {} --pid host bb sh -c", "sleep 7654 & sleep 7654 & wait")?;
    t.ok("rm -f {}", "")?;
    for entry in std::fs::read_dir("/proc")? {
        let line = std::fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        ensure!(line != b"sleep\x007654\0", "a process of the container still runs");
    }
    Ok(())
}

fn ipc_of_another_container(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} --ipc shareable bb sh -c", "echo x > /dev/shm/file; sleep 1000")?;
    t.until_prints("exec {} cat /dev/shm/file", "x")?;
    let first = t.ok("exec {} readlink /proc/self/ns/ipc", "")?;
    let second = t.ok("run --rm --ipc container:{} bb sh -c", "cat /dev/shm/file; readlink /proc/self/ns/ipc")?;
    ensure!(second == format!("x\n{first}"), "{first}, {second}");
    Ok(())
}

fn ipc_of_the_host(t: &Test<'_>) -> Result<()> {
    let host = std::fs::read_link("/proc/self/ns/ipc")?.display().to_string();
    t.prints("run --rm --ipc host bb readlink /proc/self/ns/ipc", "", &host)
}

fn network_of_the_host(t: &Test<'_>) -> Result<()> {
    let host = std::fs::read_link("/proc/self/ns/net")?.display().to_string();
    t.prints("run --rm --network host bb readlink /proc/self/ns/net", "", &host)?;
    t.prints("run --rm --network host bb sh -c", "ls /sys/class/net | grep -c docker0", "1")
}

fn network_none(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm --network none bb sh -c", "ls /sys/class/net; ip -o addr | grep -c 127.0.0.1/8", "lo\n1")
}

fn uts_of_the_host(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm --uts host bb hostname", "", "cell")
}

fn cgroup_private(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm --cgroupns private bb sh -c", "cut -d: -f3 /proc/self/cgroup | sort -u", "/")?;
    let host = t.ok("run --rm --cgroupns host bb cat /proc/self/cgroup", "")?;
    ensure!(host.contains(":/docker/"), "{host}");
    Ok(())
}

fn hostname_and_domain_name(t: &Test<'_>) -> Result<()> {
    let script = "hostname; cat /proc/sys/kernel/domainname; cat /etc/hostname";
    t.prints("run --rm --hostname box --domainname example.test bb sh -c", script, "box\nexample.test\nbox")
}

fn hosts_and_resolver(t: &Test<'_>) -> Result<()> {
    let command = "run --rm --add-host peer:10.1.2.3 --dns 10.9.8.7 bb sh -c";
    t.prints(command, "grep -c '10.1.2.3.peer' /etc/hosts; grep -c '^nameserver 10.9.8.7' /etc/resolv.conf", "1\n1")
}

fn sysctl_of_the_network(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm --sysctl net.ipv4.ip_forward=0 bb cat /proc/sys/net/ipv4/ip_forward", "", "0")?;
    let sysctl = "net.ipv4.ip_local_port_range=2000\t3000";
    let done = t.words(&["run", "--rm", "--sysctl", sysctl, "bb", "cat", "/proc/sys/net/ipv4/ip_local_port_range"])?;
    ensure!(done.out == "2000\t3000", "{done:?}");
    Ok(())
}

fn sysctl_of_ipc(t: &Test<'_>) -> Result<()> {
    let script = "cat /proc/sys/kernel/msgmax /proc/sys/fs/mqueue/msg_max";
    t.prints("run --rm --sysctl kernel.msgmax=65000 --sysctl fs.mqueue.msg_max=20 bb sh -c", script, "65000\n20")
}

fn bridge_reaches_the_gateway(t: &Test<'_>) -> Result<()> {
    let script = "ip -o -4 addr show eth0 | grep -c 172.17.; ping -c 1 -W 5 $(ip route | awk '/default/ {print $3}') | grep -c '1 packets received'";
    t.prints("run --rm bb sh -c", script, "1\n1")
}

fn own_bridge_joins_containers(t: &Test<'_>) -> Result<()> {
    t.ok("network create --driver bridge --subnet 10.77.1.0/24 {}", "")?;
    t.ok("run -d --name {} --network {} --network-alias peer bb sleep 1000", "")?;
    t.prints("run --rm --network {} bb sh -c", "ping -c 1 -W 5 peer | grep -c '1 packets received'", "1")?;
    t.ok("rm -f {}", "")?;
    t.ok("network rm {}", "").map(drop)
}

fn published_port(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} -p 127.0.0.1:18080:80 bb sh -c", "while :; do echo served | nc -l -p 80; done")?;
    let mut seen = String::new();
    let waited = integration::client::command::until("an answer", std::time::Duration::from_secs(10), || {
        let output = std::process::Command::new("busybox").args(["nc", "-w", "2", "127.0.0.1", "18080"]).output()?;
        seen = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(seen == "served\n")
    });
    waited.map_err(|error| error.context(format!("got {seen:?}")))
}

fn connect_and_disconnect(t: &Test<'_>) -> Result<()> {
    t.ok("network create --driver bridge --subnet 10.77.2.0/24 {}", "")?;
    t.ok("run -d --name {} bb sleep 1000", "")?;
    t.ok("network connect --ip 10.77.2.9 {} {}", "")?;
    t.prints("exec {} sh -c", "ip -o -4 addr | grep -c 10.77.2.9/24", "1")?;
    t.ok("network disconnect {} {}", "")?;
    t.prints("exec {} sh -c", "ip -o -4 addr | grep -c 10.77.2.9/24 || true", "0")?;
    t.ok("rm -f {}", "")?;
    t.ok("network rm {}", "").map(drop)
}
