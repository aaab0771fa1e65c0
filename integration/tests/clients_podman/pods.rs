//! Pods, and namespaces shared in other ways.

use anyhow::{Result, ensure};
use integration::cases;
use integration::client::leftovers::remove_groups;
use integration::client::lifecycle::network_of_another_container;
use integration::client::{Case, Test};

pub(crate) const CASES: [Case; 12] = cases![
    pod_shares_namespaces,
    pod_shares_the_pid_namespace,
    pod_stops_and_starts,
    pod_with_limits,
    pod_with_a_user_namespace,
    network_of_another_container,
    network_of_the_host,
    network_by_path,
    network_reaches_the_gateway,
    pid_and_ipc_of_another_container,
    cgroup_modes,
    cgroups_disabled,
];

fn pod_shares_namespaces(t: &Test<'_>) -> Result<()> {
    t.ok("pod create --name {} --hostname pod", "")?;
    t.ok("run -d --name {}-a --pod {} bb sh -c", "echo x > /dev/shm/file; sleep 1000")?;
    t.until_prints("exec {}-a cat /dev/shm/file", "x")?;
    let script = "hostname; cat /dev/shm/file; for n in net ipc uts pid; do readlink /proc/self/ns/$n; done";
    let a = t.ok("exec {}-a sh -c", script)?;
    let b = t.ok("run --rm --name {}-b --pod {} bb sh -c", script)?;
    let (a, b): (Vec<&str>, Vec<&str>) = (a.lines().collect(), b.lines().collect());
    ensure!(a[..2] == ["pod", "x"] && a[..5] == b[..5] && a[5] != b[5], "{a:?}, {b:?}");
    Ok(())
}

fn pod_shares_the_pid_namespace(t: &Test<'_>) -> Result<()> {
    t.ok("pod create --name {} --share net,ipc,uts,pid", "")?;
    t.ok("run -d --name {}-a --pod {} bb sleep 3456", "")?;
    t.prints("run --rm --pod {} bb sh -c", "ps | grep -c '[s]leep 3456'; ps | grep -c '[c]atatonit'", "1\n1")?;
    t.ok("kill {}-a", "")?;
    t.ok("wait {}-a", "")?;
    t.prints("run --rm --pod {} bb sh -c", "ps | grep -c '[s]leep 3456' || true", "0")
}

fn pod_stops_and_starts(t: &Test<'_>) -> Result<()> {
    t.ok("pod create --name {}", "")?;
    t.ok("run -d --name {}-a --pod {} bb sleep 1000", "")?;
    t.ok("pod pause {}", "")?;
    t.prints("inspect --format {{.State.Status}} {}-a", "", "paused")?;
    t.ok("pod unpause {}", "")?;
    t.ok("pod stop -t 0 {}", "")?;
    t.prints("inspect --format {{.State.Running}} {}-a", "", "false")?;
    t.ok("pod start {}", "")?;
    t.prints("inspect --format {{.State.Running}} {}-a", "", "true")?;
    t.ok("pod kill {}", "")?;
    t.until_prints("inspect --format {{.State.Running}} {}-a", "false")
}

fn pod_with_limits(t: &Test<'_>) -> Result<()> {
    let pod = t.ok("pod create --name {} --cpus 0.5 --memory 128m", "")?;
    t.ok("run -d --name {}-a --pod {} bb sleep 1000", "")?;
    let group = t.ok("exec {}-a sh -c", "grep ':memory:' /proc/1/cgroup | cut -d: -f3")?;
    ensure!(group.starts_with(&format!("/libpod_parent/{pod}/libpod-")), "{group}");
    let file = format!("/sys/fs/cgroup/memory/libpod_parent/{pod}/memory.limit_in_bytes");
    let limit = std::fs::read_to_string(&file).map_err(|error| anyhow::anyhow!("{file}: {error}"))?;
    ensure!(limit.trim() == "134217728", "{file}: {limit}");
    Ok(())
}

fn pod_with_a_user_namespace(t: &Test<'_>) -> Result<()> {
    t.ok("pod create --name {} --uidmap 0:200000:5000 --gidmap 0:200000:5000", "")?;
    let script = "awk '{print $1, $2, $3}' /proc/self/uid_map; cat /proc/sys/kernel/hostname";
    t.prints("run --rm --pod {} bb sh -c", script, &format!("0 200000 5000\n{}", t.name))
}

fn network_of_the_host(t: &Test<'_>) -> Result<()> {
    let host = std::fs::read_link("/proc/self/ns/net")?.display().to_string();
    t.prints("run --rm --network host bb readlink /proc/self/ns/net", "", &host)
}

fn network_by_path(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} --network none bb sleep 1000", "")?;
    let pid = t.ok("inspect --format {{.State.Pid}} {}", "")?;
    let first = t.ok("exec {} readlink /proc/self/ns/net", "")?;
    t.prints(&format!("run --rm --network ns:/proc/{pid}/ns/net bb readlink /proc/self/ns/net"), "", &first)
}

fn network_reaches_the_gateway(t: &Test<'_>) -> Result<()> {
    let script = "ping -c 1 -W 5 $(ip route | awk '/default/ {print $3}') | grep -c '1 packets received'";
    t.prints("run --rm --cap-add net_raw bb sh -c", script, "1")
}

fn pid_and_ipc_of_another_container(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} --ipc shareable bb sh -c", "echo x > /dev/shm/file; exec sleep 4444")?;
    t.until_prints("exec {} cat /dev/shm/file", "x")?;
    let script = "cat /dev/shm/file; ps | grep -c '[s]leep 4444'";
    t.prints("run --rm --pid container:{} --ipc container:{} bb sh -c", script, "x\n1")
}

fn cgroup_modes(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm --cgroupns private bb sh -c", "cut -d: -f3 /proc/self/cgroup | sort -u", "/")?;
    let nested = t.ok("run --rm --cgroupns host --cgroup-parent /libpod_parent/nested bb cat /proc/self/cgroup", "")?;
    ensure!(nested.contains(":/libpod_parent/nested/libpod-"), "{nested}");
    // A parent that the runtime made stays, as with the client's own.
    remove_groups("libpod_parent/nested")
}

fn cgroups_disabled(t: &Test<'_>) -> Result<()> {
    let own = t.ok("run --rm --cgroups disabled --cgroupns host bb cat /proc/self/cgroup", "")?;
    ensure!(!own.contains("libpod-"), "{own}");
    Ok(())
}
