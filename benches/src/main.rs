//! Times whole commands of OCI runtimes against each other, as `make bench` runs it.
//!
//! All runtimes run the same bundle. Every round visits them in a new random order, so that whatever else the machine does
//! falls on all of them alike; what is compared are medians of one run, never figures of two runs. Both modes count: with
//! an idle gap before each command, as in life, and back to back, where the kernel hides some waits.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

mod bundle;
mod cases;
mod machine;
mod runtime;
mod sample;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;

use cases::{CASES, Case, Settings};
use runtime::Runtime;
use sample::{Order, Samples, render};

/// Times whole commands of OCI runtimes against each other.
#[derive(Parser)]
#[command(name = "bench", disable_version_flag = true)]
struct Arguments {
    /// A runtime as NAME=PATH or NAME=PATH WITH OPTIONS; the first one is what the others are compared with
    #[arg(long = "runtime", value_name = "NAME=COMMAND", required = true)]
    runtimes: Vec<String>,
    /// Leaves out crun and runc unless they are named; else they are taken from CRUN, RUNC or the PATH
    #[arg(long)]
    no_peers: bool,
    /// Rounds of each case
    #[arg(long, default_value_t = 30)]
    rounds: usize,
    /// Idle time before each isolated command, in milliseconds
    #[arg(long, default_value_t = 100)]
    gap: u64,
    /// Containers that exist while `list` is timed
    #[arg(long, default_value_t = 50)]
    containers: usize,
    /// Only the cases whose name contains this
    filter: Option<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let work = tempfile::Builder::new().prefix("bench-").tempdir().context("cannot make a temporary folder")?;
    let runtimes = find_runtimes(arguments, work.path())?;
    let bundles = bundle::prepare(work.path(), &runtimes[0])?;
    let settings =
        Settings { bundles, gap: std::time::Duration::from_millis(arguments.gap), containers: arguments.containers };
    let mut order = Order::from_clock();
    print!("{}", machine::describe());
    for runtime in &runtimes {
        println!("# {}: {} ({})", runtime.name, runtime.command_line(), runtime.version());
    }
    println!("# {} rounds, {} ms idle in isolated cases, order seed {}", arguments.rounds, arguments.gap, order.seed());
    let filter = arguments.filter.as_deref().unwrap_or("");
    let wanted: Vec<&Case> = CASES.iter().filter(|case| case.name.contains(filter)).collect();
    if wanted.is_empty() {
        bail!("no case is called {filter:?}");
    }
    for case in wanted {
        run_case(case, &runtimes, &settings, arguments.rounds, &mut order);
    }
    print!("{}", machine::describe_load("at the end"));
    Ok(())
}

/// Runs a case in rounds. A runtime that fails is left out of the rest of the case, and the reason is printed.
fn run_case(case: &Case, runtimes: &[Runtime], settings: &Settings, rounds: usize, order: &mut Order) {
    if (case.needs)(settings) {
        println!("\n{}: {}", case.name, case.about);
    } else {
        println!("\n{}: left out, this machine lacks what it needs", case.name);
        return;
    }
    let mut samples: Vec<Samples> = runtimes.iter().map(|runtime| Samples::new(&runtime.name)).collect();
    for (at, runtime) in runtimes.iter().enumerate() {
        // One round unmeasured: it warms the page cache and shows whether the case works at all.
        if let Err(error) = (case.set_up)(runtime, settings).and_then(|()| (case.round)(runtime, settings)) {
            println!("  {} left out: {error:#}", runtime.name);
            samples[at].failed = true;
        }
    }
    for _ in 0..rounds {
        for at in order.shuffle(runtimes.len()) {
            if samples[at].failed {
                continue;
            }
            match (case.round)(&runtimes[at], settings) {
                Ok(values) => samples[at].add(&values),
                Err(error) => {
                    println!("  {} left out: {error:#}", runtimes[at].name);
                    samples[at].failed = true;
                }
            }
        }
    }
    for runtime in runtimes {
        if let Err(error) = runtime.delete_all() {
            println!("  {}: cannot clean up: {error:#}", runtime.name);
        }
    }
    print!("{}", render(&samples));
}

fn find_runtimes(arguments: &Arguments, work: &Path) -> Result<Vec<Runtime>> {
    let mut runtimes = Vec::new();
    for text in &arguments.runtimes {
        let (name, command) = text.split_once('=').with_context(|| format!("{text:?} is not NAME=COMMAND"))?;
        runtimes.push(Runtime::new(name, command, work)?);
    }
    if arguments.no_peers {
        return Ok(runtimes);
    }
    for peer in ["crun", "runc"] {
        let named = runtimes.iter().any(|runtime| runtime.name == peer);
        let found = std::env::var_os(peer.to_uppercase()).map(PathBuf::from).or_else(|| find_in_path(peer));
        match found {
            Some(path) if !named => runtimes.push(Runtime::new(peer, &path.to_string_lossy(), work)?),
            None if !named => println!("# {peer}: not here"),
            _ => {}
        }
    }
    Ok(runtimes)
}

fn find_in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}
