//! systemd as the first process of namespaces, on a machine that has none: for the tests of the systemd driver on v1.
//!
//! It gets a group of its own in each v1 hierarchy as the top, a bus, and no other service. A test gives it a program to
//! run as a service; when the value is dropped it powers off, and its groups are removed.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::host;

/// Where systemd is; without its package it is not there.
pub const SYSTEMD: &str = "/lib/systemd/systemd";

/// Which hierarchies systemd keeps its processes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// v1 alone.
    Legacy,
    /// v1, and the unified hierarchy without controllers beside it.
    Hybrid,
}

/// A running systemd.
#[derive(Debug)]
pub struct Booted {
    unshare: Child,
    /// Its pid on the machine.
    pub pid: u32,
    groups: Vec<PathBuf>,
}

impl Booted {
    /// Boots, and waits until it is up.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn boot(layout: Layout) -> Booted {
        let name = format!("skboot{:x}{layout:?}", std::process::id());
        let groups: Vec<PathBuf> = host::cgroup_mounts().into_iter().map(|mount| mount.join(&name)).collect();
        for group in &groups {
            fs::create_dir(group).unwrap_or_else(|e| panic!("create {}: {e}", group.display()));
            inherit_cpuset(group);
        }
        let legacy = if layout == Layout::Legacy { "yes" } else { "no" };
        let options = format!("systemd.unified_cgroup_hierarchy=no systemd.legacy_systemd_cgroup_controller={legacy}");
        let script = include_str!("booted.sh");
        let mut command = Command::new("sh");
        command.args(["-c", script, "booted", &options]).args(&groups).env("SCRIPT", script);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let unshare = command.spawn().expect("start sh");
        let mut booted = Booted { unshare, pid: 0, groups };
        host::eventually("systemd is the first process of its namespace", || booted.find());
        host::eventually("systemd is up", || {
            let state = booted.enter(&["systemctl", "is-system-running"]).output().expect("run nsenter");
            matches!(String::from_utf8_lossy(&state.stdout).trim(), "running" | "degraded")
        });
        booted
    }

    /// Looks for the process that `unshare` has forked, once it is systemd.
    fn find(&mut self) -> bool {
        let parent = self.unshare.id();
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        let Some(pid) = children.split_whitespace().next().and_then(|pid| pid.parse().ok()) else { return false };
        self.pid = pid;
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "systemd")
    }

    /// A program in its namespaces, but in the caller's groups: a client of it.
    fn enter(&self, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string()]);
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]).args(args);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a program as a service of it, in the caller's folder and with these variables of the caller's environment.
    /// Returns whether it succeeded, and all that it printed.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&self, program: &str, args: &[&str], variables: &[&str]) -> (bool, String) {
        let folder = std::env::current_dir().expect("the current folder");
        let folder = format!("--working-directory={}", folder.display());
        let quiet = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", &folder];
        let mut command = self.enter(&quiet);
        command.args(["--property=DefaultDependencies=no", "--property=Delegate=yes"]);
        for name in variables {
            if let Ok(value) = std::env::var(name) {
                command.arg(format!("--setenv={name}={value}"));
            }
        }
        // One pipe for both, so that the order is kept.
        let line = "exec \"$@\" 2>&1";
        let output = command.args(["sh", "-c", line, "sh", program]).args(args).output().expect("run nsenter");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Units that have failed.
    ///
    /// # Panics
    /// When it cannot be asked.
    pub fn failed_units(&self) -> String {
        let output = self.enter(&["systemctl", "--failed", "--no-legend", "--plain"]).output().expect("run nsenter");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn power_off(&mut self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.pid != 0
            && let Err(e) = self.enter(&["systemctl", "poweroff", "--force"]).stderr(Stdio::null()).status()
        {
            problems.push(format!("run nsenter: {e}"));
        }
        let unshare = &mut self.unshare;
        if !host::within(Duration::from_secs(20), || !matches!(unshare.try_wait(), Ok(None))) {
            problems.push("systemd does not power off".to_owned());
            if let Err(e) = unshare.kill().and_then(|()| unshare.wait()) {
                problems.push(format!("kill unshare: {e}"));
            }
        }
        for group in &self.groups {
            let gone = || host::folders_deepest_first(group).iter().all(|folder| fs::remove_dir(folder).is_ok());
            if !host::within(Duration::from_secs(10), gone) {
                problems.push(format!("cgroup {} cannot be removed", group.display()));
            }
        }
        problems
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        let problems = self.power_off();
        if !problems.is_empty() && !std::thread::panicking() {
            panic!("left behind: {problems:#?}");
        }
    }
}

/// A new v1 cpuset has neither CPUs nor nodes, and lets nobody in.
fn inherit_cpuset(group: &std::path::Path) {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let parent = group.parent().expect("a group below a mount").join(file);
        if let Ok(value) = fs::read_to_string(&parent) {
            fs::write(group.join(file), value.trim()).unwrap_or_else(|e| panic!("write {file}: {e}"));
        }
    }
}
