//! Users, capabilities, seccomp, no_new_privs, privileged containers.

use anyhow::{Result, ensure};
use integration::cases;
use integration::client::lifecycle::user_by_name;
use integration::client::{Case, Test, lacks_resource_capability};

pub(crate) const CASES: [Case; 18] = cases![
    user_by_number,
    user_by_name,
    user_and_group,
    group_add,
    default_capabilities,
    no_capabilities_for_a_user,
    drop_all_capabilities,
    drop_one_capability,
    add_a_capability,
    add_a_capability_that_the_host_lacks,
    no_new_privileges,
    seccomp_default,
    seccomp_unconfined,
    seccomp_profile,
    seccomp_profile_with_arguments,
    privileged,
    unmasked_system_paths,
    keyring_is_own,
];

/// Checks that the runtime, and not docker, refuses to start a container.
///
/// Docker gives 126 when the runtime's message has "permission denied" in it, which differs between runtimes.
pub(crate) fn refused(t: &Test<'_>, command: &str) -> Result<()> {
    let done = t.run(command, "")?;
    ensure!([125, 126].contains(&done.code) && done.err.contains("OCI runtime create failed"), "{done:?}");
    Ok(())
}

fn user_by_number(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm --user 1234:5678 bb sh -c", "id -u; id -g; id -G", "1234\n5678\n5678")
}

fn user_and_group(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm --user app:extra bb sh -c", "id -u; id -g", "1000\n1001")
}

fn group_add(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm --user 1000:1000 --group-add 2000 --group-add extra bb id -G", "", "1000 1001 2000")
}

fn default_capabilities(t: &Test<'_>) -> Result<()> {
    let script = "grep Cap /proc/self/status | cut -f2 | tr '\\n' ' '";
    let want = "0000000000000000 00000000a80425fb 00000000a80425fb 00000000a80425fb 0000000000000000";
    t.prints("run --rm bb sh -c", script, want)
}

fn no_capabilities_for_a_user(t: &Test<'_>) -> Result<()> {
    let want = "0000000000000000 0000000000000000 0000000000000000 00000000a80425fb 0000000000000000";
    t.prints("run --rm --user 1000 bb sh -c", "grep Cap /proc/self/status | cut -f2 | tr '\\n' ' '", want)
}

fn drop_all_capabilities(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm --cap-drop ALL bb sh -c", "grep Cap /proc/self/status | cut -f2 | sort -u", "0000000000000000")
}

fn drop_one_capability(t: &Test<'_>) -> Result<()> {
    t.fails("run --rm --cap-drop CHOWN bb chown 1 /tmp", "", 1, "not permitted")?;
    t.ok("run --rm bb chown 1 /tmp", "").map(drop)
}

fn add_a_capability(t: &Test<'_>) -> Result<()> {
    t.ok("run --rm --cap-add NET_ADMIN bb ip link add type veth", "")?;
    t.fails("run --rm bb ip link add type veth", "", 2, "not permitted")?;
    t.prints(
        "run --rm --cap-drop ALL --cap-add KILL bb sh -c",
        "grep CapEff /proc/self/status | cut -f2",
        "0000000000000020",
    )
}

fn add_a_capability_that_the_host_lacks(t: &Test<'_>) -> Result<()> {
    let command = "run --rm --cap-add SYS_RESOURCE bb sh -c";
    if lacks_resource_capability()? {
        return refused(t, "run --rm --cap-add SYS_RESOURCE bb true");
    }
    t.prints(command, "grep CapEff /proc/self/status | cut -f2", "00000000a90425fb")
}

fn no_new_privileges(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm --security-opt no-new-privileges bb grep NoNewPrivs /proc/self/status", "", "NoNewPrivs:\t1")?;
    t.prints("run --rm bb grep NoNewPrivs /proc/self/status", "", "NoNewPrivs:\t0")
}

fn seccomp_default(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm bb grep Seccomp: /proc/self/status", "", "Seccomp:\t2")?;
    t.fails("run --rm bb unshare --user true", "", 1, "not permitted")
}

fn seccomp_unconfined(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm --security-opt seccomp=unconfined bb grep Seccomp: /proc/self/status", "", "Seccomp:\t0")?;
    t.ok("run --rm --security-opt seccomp=unconfined bb unshare --user true", "").map(drop)
}

/// Writes a profile and runs a script under it.
fn with_profile(t: &Test<'_>, profile: &str, script: &str, want: &str) -> Result<()> {
    let file = t.folder()?.join("profile.json");
    std::fs::write(&file, profile)?;
    t.prints(&format!("run --rm --security-opt seccomp={} bb sh -c", file.display()), script, want)
}

fn seccomp_profile(t: &Test<'_>) -> Result<()> {
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 37},
                     {"names": ["no_such_call"], "action": "SCMP_ACT_KILL"}]}"#;
    // 37 is ENOLCK.
    with_profile(t, profile, "mkdir /tmp/x 2>&1 | grep -c 'No locks available'; touch /tmp/y && echo fine", "1\nfine")
}

fn seccomp_profile_with_arguments(t: &Test<'_>) -> Result<()> {
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]},
                     {"names": ["nice", "setpriority"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#;
    let script =
        "kill -USR1 $$ 2>&1 | grep -c 'not permitted'; kill -0 $$ && echo fine; sh -c 'renice -n 1 $$'; echo $?";
    with_profile(t, profile, script, "1\nfine\n159")
}

fn privileged(t: &Test<'_>) -> Result<()> {
    let command = "run --rm --privileged bb sh -c";
    let script = "grep Seccomp: /proc/self/status; mkdir /tmp/m && mount -t tmpfs none /tmp/m && test -w /proc/sys/kernel/panic && echo open";
    if lacks_resource_capability()? {
        return refused(t, "run --rm --privileged bb true");
    }
    t.prints(command, script, "Seccomp:\t0\nopen")
}

fn unmasked_system_paths(t: &Test<'_>) -> Result<()> {
    let script = "grep -cE ' /proc/(sys|bus|fs|irq|keys|acpi) ' /proc/mounts || grep -q . /proc/keys && echo open";
    t.prints("run --rm --security-opt systempaths=unconfined bb sh -c", script, "0\nopen")
}

fn keyring_is_own(t: &Test<'_>) -> Result<()> {
    // Docker's default profile refuses keyctl and its default paths hide /proc/keys.
    let id = t.ok("run -d --name {} --security-opt systempaths=unconfined bb sleep 1000", "")?;
    let keys = t.ok("exec {} cat /proc/keys", "")?;
    ensure!(keys.lines().any(|line| line.contains(" keyring ") && line.contains(&id)), "no keyring named {id}: {keys}");
    Ok(())
}
