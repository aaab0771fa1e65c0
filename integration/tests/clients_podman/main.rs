//! Debian's podman with conmon drives the runtime under test: a private storage, one table of cases.

mod lifecycle;
mod limits;
mod pods;
mod rootless;
mod security;

use anyhow::Result;
use integration::client::leftovers::{Kept, Leftovers};
use integration::client::{Case, Cell, Cli, Need, Test, image, in_cell, report_left, run_table};

const NEEDS: [Need; 3] = [
    Need { program: "podman", package: "podman" },
    Need { program: "conmon", package: "conmon" },
    Need { program: "/usr/lib/cni/bridge", package: "containernetworking-plugins" },
];

/// What podman keeps when its last container is gone: the parent groups, and the one that conmon runs in.
///
/// Of a pod's own group podman removes the hierarchies that it knows; others stay as the runtime made them on the way.
const KEPT: Kept = Kept {
    group: |path| ["libpod_parent", "libpod_parent/conmon"].contains(&path) || is_pod(path),
    bridges: &["cni-podman0"],
    mounts: &["/run/netns"],
    states: &["/run/runc", "/run/crun", "/run/skep"],
};

/// Debian's defaults raise two limits, which needs CAP_SYS_RESOURCE; `limits` has the case without these.
///
/// The manual has `runtime_supports_nocgroups`, the program reads the key without the last letter.
const CONFIGURATION: &str = r#"
[containers]
default_ulimits = ["nofile=1024:20000", "nproc=4096:32768"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime_supports_json = ["crun", "runc", "skep"]
runtime_supports_nocgroup = ["crun", "skep"]
"#;

/// Ranges for `--userns=auto`.
const SUBORDINATE_IDS: &str = "containers:100000:1000000\n";

/// Whether a group is a pod's: named by the 64 hexadecimal digits of its id alone.
fn is_pod(path: &str) -> bool {
    let id = path.strip_prefix("libpod_parent/").unwrap_or_default();
    id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[test]
fn podman_drives_the_runtime() {
    in_cell("podman_drives_the_runtime", &NEEDS, run_cases).unwrap();
}

#[test]
fn podman_drives_the_runtime_for_a_user() {
    in_cell("podman_drives_the_runtime_for_a_user", &rootless::NEEDS, |cell| {
        std::fs::write("/etc/containers/containers.conf", CONFIGURATION)?;
        rootless::run_cases(cell, &list_cases())
    })
    .unwrap();
}

fn list_cases() -> Vec<Case> {
    [&lifecycle::CASES[..], &limits::CASES, &security::CASES, &security::ALONE, &pods::CASES].concat()
}

fn run_cases(cell: &Cell) -> Result<()> {
    // The cell's own /etc.
    std::fs::write("/etc/containers/containers.conf", CONFIGURATION)?;
    std::fs::write("/etc/subuid", SUBORDINATE_IDS)?;
    std::fs::write("/etc/subgid", SUBORDINATE_IDS)?;
    let graph = cell.dir.join("graph").display().to_string();
    let runtime = cell.runtime.path.display().to_string();
    let program =
        ["podman", "--root", &graph, "--runroot", "/run/storage", "--tmpdir", "/run/libpod", "--runtime", &runtime];
    let cli = Cli::new(&cell.dir, &program)?;
    let archive = image::make_archive(&cell.dir)?;
    cli.run("load --quiet --input", &archive.display().to_string())?.ok()?;
    // The first container makes what podman keeps: its storage's own mount.
    cli.run("run --rm bb true", "")?.ok()?;
    let before = Leftovers::before()?;
    let ended = run_table("podman", cell, &cli, &list_cases(), 3, &remove_containers);
    ended.and(report_left("podman", cell, before.check(&KEPT)))
}

/// Removes what the case named after itself: pods first, then containers with their anonymous volumes.
fn remove_containers(test: &Test<'_>) -> Result<()> {
    for (list, remove) in [("pod ps", "pod rm --force --time 0"), ("ps --all", "rm --force --time 0 --volumes")] {
        let names = test.ok(&format!("{list} --quiet --filter name=^{{}}(-.*)?$"), "")?;
        if !names.is_empty() {
            test.ok(&format!("{remove} {}", names.replace('\n', " ")), "")?;
        }
    }
    Ok(())
}
