//! What skep computes before it asks the kernel for anything, by itself: `pure parse|plan CONFIG`.
//!
//! `parse` reads and judges a definition; `plan` also makes the plan of it, the seccomp program included, for a host that is
//! written down here. So instructions can be counted that are the same on every machine, also where a tool that counts them
//! does not know the kernel calls of the rest (valgrind before 3.21 has no openat2).

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

use std::process::ExitCode;

use cgroup::{Hierarchy, Layout, Mode};
use engine::facts::HostFacts;
use engine::options::CreateOptions;
use runtime_spec::ContainerSpec;

// As skep has it.
#[global_allocator]
static HEAP: sys::heap::Heap = sys::heap::Heap::new();

/// The hierarchies of the host: those of v1 that a kernel has.
const CONTROLLERS: [&str; 12] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "hugetlb",
    "net_cls",
    "perf_event",
    "name=systemd",
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let told = match words[..] {
        ["parse", config] => load(config).map(|spec| format!("{} mounts", spec.mounts.len())),
        ["plan", config] => load(config).and_then(|spec| plan(&spec)),
        _ => Err("usage: pure parse|plan CONFIG".to_owned()),
    };
    match told {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
    }
}

fn load(path: &str) -> Result<ContainerSpec, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let report = runtime_spec::load(&bytes);
    let first = report.findings.first().map(ToString::to_string).unwrap_or_default();
    report.spec.ok_or(format!("{path}: {first}"))
}

fn plan(spec: &ContainerSpec) -> Result<String, String> {
    let options = CreateOptions { id: "pure".into(), rootfs: spec.root.path.clone(), ..CreateOptions::default() };
    let plan = engine::plan::plan_create(spec, &facts(), &options).map_err(|error| error.to_string())?;
    Ok(format!("{} and {} steps, {} of seccomp", plan.host.len(), plan.child.len(), plan.seccomp.len()))
}

fn facts() -> HostFacts {
    let hierarchy = |(at, name): (usize, &&str)| Hierarchy {
        id: u32::try_from(at + 1).unwrap_or(u32::MAX),
        controllers: vec![(*name).to_owned()],
        mountpoint: format!("/sys/fs/cgroup/{}", name.trim_start_matches("name=")),
        own_path: "/".to_owned(),
    };
    let hierarchies = CONTROLLERS.iter().enumerate().map(hierarchy).rev().collect();
    HostFacts {
        euid: 0,
        egid: 0,
        capabilities: u64::MAX,
        in_user_namespace: false,
        may_mount: true,
        setgroups_denied: false,
        cgroups: Layout { mode: Mode::Legacy, hierarchies, unified: None },
        closed_hierarchies: Vec::new(),
        apparmor: false,
        apparmor_confined: false,
        selinux: false,
        landlock: 3,
        systemd: None,
    }
}
