//! The machine's own files as a whole system: on the machines that are thrown away, with the cgroup layout of each.

use integration::case_with;
use integration::defined::Defined;
use integration::host::within;
use integration::requires::Need;
use std::time::Duration;

/// Services of the machine that are not for a container: what runs the tests is one of them.
const LEFT_OUT: [&str; 2] = ["/etc/systemd/system/multi-user.target.wants", "/etc/systemd/system/timers.target.wants"];

fn runs_systemd(options: &[&str]) {
    case_with(&[Need::Skep, Need::Systemd, Need::OwnMachine], |sb| {
        let d = Defined::new(sb);
        let name = d.name("own");
        let mut all = vec!["--init", "--memory", "256M", "--cpus", "1"];
        all.extend(LEFT_OUT.iter().flat_map(|path| ["--hide", path]));
        all.extend(options);
        d.create_plain(&name, "host", &all).ok();
        d.call(&["start", &name]).ok();
        let state = || sb.exec_with(&name, &[], &["systemctl", "is-system-running"]).stdout.trim().to_owned();
        let up = within(Duration::from_secs(60), || matches!(state().as_str(), "running" | "degraded"));
        let failed = sb.exec_sh(&name, "systemctl --failed --plain --no-legend; systemctl list-jobs --no-legend").ok();
        assert!(up, "{}: {failed}: {}", state(), d.call(&["logs", &name]).stdout);
        assert_eq!((state().as_str(), failed.as_str()), ("running", ""));

        // It divides its own group, and what is added to it is no sibling of what it has divided.
        let groups = sb.exec_sh(&name, "cat /proc/1/cgroup").ok();
        assert!(groups.lines().any(|line| line.ends_with("/init.scope")), "{groups}");
        assert!(!sb.exec_sh(&name, "cat /proc/self/cgroup").ok().contains("/.."));
        sb.cgroup_is("memory", &name, "memory.limit_in_bytes", &(256 << 20).to_string());
        // Files of /proc tell of the container, whatever the version of its groups.
        let view = "nproc; awk '/^MemTotal/ { print $2 }' /proc/meminfo; grep -c '^cpu[0-9]' /proc/stat; \
                    grep -c ^processor /proc/cpuinfo";
        assert_eq!(sb.exec_sh(&name, view).ok(), "1\n262144\n1\n1");
        if options.is_empty() {
            let lift = "for f in /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max; do \
                        test ! -e $f || { echo 1073741824 > $f && echo lifted; }; done; true";
            assert!(!sb.exec_sh(&name, lift).ok().contains("lifted"));
            sb.cgroup_is("memory", &name, "memory.limit_in_bytes", &(256 << 20).to_string());
        }
        d.call(&["stop", "--time", "300", &name]).ok();
        let last = std::fs::read_to_string(d.folder(&name).join("own/last.json")).expect("read");
        assert!(last.contains("\"halted\""), "{last}");
        d.call(&["destroy", &name]).ok();
    });
}

#[test]
fn systemd_of_the_machine_runs_in_a_user_namespace() {
    runs_systemd(&[]);
}

#[test]
fn systemd_of_the_machine_runs_without_a_user_namespace() {
    runs_systemd(&["--privileged"]);
}
