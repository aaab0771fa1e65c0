//! Users, user namespaces, capabilities, seccomp, privileged containers.

use anyhow::{Result, ensure};
use integration::cases;
use integration::client::lifecycle::user_by_name;
use integration::client::{Case, Test};

pub(crate) const CASES: [Case; 16] = cases![
    user_by_name,
    user_namespace_by_map,
    user_namespace_keep_id,
    user_namespace_of_another_container,
    user_namespace_with_exec,
    user_namespace_with_volume,
    default_capabilities,
    drop_and_add_capabilities,
    no_new_privileges,
    seccomp_default,
    seccomp_unconfined,
    seccomp_profile,
    privileged,
    mask_and_unmask,
    init_reaps,
    sysctl_and_hostname,
];

/// Alone: podman before 4.4 takes the lock of its id ranges and those of its storage in an order in which it and another
/// podman that removes a container may wait for each other for ever. No runtime runs then.
pub(crate) const ALONE: [Case; 1] = cases![alone: user_namespace_auto];

fn user_namespace_by_map(t: &Test<'_>) -> Result<()> {
    let script = "awk '{print $1, $2, $3}' /proc/self/uid_map /proc/self/gid_map; id -u; touch /tmp/file; stat -c %u:%g /tmp/file";
    t.prints(
        "run --rm --uidmap 0:200000:5000 --gidmap 0:300000:5000 bb sh -c",
        script,
        "0 200000 5000\n0 300000 5000\n0\n0:0",
    )
}

fn user_namespace_auto(t: &Test<'_>) -> Result<()> {
    let script = "awk '$1 == 0 && $2 >= 100000 && $3 >= 1024 {print \"mapped\"}' /proc/self/uid_map; hostname; mount | grep -c ' on /proc '";
    t.prints("run --rm --userns auto --hostname box bb sh -c", script, "mapped\nbox\n1")
}

fn user_namespace_keep_id(t: &Test<'_>) -> Result<()> {
    // For root, podman takes it as the host's user namespace.
    let host = std::fs::read_link("/proc/self/ns/user")?.display().to_string();
    let done = t.run("run --rm --userns keep-id bb readlink /proc/self/ns/user", "")?;
    ensure!(done.out == host || (done.code == 125 && done.err.contains("keep-id")), "{done:?}");
    Ok(())
}

fn user_namespace_of_another_container(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} --uidmap 0:200000:5000 --gidmap 0:300000:5000 bb sleep 1000", "")?;
    let first = t.ok("exec {} readlink /proc/self/ns/user", "")?;
    t.prints("run --rm --userns container:{} bb readlink /proc/self/ns/user", "", &first)
}

fn user_namespace_with_exec(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} --uidmap 0:200000:5000 --gidmap 0:300000:5000 bb sleep 1000", "")?;
    let script = "id -u; test $(readlink /proc/1/ns/user) = $(readlink /proc/self/ns/user) && echo same";
    t.prints("exec {} sh -c", script, "0\nsame")?;
    t.prints("exec --user 1000 {} id -u", "", "1000")
}

fn user_namespace_with_volume(t: &Test<'_>) -> Result<()> {
    let folder = t.folder()?;
    let folder = folder.display();
    let script = "stat -c %u /v; touch /v/file && stat -c %u /v/file";
    t.prints(&format!("run --rm --uidmap 0:200000:5000 -v {folder}:/v:U bb sh -c"), script, "0\n0")
}

fn default_capabilities(t: &Test<'_>) -> Result<()> {
    let want = "0000000000000000 00000000800405fb 00000000800405fb 00000000800405fb 0000000000000000";
    t.prints("run --rm bb sh -c", "grep Cap /proc/self/status | cut -f2 | tr '\\n' ' '", want)
}

fn drop_and_add_capabilities(t: &Test<'_>) -> Result<()> {
    let script = "grep CapEff /proc/self/status | cut -f2";
    t.prints("run --rm --cap-drop all bb sh -c", script, "0000000000000000")?;
    t.prints("run --rm --cap-drop all --cap-add kill,chown bb sh -c", script, "0000000000000021")
}

fn no_new_privileges(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm --security-opt no-new-privileges bb grep NoNewPrivs /proc/self/status", "", "NoNewPrivs:\t1")
}

fn seccomp_default(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm bb grep Seccomp: /proc/self/status", "", "Seccomp:\t2")?;
    t.fails("run --rm bb mount -t tmpfs none /tmp", "", 1, "permi")
}

fn seccomp_unconfined(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm --security-opt seccomp=unconfined bb grep Seccomp: /proc/self/status", "", "Seccomp:\t0")
}

fn seccomp_profile(t: &Test<'_>) -> Result<()> {
    let file = t.folder()?.join("profile.json");
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 37}]}"#;
    std::fs::write(&file, profile)?;
    let script = "mkdir /tmp/x 2>&1 | grep -c 'No locks available'; touch /tmp/y && echo fine";
    t.prints(&format!("run --rm --security-opt seccomp={} bb sh -c", file.display()), script, "1\nfine")
}

fn privileged(t: &Test<'_>) -> Result<()> {
    // Podman asks for the capabilities that its own bounding set has, so this needs no others.
    let script = "grep Seccomp: /proc/self/status; mkdir /tmp/m && mount -t tmpfs none /tmp/m && test -w /proc/sys/kernel/panic && echo open";
    t.prints("run --rm --privileged bb sh -c", script, "Seccomp:\t0\nopen")
}

fn mask_and_unmask(t: &Test<'_>) -> Result<()> {
    let script =
        "grep -c . /data/from-image || true; grep -cE ' /proc/(sys|bus|fs|irq|keys|acpi) ' /proc/mounts || true";
    t.prints("run --rm --security-opt mask=/data/from-image --security-opt unmask=ALL bb sh -c", script, "0\n0")
}

fn init_reaps(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} --init bb sleep 1000", "")?;
    t.ok("exec -d {} sh -c", "sleep 0.1 & exec sleep 0.2")?;
    std::thread::sleep(std::time::Duration::from_millis(800));
    t.prints("exec {} sh -c", "ps -o stat | grep -c Z || true", "0")
}

fn sysctl_and_hostname(t: &Test<'_>) -> Result<()> {
    let script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax; hostname";
    t.prints(
        "run --rm --sysctl net.ipv4.ip_forward=0 --sysctl kernel.msgmax=65000 --hostname box bb sh -c",
        script,
        "0\n65000\nbox",
    )
}
