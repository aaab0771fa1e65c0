//! The same client and the same cases for an ordinary user: podman makes a user namespace and calls the runtime as its
//! root, without a cgroup that it could write. Besides: what only exists there.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::cases;
use integration::client::command::until;
use integration::client::leftovers::{Kept, Leftovers};
use integration::client::{Case, Cell, Cli, Need, Test, image, report_left, run_table};

pub(crate) const NEEDS: [Need; 4] = [
    Need { program: "podman", package: "podman" },
    Need { program: "conmon", package: "conmon" },
    Need { program: "slirp4netns", package: "slirp4netns" },
    Need { program: "newuidmap", package: "uidmap" },
];

/// The user's id, of nobody else in the cell, and the first of its subordinate ids.
const UID: u32 = 4242;
const FIRST: u32 = 500_000;
const HOME: &str = "/var/rootless";
const RUN: &str = "/run/user/4242";

/// Everything that the kernel lets an ordinary user have is gone with the container; podman keeps the process that holds
/// its namespaces, the mounts of its storage being in there.
const KEPT: Kept = Kept {
    group: |_| false,
    bridges: &[],
    mounts: &[],
    states: &["/run/user/4242/runc", "/run/user/4242/crun", "/run/user/4242/skep"],
};

/// Cases of the other tables that need what an ordinary user does not have on a host with cgroup v1: a cgroup for limits,
/// figures and the freezer, the bridge of the host, ids of root's own ranges, device nodes and their rules.
const NOT_FOR_USERS: &[&str] = &[
    "pause_freezes_and_unpause_goes_on",
    "stats_of_a_running_container",
    "memory_and_cpus",
    "memory_is_enforced",
    "pids_limit",
    "update_changes_limits",
    "pod_stops_and_starts",
    "pod_with_limits",
    "cgroup_modes",
    "cgroups_disabled",
    "limits_of_the_distribution",
    "device_with_access",
    "network_of_another_container",
    "network_reaches_the_gateway",
    "user_namespace_by_map",
    "user_namespace_auto",
    "user_namespace_keep_id",
    "user_namespace_of_another_container",
    "user_namespace_with_exec",
    "user_namespace_with_volume",
    "pod_with_a_user_namespace",
    "root_file_system_from_a_folder",
    "network_of_the_host",
];

const CASES: [Case; 10] = cases![
    root_inside_is_the_user,
    keep_id_is_the_user_inside,
    own_map_below_the_users,
    volume_of_the_user,
    published_port,
    network_by_slirp,
    network_of_the_user,
    device_of_the_host,
    limits_are_done_without,
    privileged_reaches_nothing_outside,
];

/// Makes the user and the cell's `/dev/net/tun`, then runs the tables as that user.
pub(crate) fn run_cases(cell: &Cell, other: &[Case]) -> Result<()> {
    let dir = cell.dir.join("rootless");
    for folder in [Path::new(HOME), Path::new(RUN), &dir] {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        chown(folder, Some(UID), Some(UID))?;
    }
    add_line("/etc/passwd", &format!("rootless:x:{UID}:{UID}::{HOME}:/bin/sh"))?;
    add_line("/etc/group", &format!("rootless:x:{UID}:"))?;
    for file in ["/etc/subuid", "/etc/subgid"] {
        fs::write(file, format!("rootless:{FIRST}:65536\n"))?;
    }
    open_tun(&cell.dir)?;
    let runtime = cell.runtime.path.display().to_string();
    let (uid, home, run) = (UID.to_string(), format!("HOME={HOME}"), format!("XDG_RUNTIME_DIR={RUN}"));
    let user =
        ["setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups", "--inh-caps=-all", "--", "env", "-C", HOME];
    let podman = [&home, &run, "USER=rootless", "podman", "--runtime", &runtime];
    let cli = Cli::new(&cell.dir, &[&user[..], &podman[..]].concat())?;
    let archive = image::make_archive(&dir)?;
    chown(&archive, Some(UID), Some(UID))?;
    cli.run("load --quiet --input", &archive.display().to_string())?.ok()?;
    cli.run("run --rm bb true", "")?.ok()?;
    let before = Leftovers::before()?;
    let shared = other.iter().filter(|case| !NOT_FOR_USERS.contains(&case.name)).copied();
    let table: Vec<Case> = shared.chain(CASES).collect();
    ensure!(table.len() + NOT_FOR_USERS.len() == other.len() + CASES.len(), "a case that is left out does not exist");
    let home = Cell { dir, runtime: cell.runtime.clone() };
    let ended = run_table("podman-rootless", &home, &cli, &table, 3, &super::remove_containers);
    let left = report_left("podman-rootless", &home, before.check(&KEPT));
    // The process that holds the user's namespaces ends with them.
    cli.run("system migrate", "")?.ok()?;
    ended.and(left)
}

fn add_line(file: &str, line: &str) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| file.to_owned())?;
    Ok(fs::write(file, format!("{text}{line}\n"))?)
}

/// A machine may keep its node of the tunnel driver to root; distributions do not.
fn open_tun(dir: &Path) -> Result<()> {
    let node = dir.join("tun");
    for (program, arguments) in [
        ("mknod", vec!["-m", "666", &node.display().to_string(), "c", "10", "200"]),
        ("mount", vec!["--bind", &node.display().to_string(), "/dev/net/tun"]),
    ] {
        let status = Command::new(program).args(arguments).status().with_context(|| program.to_owned())?;
        ensure!(status.success(), "{program}: {status}");
    }
    Ok(())
}

const MAP: &str = "awk '{print $1, $2, $3}' /proc/self/uid_map";

fn root_inside_is_the_user(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm bb sh -c", &format!("id -u; {MAP}"), &format!("0\n0 {UID} 1\n1 {FIRST} 65536"))
}

fn keep_id_is_the_user_inside(t: &Test<'_>) -> Result<()> {
    let folder = t.folder()?;
    let script = format!("id -u; id -g; {MAP}; echo mine > /v/file; stat -c %u /v/file");
    let map = format!("0 1 {UID}\n{UID} 0 1\n{} {} {}", UID + 1, UID + 1, 65536 - UID);
    t.prints(
        &format!("run --rm --userns keep-id -v {}:/v bb sh -c", folder.display()),
        &script,
        &format!("{UID}\n{UID}\n{map}\n{UID}"),
    )?;
    t.ok("run -d --name {} --userns keep-id bb sleep 1000", "")?;
    t.prints("exec {} id -u", "", &UID.to_string())?;
    t.prints("exec --user 0 {} id -u", "", "0")
}

fn own_map_below_the_users(t: &Test<'_>) -> Result<()> {
    let script = format!("{MAP}; id -u; touch /tmp/file; stat -c %u:%g /tmp/file");
    t.prints("run --rm --uidmap 0:1000:500 --gidmap 0:1000:500 bb sh -c", &script, "0 1000 500\n0\n0:0")
}

fn volume_of_the_user(t: &Test<'_>) -> Result<()> {
    let folder = t.folder()?;
    t.prints(
        &format!("run --rm -v {}:/v bb sh -c", folder.display()),
        "touch /v/a; chown 5 /v/a; stat -c %u /v /v/a",
        "0\n5",
    )?;
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(folder.join("a"))?);
    ensure!(owner == FIRST + 4, "the file belongs to {owner}");
    Ok(())
}

fn published_port(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} -p 127.0.0.1:18765:80 bb sh -c", "echo served > /tmp/index.html; httpd -f -p 80 -h /tmp")?;
    let get = || Ok(read_page().is_ok_and(|page| page.ends_with("served\n")));
    until("an answer from the published port", Duration::from_secs(20), get)
}

fn read_page() -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", 18765))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

fn network_by_slirp(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm bb sh -c", "ls /sys/class/net; ip route | grep -c default", "lo\ntap0\n1")
}

fn network_of_the_user(t: &Test<'_>) -> Result<()> {
    // The cell's, into which the user may look but not reach.
    let own = fs::read_link("/proc/self/ns/net")?.display().to_string();
    t.prints("run --rm --network host bb readlink /proc/self/ns/net", "", &own)?;
    t.fails("run --rm --network host --cap-add net_admin bb ip link set lo down", "", 2, "permitted")
}

fn device_of_the_host(t: &Test<'_>) -> Result<()> {
    t.prints(
        "run --rm --device /dev/zero:/dev/mine bb sh -c",
        "head -c 3 /dev/mine | wc -c; stat -c %t:%T /dev/mine",
        "3\n1:5",
    )
}

fn limits_are_done_without(t: &Test<'_>) -> Result<()> {
    // Podman leaves them out with a warning where it knows that the runtime could only refuse.
    let done = t.run("run --rm --memory 64m bb echo there", "")?;
    ensure!(
        done.code == 0 && done.out == "there" && done.err.contains("Resource limits are not supported"),
        "{done:?}"
    );
    Ok(())
}

fn privileged_reaches_nothing_outside(t: &Test<'_>) -> Result<()> {
    let script = "mount -t tmpfs none /tmp && echo mounted; mknod /tmp/disk b 8 0 2>&1 | grep -c permitted; \
                  echo 1 2>/dev/null > /proc/sys/kernel/panic || echo closed";
    t.prints("run --rm --privileged bb sh -c", script, "mounted\n1\nclosed")
}
