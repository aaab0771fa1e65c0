//! SELinux labels of processes, keys and mounts, on a machine that was booted with SELinux and without a policy.
//!
//! The tests load a small policy of their own, once: all of a file share one process there. What the machine itself does, the
//! policy allows.

use std::fs;
use std::process::Command;
use std::sync::OnceLock;

use integration::requires::{Need, skip_without};
use integration::{Bundle, Output, Sandbox, case, json};

/// The compiler of policies (package checkpolicy).
const COMPILER: &str = "/usr/bin/checkpolicy";
const POLICY: &str = include_str!("policy.conf");

const LABEL: &str = "system_u:system_r:container_t:s0:c1,c2";
const MOUNTS: &str = "system_u:object_r:file_t:s0:c1,c2";
/// Of a type that the policy has not.
const UNKNOWN: &str = "system_u:system_r:nonsense_t:s0";

/// What a label came to before there was a policy.
static BEFORE: OnceLock<Output> = OnceLock::new();

/// Runs a case under the policy; whoever comes first loads it.
#[track_caller]
fn under_policy(body: impl FnOnce(&Sandbox)) {
    case(|sb| {
        if skip_without(&[Need::OwnMachine, Need::Selinux, Need::Program(COMPILER)]) {
            return;
        }
        BEFORE.get_or_init(|| {
            let before = sb.run(&labelled(sb).args(&["true"]));
            load(sb);
            before
        });
        body(sb);
    });
}

fn load(sb: &Sandbox) {
    let (source, binary) = (sb.dir.join("policy.conf"), sb.dir.join("policy"));
    fs::write(&source, POLICY).expect("write the policy");
    let mut compiler = Command::new(COMPILER);
    let said = compiler.args(["-M", "-U", "allow", "-o"]).arg(&binary).arg(&source).output().expect("run checkpolicy");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    // One write: the kernel takes the whole policy at once.
    fs::write("/sys/fs/selinux/load", fs::read(&binary).expect("read the policy")).expect("load the policy");
    fs::write("/sys/fs/selinux/enforce", "1").expect("enforce the policy");
}

/// Shows the label and tries to read the file that containers may not read.
const SCRIPT: &str = "tr -d '\\0' < /proc/self/attr/current; echo; cat /secret 2>&1";

fn bundle(sb: &Sandbox) -> Bundle {
    sb.bundle().file("/secret", "readable\n", 0o644)
}

/// Gives a file of the rootfs its label: what the policy keeps from containers.
fn hide(b: &Bundle) {
    let value = "system_u:object_r:secret_t:s0";
    let mut command = Command::new("/usr/bin/setfattr");
    let set = command.args(["-n", "security.selinux", "-v", value]).arg(b.rootfs().join("secret")).status();
    assert!(set.expect("run setfattr").success());
}

fn labelled(sb: &Sandbox) -> Bundle {
    bundle(sb).set("/process/selinuxLabel", json!(LABEL))
}

#[track_caller]
fn denied(text: &str, label: &str) {
    assert!(text.starts_with(&format!("{label}\n")) && text.contains("Permission denied"), "{text}");
}

#[test]
fn without_a_policy_a_label_is_refused_as_without_selinux() {
    under_policy(|_| {
        let before = BEFORE.get().expect("somebody was first");
        before.code_is(1);
        before.fails_saying("selinux is disabled or not supported");
    });
}

#[test]
fn a_label_confines_the_process() {
    under_policy(|sb| {
        for no_new_privileges in [true, false] {
            let b = labelled(sb).set("/process/noNewPrivileges", json!(no_new_privileges)).sh(SCRIPT);
            hide(&b);
            denied(&sb.run(&b).stdout, LABEL);
        }
        let free = bundle(sb).sh(SCRIPT);
        hide(&free);
        let said = sb.run(&free).ok();
        assert!(said.contains("host_t") && said.ends_with("readable"), "{said}");
    });
}

#[test]
fn a_label_confines_a_user_in_a_user_namespace() {
    under_policy(|sb| {
        let b = labelled(sb).sh(SCRIPT).user_namespace().set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
        hide(&b);
        denied(&sb.run(&b).stdout, LABEL);
    });
}

#[test]
fn an_exec_has_the_label_of_the_container_or_its_own() {
    under_policy(|sb| {
        let b = labelled(sb).sleeper();
        hide(&b);
        let c = sb.detached(&b);
        denied(&sb.exec_sh(&c.id, SCRIPT).stdout, LABEL);
        let other = "system_u:system_r:container_t:s0:c0";
        denied(&sb.exec_with(&c.id, &["--process-label", other], &["sh", "-c", SCRIPT]).stdout, other);
        let file = sb.dir.join("process.json");
        let process = json!({ "cwd": "/", "args": ["/bin/sh", "-c", SCRIPT], "selinuxLabel": other });
        fs::write(&file, process.to_string()).expect("write the process");
        denied(&sb.call(&["exec", "--process"]).arg(&file).arg(&c.id).run().stdout, other);
        let out = sb.exec_with(&c.id, &["--process-label", UNKNOWN], &["true"]);
        out.code_is(255);
        out.fails_saying(UNKNOWN);
        assert_eq!(sb.status(&c.id), "running");
        sb.delete_force(&c.id).ok();
    });
}

#[test]
fn a_label_that_the_policy_has_not_is_an_error_before_the_program() {
    under_policy(|sb| {
        // No such type, a role that has not this type, a category that is not there.
        let wrong = [UNKNOWN, "system_u:system_r:other_t:s0", "system_u:system_r:container_t:s0:c9"];
        for label in wrong {
            let b = bundle(sb).writable().set("/process/selinuxLabel", json!(label)).sh("touch /ran");
            let out = sb.create(&b);
            out.code_is(1);
            out.fails_saying(label);
            out.fails_saying("attr/");
            sb.call(&["state", &b.id]).run().fails_saying("does not exist");
            assert!(!b.rootfs().join("ran").exists());
        }
    });
}

#[test]
fn mounts_have_their_label() {
    under_policy(|sb| {
        let b = labelled(sb).set("/linux/mountLabel", json!(MOUNTS)).set("/linux/maskedPaths", json!(["/proc/acpi"]));
        let b = b.mount("tmpfs", "/mnt", "tmpfs", &["size=64k"]).sh("touch /mnt/new; exec sleep 1000");
        let c = sb.detached(&b);
        let text = fs::read_to_string(format!("/proc/{}/mountinfo", c.pid)).expect("read the mounts");
        let shown = format!("context=\"{MOUNTS}\"");
        for target in ["/dev", "/dev/shm", "/mnt"] {
            let line = text.lines().find(|line| line.split(' ').nth(4) == Some(target));
            let line = line.unwrap_or_else(|| panic!("no {target} in {text}"));
            assert!(line.contains(&shown), "{line}");
        }
        // Not what has labels of its own.
        let proc = text.lines().find(|line| line.split(' ').nth(4) == Some("/proc")).expect("a /proc");
        assert!(!proc.contains("context="), "{proc}");
        sb.delete_force(&c.id).ok();
        let b = bundle(sb).set("/linux/mountLabel", json!("system_u:object_r:nonsense_t:s0")).sleeper();
        sb.create(&b).code_is(1).fails_saying("context");
        sb.call(&["state", &b.id]).run().fails_saying("does not exist");
    });
}
