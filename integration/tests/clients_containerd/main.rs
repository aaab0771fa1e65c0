//! Debian's containerd drives the runtime under test: once by ctr, once through its CRI plugin, as a kubelet would.

mod ctr;
mod pods;

use std::process::Command;

use anyhow::{Context, Result};
use integration::client::cell::PATH;
use integration::client::cri::{self, Cri};
use integration::client::daemon::Daemon;
use integration::client::leftovers::{Kept, Leftovers};
use integration::client::{Cell, Cli, Need, Test, image, in_cell, report_left, run_table};

const NEEDS: [Need; 4] = [
    Need { program: "containerd", package: "containerd" },
    Need { program: "ctr", package: "containerd" },
    Need { program: "curl", package: "curl" },
    Need { program: "/usr/lib/cni/bridge", package: "containernetworking-plugins" },
];

const SOCKET: &str = "/run/containerd/containerd.sock";

/// What stays when the last container is gone: parent groups, the bridge of the pods' network.
const KEPT: Kept = Kept {
    group: |path| ["test", "kubepods", "kubepods/pod"].contains(&path),
    bridges: &["pods0"],
    mounts: &[],
    states: &[
        "/run/containerd/runc/test",
        "/run/containerd/runc/k8s.io",
        "/run/containerd/state/io.containerd.runtime.v2.task/test",
        "/run/containerd/state/io.containerd.runtime.v2.task/k8s.io",
        "/run/netns",
    ],
};

/// The pods' network.
const NETWORK: &str = r#"{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "pods0",
    "isGateway": true, "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.99.0.0/24"}]]}}]}"#;

#[test]
fn containerd_drives_the_runtime() {
    in_cell("containerd_drives_the_runtime", &NEEDS, run_cases).unwrap();
}

fn run_cases(cell: &Cell) -> Result<()> {
    let ctr = Cli::new(&cell.dir, &["ctr", "--address", SOCKET, "--namespace", "test"])?;
    let daemon = start_daemon(cell, &ctr)?;
    let archive = image::make_archive(&cell.dir)?.display().to_string();
    for namespace in ["test", "k8s.io"] {
        ctr.run(&format!("--namespace {namespace} image import {archive}"), "")?.ok()?;
    }
    let before = Leftovers::before()?;
    let by_ctr = run_table("ctr", cell, &ctr, &ctr::CASES, 3, &ctr::remove_containers);
    let curl = Cli::new(&cell.dir, &Cri::program(SOCKET))?;
    let by_cri = run_table("cri", cell, &curl, &pods::CASES, 3, &remove_pods);
    let left = report_left("cri", cell, before.check(&KEPT));
    daemon.stop()?;
    by_ctr.and(by_cri).and(left)
}

/// Starts containerd with its state on the cell's own `/run` and the runtime under test for pods.
fn start_daemon(cell: &Cell, ctr: &Cli) -> Result<Daemon> {
    let cni = cell.dir.join("cni");
    std::fs::create_dir(&cni)?;
    std::fs::write(cni.join("pods.conflist"), NETWORK)?;
    let root = cell.dir.join("containerd");
    let general = format!(
        "version = 2\nroot = \"{}\"\nstate = \"/run/containerd/state\"\n[grpc]\n  address = \"{SOCKET}\"\n",
        root.display()
    );
    let config = cell.dir.join("config.toml");
    std::fs::write(&config, general + &cri::configuration(&cell.runtime.path, &cni))?;
    // A container that was made without a runtime's path gets the `runc` that the shim finds.
    let bin = cell.dir.join("bin");
    std::fs::create_dir(&bin)?;
    std::os::unix::fs::symlink(&cell.runtime.path, bin.join("runc"))?;
    let mut command = Command::new("containerd");
    command.arg("--config").arg(&config).env("PATH", format!("{}:{PATH}", bin.display()));
    Daemon::start(&cell.dir, &mut command, || Ok(ctr.run("version", "")?.code == 0)).context("containerd")
}

fn remove_pods(test: &Test<'_>) -> Result<()> {
    Cri::new(test)?.remove_all(test.name)
}
