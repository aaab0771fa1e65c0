//! The virtual machine: another kernel, with systemd, pure cgroup v2 (or v1, or hybrid), AppArmor and all capabilities.
//!
//! `image` makes a root file system from Debian's packages, `machine` boots, saves and restores it with qemu, `lane` runs
//! the integration tests in it. Nothing of it is in the tree, and nothing of it needs the processor's help.

mod command;
mod disks;
mod image;
mod lane;
mod machine;
mod qmp;
mod recipe;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Subcommand;

pub(crate) use command::{bound_to_us, read_output, run};
pub(crate) use image::install_debian;
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

pub(crate) fn run_task(task: &Task) -> Result<ExitCode> {
    let Task::Run { dir, boot, limit } = task else {
        println!("{}", Guest::open(recipe::V2.name)?.image.dir.display());
        return Ok(ExitCode::SUCCESS);
    };
    let code = Guest::open(boot)?.run(dir, Duration::from_secs(*limit), &mut |line| println!("{line}"))?;
    Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// One boot of the image, for jobs one after the other.
pub(crate) struct Guest {
    image: image::Image,
    boot: recipe::Boot,
}

impl Guest {
    /// Finds or makes the image.
    ///
    /// # Errors
    /// No boot has that name, this machine lacks something, or the image cannot be made.
    pub(crate) fn open(boot: &str) -> Result<Guest> {
        if let Some(missing) = machine::missing() {
            anyhow::bail!("the virtual machine needs {missing}");
        }
        Ok(Guest { boot: find_boot(boot)?, image: image::prepare()? })
    }

    /// Runs a folder's run.sh in it, gives each line of its console to `on_line`, fetches the folder `out`, and returns the
    /// exit code.
    ///
    /// # Errors
    /// As of [`machine::run_job`].
    pub(crate) fn run(&self, dir: &Path, limit: Duration, on_line: &mut dyn FnMut(&str)) -> Result<i32> {
        let job = machine::Job { folder: dir, disks: &[], limit };
        Ok(machine::run_job(&self.image, self.boot, &job, &dir.join("out"), on_line)?.code)
    }
}

fn find_boot(name: &str) -> Result<recipe::Boot> {
    let found = recipe::BOOTS.into_iter().find(|boot| boot.name == name);
    found.with_context(|| format!("no boot is called {name}; there are {}", recipe::BOOTS.map(|b| b.name).join(", ")))
}
