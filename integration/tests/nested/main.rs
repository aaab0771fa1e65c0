//! Container clients inside a privileged container of the runtime under test, which they drive there once more.
//!
//! The container's root file system is the machine's own, with a writable layer in memory above it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use integration::bundle::{Bundle, default_spec};
use integration::cases;
use integration::client::leftovers::{Kept, Leftovers};
use integration::client::privileges::bounding_capabilities;
use integration::client::{Case, Cell, Cli, Need, Test, image, in_cell, report_left, run_table};
use serde_json::json;

const NEEDS: [Need; 5] = [
    Need { program: "dockerd", package: "docker.io" },
    Need { program: "docker", package: "docker.io" },
    Need { program: "containerd", package: "containerd" },
    Need { program: "podman", package: "podman" },
    Need { program: "conmon", package: "conmon" },
];

const CASES: [Case; 4] = cases![
    alone: docker, docker_without_cgroup_namespace, podman, own_group_is_not_mistaken_for_one_of_the_same_id,
];

/// A container that ended leaves nothing at all.
const KEPT: Kept = Kept { group: |_| false, bridges: &[], mounts: &[], states: &[STATE] };

/// Where the outer containers' state is.
const STATE: &str = "/run/outer";

/// The root file system of the containers, below the cell's folder.
const ROOTFS: &str = "outer/rootfs";

#[test]
fn clients_run_inside_a_privileged_container() {
    in_cell("clients_run_inside_a_privileged_container", &NEEDS, run_cases).unwrap();
}

fn run_cases(cell: &Cell) -> Result<()> {
    let runtime = cell.runtime.path.display().to_string();
    let cli = Cli::new(&cell.dir, &[runtime.as_str(), "--root", STATE])?;
    image::make_archive(&cell.dir)?;
    mount_rootfs(&cell.dir)?;
    let before = Leftovers::before()?;
    let ended = run_table("nested", cell, &cli, &CASES, 1, &|t: &Test<'_>| t.ok("delete --force {}", "").map(drop));
    ended.and(report_left("nested", cell, before.check(&KEPT)))
}

/// The machine's tree under a layer in memory: an overlay cannot be the upper layer of another one.
fn mount_rootfs(dir: &Path) -> Result<()> {
    let (rootfs, layer) = (dir.join(ROOTFS), dir.join("outer/layer"));
    fs::create_dir_all(&rootfs)?;
    fs::create_dir_all(&layer)?;
    mount(&["-t", "tmpfs", "layer"], &layer)?;
    let (upper, work) = (layer.join("upper"), layer.join("work"));
    fs::create_dir(&upper)?;
    fs::create_dir(&work)?;
    let options = format!("lowerdir=/,upperdir={},workdir={}", upper.display(), work.display());
    mount(&["-t", "overlay", "-o", &options, "machine"], &rootfs)
}

fn mount(words: &[&str], on: &Path) -> Result<()> {
    let status = Command::new("mount").args(words).arg(on).status().context("mount")?;
    ensure!(status.success(), "mount {words:?} on {}: {status}", on.display());
    Ok(())
}

/// A container with all that the machine's root may do, and nothing of `/proc` and `/sys` hidden or read-only.
fn privileged(t: &Test<'_>, script: &str) -> Result<Bundle> {
    let dir = t.folder()?;
    let bundle = Bundle { id: t.name.to_owned(), dir, spec: default_spec() }
        .set("/root/path", json!(t.cell.dir.join(ROOTFS)))
        .args(&["bash", "-c", script])
        .writable()
        .capabilities(&bounding_capabilities()?)
        .set("/process/noNewPrivileges", json!(false))
        .unset("/process/rlimits")
        .unset("/linux/maskedPaths")
        .unset("/linux/readonlyPaths")
        .set("/linux/resources/devices", json!([{ "allow": true, "access": "rwm" }]))
        .without_mount("/sys")
        .without_mount("/sys/fs/cgroup")
        .mount("sysfs", "/sys", "sysfs", &["nosuid", "noexec", "nodev"])
        .mount("cgroup", "/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev"])
        .mount("tmpfs", "/run", "tmpfs", &["mode=755"])
        .bind(&t.cell.runtime.path, "/runtime", &["ro"])
        .bind(&t.cell.dir.join("image.tar"), "/image.tar", &["ro"]);
    Ok(bundle)
}

/// Runs a container to its end and compares what it printed.
fn prints(t: &Test<'_>, bundle: &Bundle, want: &str) -> Result<()> {
    bundle.write();
    let dir = bundle.dir.display().to_string();
    let got = t.words(&["run", "--bundle", &dir, "{}"])?.ok()?;
    ensure!(got == want, "the container printed {got:?}, not {want:?}");
    Ok(())
}

const DOCKER: &str = include_str!("docker.sh");
const DOCKER_PRINTS: &str = "hello\n67108864\nexec\ngroups left: \nstates left:";

fn docker(t: &Test<'_>) -> Result<()> {
    prints(t, &privileged(t, DOCKER)?, DOCKER_PRINTS)
}

/// There the paths in `/proc/self/cgroup` begin with the container's group, which the mounts begin at.
fn docker_without_cgroup_namespace(t: &Test<'_>) -> Result<()> {
    prints(t, &privileged(t, DOCKER)?.without_namespace("cgroup"), DOCKER_PRINTS)
}

fn podman(t: &Test<'_>) -> Result<()> {
    prints(t, &privileged(t, include_str!("podman.sh"))?, "hello\n67108864\nexec\ngroups left:")
}

/// In a container without a cgroup namespace there may be a group with the container's own path below the mount, which
/// begins at the container's group.
fn own_group_is_not_mistaken_for_one_of_the_same_id(t: &Test<'_>) -> Result<()> {
    let script = format!(
        "set -e; for at in /sys/fs/cgroup/*/; do [ -L ${{at%/}} ] || mkdir $at/{id}; done
         /runtime --root /run/state run --bundle /inner inner
         for at in /sys/fs/cgroup/*/; do [ -L ${{at%/}} ] || rmdir $at/{id}; done",
        id = t.name
    );
    let inner = t.folder()?.join("inner");
    fs::create_dir(&inner)?;
    let bundle = Bundle { id: "inner".to_owned(), dir: inner, spec: default_spec() }.without_namespace("cgroup");
    let bundle = bundle.sh("grep -E ':(memory|pids)?:' /proc/self/cgroup | cut -d: -f3 | sort -u");
    bundle.write();
    let image = t.cell.dir.join("image/root");
    let outer = privileged(t, &script)?.without_namespace("cgroup").bind(&bundle.dir, "/inner", &[]);
    prints(t, &outer.bind(&image, "/inner/rootfs", &[]), &format!("/{}/inner", t.name))
}
