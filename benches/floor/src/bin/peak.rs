//! Runs a command and says how much memory it took: `peak PROGRAM ARG…`.
//!
//! Prints two numbers in KiB: the peak resident memory of the command and of all that it waited for, and this program's own. The
//! kernel counts what a process had before it executed another program as that program's, so what is measured is true only
//! where it is above the second number. That is why this is a small static program by itself.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

use std::process::{Command, ExitCode, Stdio};

use nix::sys::resource::{UsageWho, getrusage};

fn main() -> ExitCode {
    match measure() {
        Ok((command, own)) => {
            println!("{command} {own}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<(i64, i64), String> {
    let mut words = std::env::args_os().skip(1);
    let program = words.next().ok_or("usage: peak PROGRAM ARG…")?;
    let status = Command::new(&program).args(words).stdout(Stdio::null()).status();
    let status = status.map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    if !status.success() {
        return Err(format!("{} ended with {status}", program.display()));
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|error| format!("getrusage: {error}"))?;
    Ok((usage.max_rss(), own_peak()?))
}

/// Not by getrusage: that tells what the process had before it executed this program, too.
fn own_peak() -> Result<i64, String> {
    let text = std::fs::read_to_string("/proc/self/status").map_err(|error| format!("/proc/self/status: {error}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    let number = line.trim().trim_end_matches("kB").trim();
    number.parse().map_err(|_| format!("VmHWM is {number:?}"))
}
