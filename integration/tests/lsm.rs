//! AppArmor profiles and SELinux labels: applied to the process and to an exec, or refused before anything runs.

use std::fs;
use std::process::Command;

use integration::requires::Need;
use integration::{Bundle, Sandbox, case, case_with, json};

const PARSER: &str = "/sbin/apparmor_parser";

/// A profile in the kernel, unloaded with the test.
struct Profile {
    name: String,
    file: std::path::PathBuf,
}

impl Profile {
    /// Loads a profile that allows everything but to read this file.
    fn load(sb: &Sandbox, kind: &str, denied: &str) -> Profile {
        let name = format!("skep-test-{}-{kind}", sb.name);
        let file = sb.dir.join(format!("{kind}.aa"));
        let rules = "file, capability, network, signal, ptrace, mount, umount, remount, pivot_root, unix, dbus, \
            change_profile,";
        let text =
            format!("profile {name} flags=(attach_disconnected,mediate_deleted) {{\n{rules}\ndeny {denied} r,\n}}\n");
        fs::write(&file, text).expect("write the profile");
        let profile = Profile { name, file };
        profile.parse("--replace");
        profile
    }

    fn parse(&self, action: &str) {
        let said = Command::new(PARSER).args(["--skip-cache", action]).arg(&self.file).output();
        let said = said.unwrap_or_else(|e| panic!("{PARSER}: {e}"));
        assert!(said.status.success(), "{action}: {}", String::from_utf8_lossy(&said.stderr));
    }

    /// What the kernel shows of a process under it.
    fn shown(&self) -> String {
        format!("{} (enforce)", self.name)
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        self.parse("--remove");
    }
}

/// What the cases need.
const NEEDS: &[Need] = &[Need::Apparmor, Need::Program(PARSER)];

/// Shows the label and tries to read the file that a profile may deny.
const SCRIPT: &str = "cat /proc/self/attr/apparmor/current; cat /secret 2>&1";

fn bundle(sb: &Sandbox) -> Bundle {
    sb.bundle().file("/secret", "readable\n", 0o644)
}

fn with_profile(sb: &Sandbox, profile: &Profile) -> Bundle {
    bundle(sb).set("/process/apparmorProfile", json!(profile.name))
}

#[track_caller]
fn denied(text: &str, shown: &str) {
    assert!(text.starts_with(&format!("{shown}\n")) && text.contains("Permission denied"), "{text}");
}

#[test]
fn a_profile_confines_the_process() {
    case_with(NEEDS, |sb| {
        let profile = Profile::load(sb, "p", "/secret");
        for no_new_privileges in [true, false] {
            let b = with_profile(sb, &profile).set("/process/noNewPrivileges", json!(no_new_privileges));
            denied(&sb.run(&b.sh(SCRIPT)).stdout, &profile.shown());
        }
        let free = sb.run(&bundle(sb).sh(SCRIPT)).ok();
        assert_eq!(free, "unconfined\nreadable");
    });
}

#[test]
fn a_profile_confines_a_user_in_a_user_namespace() {
    case_with(NEEDS, |sb| {
        let profile = Profile::load(sb, "p", "/secret");
        let b = with_profile(sb, &profile).user_namespace().set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
        denied(&sb.run(&b.sh(SCRIPT)).stdout, &profile.shown());
    });
}

#[test]
fn an_exec_has_the_profile_of_the_container_or_its_own() {
    case_with(NEEDS, |sb| {
        let (profile, other) = (Profile::load(sb, "p", "/secret"), Profile::load(sb, "q", "/etc/passwd"));
        let c = sb.detached(&with_profile(sb, &profile).sleeper());
        denied(&sb.exec_sh(&c.id, SCRIPT).stdout, &profile.shown());
        let text = sb.exec_with(&c.id, &["--apparmor", &other.name], &["sh", "-c", SCRIPT]).ok();
        assert_eq!(text, format!("{}\nreadable", other.shown()));
        let text = sb.exec_with(&c.id, &["--apparmor", "unconfined"], &["sh", "-c", SCRIPT]).ok();
        assert_eq!(text, "unconfined\nreadable");
        let file = sb.dir.join("process.json");
        let process = json!({ "cwd": "/", "args": ["/bin/sh", "-c", SCRIPT], "apparmorProfile": profile.name });
        fs::write(&file, process.to_string()).expect("write the process");
        let out = sb.call(&["exec", "--process"]).arg(&file).arg(&c.id).run();
        denied(&out.stdout, &profile.shown());
        sb.delete_force(&c.id).ok();
    });
}

#[test]
fn unconfined_is_no_profile() {
    case(|sb| {
        let b = bundle(sb).set("/process/apparmorProfile", json!("unconfined"));
        assert_eq!(sb.run(&b.args(&["cat", "/secret"])).ok(), "readable");
    });
}

/// With AppArmor the kernel does not know the profile, without it no profile can be had: both before anything runs.
#[test]
fn a_profile_that_is_not_there_is_an_error_before_the_start() {
    case(|sb| {
        let text = if Need::Apparmor.is_met() {
            "/attr/apparmor/exec"
        } else {
            "apparmor: config provided but apparmor not supported"
        };
        let b = bundle(sb).writable().set("/process/apparmorProfile", json!("skep-no-such-profile")).sh("touch /ran");
        for verb in ["create", "run"] {
            let out = sb.verb(verb, &b, &[]).run();
            out.code_is(1);
            out.fails_saying(text);
            out.fails_saying("skep-no-such-profile");
            sb.call(&["state", &b.id]).run().fails();
        }
        assert!(!b.rootfs().join("ran").exists());
        let c = sb.detached(&bundle(sb).sleeper());
        let out = sb.exec_with(&c.id, &["--apparmor", "skep-no-such-profile"], &["true"]);
        out.code_is(255);
        out.fails_saying(text);
        assert_eq!(sb.status(&c.id), "running");
        sb.delete_force(&c.id).ok();
    });
}

/// A container that hides its own `attr` (CVE-2019-16884) is confined all the same: the label does not go through its
/// procfs. What is not a mask is refused.
#[test]
fn mounts_over_proc_do_not_catch_the_label() {
    case_with(NEEDS, |sb| {
        let profile = Profile::load(sb, "p", "/secret");
        let b = with_profile(sb, &profile).set("/linux/maskedPaths", json!(["/proc/1/attr", "/proc/self/attr"]));
        let b = b.set("/linux/readonlyPaths", json!(["/proc/self/task", "/proc/sys"]));
        let c = sb.detached(&b.sh("ls /proc/1/attr; cat /secret; exec sleep 1000"));
        let label = fs::read_to_string(format!("/proc/{}/attr/apparmor/current", c.pid)).expect("read the label");
        assert_eq!(label.trim(), profile.shown());
        integration::host::eventually("the file is tried", || c.output.stderr_now().contains("Permission denied"));
        assert_eq!(c.output.stdout_now(), "");
        let label = format!("cat /proc/self/attr/apparmor/current; {SCRIPT}");
        denied(&sb.exec_sh(&c.id, &label).stdout, &profile.shown());
        sb.delete_force(&c.id).ok();

        let fake = sb.dir.join("fake");
        fs::write(&fake, "").expect("write");
        for place in ["/proc/self/attr/apparmor/exec", "/proc/thread-self/attr/exec", "/proc/self/attr"] {
            let b = with_profile(sb, &profile).bind(&fake, place, &[]).sh("true");
            sb.create(&b).code_is(1).fails_saying("/proc");
        }
        let b = with_profile(sb, &profile).without_mount("/proc").mount("tmpfs", "/proc", "tmpfs", &[]).sh("true");
        sb.create(&b).code_is(1).fails_saying("/proc");
        assert_eq!(fs::read_to_string(&fake).expect("read"), "");
    });
}

/// The runtime under a profile of its own, as inside a container: with no_new_privs the kernel lets a profile be added only.
#[test]
fn a_runtime_under_a_profile_adds_to_it() {
    case_with(NEEDS, |sb| {
        let (outer, inner) = (Profile::load(sb, "o", "/etc/group"), Profile::load(sb, "i", "/secret"));
        let script = format!("printf 'exec {}' > /proc/self/attr/apparmor/exec && exec \"$@\"", outer.name);
        for (no_new_privileges, both) in [(true, true), (false, false)] {
            let b = with_profile(sb, &inner).set("/process/noNewPrivileges", json!(no_new_privileges)).sh(SCRIPT);
            b.write();
            let call =
                sb.program("/bin/sh").args(["-c", &script, "sh"]).arg(&sb.runtime.path).arg("--root").arg(&sb.root);
            let out = call.args(["run", "--bundle"]).arg(&b.dir).arg(&b.id).run();
            let shown = out.stdout.lines().next().unwrap_or_default().to_owned();
            assert_eq!((shown.contains(&inner.name), shown.contains(&outer.name)), (true, both), "{out:#?}");
            assert!(out.stdout.contains("Permission denied"), "{out:#?}");
        }
    });
}

#[test]
fn selinux_labels_without_selinux_are_errors_before_the_start() {
    case(|sb| {
        if Need::Selinux.is_met() {
            return;
        }
        let label = "system_u:system_r:container_t:s0:c1,c2";
        let b = bundle(sb).set("/process/selinuxLabel", json!(label)).sh("true");
        let text = "selinux label is specified in config, but selinux is disabled or not supported";
        sb.create(&b).code_is(1).fails_saying(text);
        let b = bundle(sb).set("/linux/mountLabel", json!(label)).sh("true");
        sb.create(&b).code_is(1).fails_saying("mount label is specified in config, but selinux is disabled");
        let c = sb.detached(&bundle(sb).sleeper());
        let out = sb.exec_with(&c.id, &["--process-label", label], &["true"]);
        out.code_is(255);
        out.fails_saying(text);
        let file = sb.dir.join("process.json");
        let process = json!({ "cwd": "/", "args": ["/bin/true"], "selinuxLabel": label });
        fs::write(&file, process.to_string()).expect("write the process");
        sb.call(&["exec", "--process"]).arg(&file).arg(&c.id).run().fails_saying(text);
        sb.delete_force(&c.id).ok();
    });
}
