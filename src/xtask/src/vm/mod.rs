//! The virtual machine: another kernel, with systemd, pure cgroup v2 (or v1, or hybrid), AppArmor and all capabilities.
//!
//! `image` makes a root file system from Debian's packages, `machine` boots, saves and restores it with qemu, `lane` runs
//! the integration tests in it. Nothing of it is in the tree, and nothing of it needs the processor's help.

mod command;
mod image;
mod lane;
mod machine;
mod qmp;
mod recipe;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Subcommand;

pub(crate) use lane::{Lane, Narrow, run_lanes};

#[derive(Subcommand)]
pub(crate) enum Task {
    /// Makes the image, unless the cache has it
    Build,
    /// Runs a folder's run.sh as root in the machine, prints its console, and fetches the folder `out`
    Run {
        /// The folder with run.sh; symbolic links in it are followed
        dir: PathBuf,
        /// The boot: vm-v2, vm-v1, vm-hybrid or vm-selinux
        #[arg(long, default_value = recipe::V2.name)]
        boot: String,
        /// How long it may take, in seconds
        #[arg(long, default_value_t = 300)]
        limit: u64,
    },
}

pub(crate) fn run(task: &Task) -> Result<ExitCode> {
    if let Some(missing) = machine::missing() {
        anyhow::bail!("the virtual machine needs {missing}");
    }
    let image = image::prepare()?;
    let Task::Run { dir, boot, limit } = task else {
        println!("{}", image.dir.display());
        return Ok(ExitCode::SUCCESS);
    };
    let boot = find_boot(boot)?;
    let out = dir.join("out");
    let ended = machine::run_job(&image, boot, dir, &out, Duration::from_secs(*limit), &mut |line| println!("{line}"))?;
    Ok(u8::try_from(ended.code).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn find_boot(name: &str) -> Result<recipe::Boot> {
    let found = recipe::BOOTS.into_iter().find(|boot| boot.name == name);
    found.with_context(|| format!("no boot is called {name}; there are {}", recipe::BOOTS.map(|b| b.name).join(", ")))
}
