//! Debian's docker drives the runtime under test: one private dockerd with its own containerd, one table of cases.

mod filesystem;
mod lifecycle;
mod limits;
mod namespaces;
mod nested;
mod security;
mod supervision;

use std::process::Command;

use anyhow::{Context, Result};
use integration::client::daemon::Daemon;
use integration::client::leftovers::{Kept, Leftovers};
use integration::client::{Cell, Cli, Need, Test, image, in_cell, report_left, run_table};

const NEEDS: [Need; 4] = [
    Need { program: "dockerd", package: "docker.io" },
    Need { program: "docker", package: "docker.io" },
    Need { program: "containerd", package: "containerd" },
    Need { program: "iptables", package: "iptables" },
];

/// What dockerd keeps when its last container is gone: the parent groups, its bridge, its own network namespace.
const KEPT: Kept = Kept {
    group: |path| path == "docker",
    bridges: &["docker0"],
    mounts: &["/run/docker/netns/default"],
    states: &[
        "/run/docker/runtime-runc/moby",
        "/run/docker/runtime-test/moby",
        "/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby",
    ],
};

#[test]
fn docker_drives_the_runtime() {
    in_cell("docker_drives_the_runtime", &NEEDS, run_cases).unwrap();
}

fn run_cases(cell: &Cell) -> Result<()> {
    let cli = Cli::new(&cell.dir, &["docker"])?;
    let daemon = start_daemon(cell, &cli)?;
    let archive = image::make_archive(&cell.dir)?;
    cli.run("load --quiet --input", &archive.display().to_string())?.ok()?;
    let before = Leftovers::before()?;
    let tables = [
        &lifecycle::CASES[..],
        &filesystem::CASES,
        &limits::CASES,
        &namespaces::CASES,
        &nested::CASES,
        &security::CASES,
        &supervision::CASES,
        &supervision::ALONE,
    ];
    let ended = run_table("docker", cell, &cli, &tables.concat(), 3, &remove_containers);
    let left = report_left("docker", cell, before.check(&KEPT));
    daemon.stop()?;
    ended.and(left)
}

/// Starts dockerd with the runtime under test as its default, on the cell's own `/run`.
fn start_daemon(cell: &Cell, cli: &Cli) -> Result<Daemon> {
    let mut command = Command::new("dockerd");
    command.arg("--data-root").arg(cell.dir.join("docker"));
    command.args(["--exec-root", "/run/docker", "--pidfile", "/run/docker.pid"]);
    command.args(["--host", "unix:///run/docker.sock", "--default-runtime", "test"]);
    command.arg("--add-runtime").arg(format!("test={}", cell.runtime.path.display()));
    Daemon::start(&cell.dir, &mut command, || Ok(cli.run("version", "")?.code == 0)).context("dockerd")
}

/// Removes what the case named after itself, with its anonymous volumes.
fn remove_containers(test: &Test<'_>) -> Result<()> {
    let names = test.ok("ps --all --quiet --filter name=^/?{}(-.*)?$", "")?;
    if !names.is_empty() {
        test.ok(&format!("rm --force --volumes {}", names.replace('\n', " ")), "")?;
    }
    Ok(())
}
