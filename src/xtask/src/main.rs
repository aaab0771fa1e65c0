//! The project's own tools, run as `cargo xtask`.
//!
//! They read the tree and drive cargo; nothing here is part of what is installed.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

mod bundle;
mod completions;
mod conformance;
mod counts;
mod man;
mod size;
mod tidy;
mod vm;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// The project's own tools.
#[derive(Parser)]
#[command(name = "xtask", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Checks the rules of the tree: crate layers, where unsafe, async and printing may stand, file names and sizes, words
    Tidy {
        /// Another tree than this one, such as a second work tree
        #[arg(long)]
        root: Option<PathBuf>,
    },
    /// Runs the tests and closes with "N passed, N failed, N skipped"
    Test(counts::Options),
    /// Compares the size of a binary with its limit
    Size(size::Options),
    /// Makes a small root file system from a static busybox
    Rootfs {
        /// The folder to fill; it is made when it is missing
        dir: PathBuf,
        /// The static busybox to take
        #[arg(long, default_value = "/bin/busybox")]
        busybox: PathBuf,
    },
    /// Runs the conformance suites of the field from checkouts of runtime-tools, runc and crun, here and in the virtual machine
    Conformance(conformance::Options),
    /// The virtual machine that some tests run in: makes its image, runs a folder's script in it
    #[command(subcommand)]
    Vm(vm::Task),
    /// Makes a bundle: a small root file system and a config.json with limits
    Bundle(bundle::Options),
    /// Writes the manual pages
    Man {
        /// The folder to write to
        #[arg(default_value = "dist/man/man1")]
        dir: PathBuf,
    },
    /// Writes the completions for bash, zsh and fish
    Completions {
        /// The folder to write to
        #[arg(default_value = "dist/completions")]
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Tidy { root } => tidy::run(&root.map_or_else(tree_root, Ok)?),
        Task::Test(options) => counts::run(&tree_root()?, &options),
        Task::Size(options) => size::run(&options),
        Task::Rootfs { dir, busybox } => {
            rootfs_tools::busybox(&dir, &busybox).context("cannot make the root file system")?;
            Ok(ExitCode::SUCCESS)
        }
        Task::Conformance(options) => conformance::run(&tree_root()?, &options),
        Task::Vm(task) => vm::run_task(&task),
        Task::Bundle(options) => bundle::run(&options),
        Task::Man { dir } => write_all(&dir, man::render()),
        Task::Completions { dir } => write_all(&dir, completions::render()),
    }
}

/// Writes files below a folder, and makes the folders.
fn write_all(dir: &Path, files: Vec<(String, String)>) -> Result<ExitCode> {
    for (name, text) in files {
        let path = dir.join(name);
        let folder = path.parent().context("a file has a folder")?;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The folder of the workspace's Cargo.toml, two above this crate's own.
fn tree_root() -> Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = own.ancestors().nth(2).context("this crate does not lie in src/xtask")?;
    Ok(root.to_path_buf())
}
