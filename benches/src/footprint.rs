//! What a run needs besides time: memory and system calls.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};

use crate::bundle::Bundles;
use crate::cases::{new_id, path_text};
use crate::runtime::Runtime;

/// The argument by which this program becomes the one that runs a command and says how much memory it took at most.
pub(crate) const PEAK_OF: &str = "--peak-of";
/// Memory limits that are tried, in KiB: below the smallest nothing starts, the largest is enough for any runtime.
const LIMITS: (u64, u64) = (64, 32 * 1024);
/// How often a run has to succeed under a limit.
const TRIES: usize = 5;
/// How closely the smallest limit is looked for, in KiB.
const STEP: u64 = 4;

/// Prints a row for each runtime: what cannot be measured is named.
pub(crate) fn render(runtimes: &[Runtime], bundles: &Bundles, work: &Path) -> String {
    let mut text =
        "\nfootprint: `run true` with the `spec` bundle; memory in KiB, limits tried five times each\n".to_owned();
    text += &format!("  {:<12} {:>9} {:>14} {:>15}\n", "runtime", "peak", "system calls", "smallest limit");
    for runtime in runtimes {
        let told = |result: Result<u64>| result.map_or_else(|error| format!("({error:#})"), |value| value.to_string());
        text += &format!(
            "  {:<12} {:>9} {:>14} {:>15}\n",
            runtime.name,
            told(peak(runtime, &bundles.short)),
            told(system_calls(runtime, &bundles.short, work)),
            told(smallest_limit(runtime, bundles)),
        );
    }
    text
}

/// Peak resident memory of a run and of all that it waits for, in KiB.
fn peak(runtime: &Runtime, bundle: &Path) -> Result<u64> {
    let run = runtime.command(&["run", "--bundle", path_text(bundle)?, &new_id()])?;
    let mut command = Command::new(std::env::current_exe().context("cannot tell where this program is")?);
    command.arg(PEAK_OF).arg(run.get_program()).args(run.get_args()).stdin(Stdio::null());
    let output = command.output().context("cannot run this program again")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    String::from_utf8_lossy(&output.stdout).trim().parse().context("no number")
}

/// Runs a command and prints the peak of its memory: the largest of this process's children is what it and its own needed.
pub(crate) fn print_peak(words: &[String]) -> Result<String> {
    let (program, args) = words.split_first().context("no command")?;
    let status = Command::new(program).args(args).stdout(Stdio::null()).status().context("cannot run it")?;
    ensure!(status.success(), "ended with {status}");
    Ok(getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage")?.max_rss().to_string())
}

/// How many system calls a run makes, with its container up to the program's end.
fn system_calls(runtime: &Runtime, bundle: &Path, work: &Path) -> Result<u64> {
    let run = runtime.command(&["run", "--bundle", path_text(bundle)?, &new_id()])?;
    let summary = work.join("strace");
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-o"]).arg(&summary).arg(run.get_program()).args(run.get_args());
    let output = command.stdin(Stdio::null()).output().context("strace")?;
    ensure!(output.status.success(), "strace ended with {}", output.status);
    parse_calls(&fs::read_to_string(&summary).context("strace wrote nothing")?).context("strace counted nothing")
}

/// The total of `strace -c`: share, seconds, microseconds a call, calls, maybe errors, `total`.
fn parse_calls(summary: &str) -> Option<u64> {
    let line = summary.lines().rev().find(|line| line.trim_end().ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// The smallest memory limit under which a run succeeds each time, in KiB.
fn smallest_limit(runtime: &Runtime, bundles: &Bundles) -> Result<u64> {
    let (mut fails, mut works) = LIMITS;
    if !starts(runtime, bundles, works)? {
        bail!("does not start with {works}");
    }
    while works - fails > STEP {
        let middle = (fails + works) / 2 / STEP * STEP;
        if starts(runtime, bundles, middle)? { works = middle } else { fails = middle }
    }
    Ok(works)
}

fn starts(runtime: &Runtime, bundles: &Bundles, limit_kib: u64) -> Result<bool> {
    let bundle = bundles.with_memory_limit(limit_kib * 1024)?;
    for _ in 0..TRIES {
        let id = new_id();
        if !runtime.command(&["run", "--bundle", path_text(&bundle)?, &id])?.status().context("cannot run")?.success() {
            // What failed may have left its container.
            runtime.command(&["delete", "--force", &id])?.status().context("cannot delete")?;
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_the_fourth_column_of_the_total() {
        let summary = "% time     seconds  usecs/call     calls    errors syscall\n\
            ------ ----------- ----------- --------- --------- ----------------\n \
            70.00    0.009000          90       100         8 openat\n\
            ------ ----------- ----------- --------- --------- ----------------\n\
            100.00    0.013940          31       442         8 total\n";
        assert_eq!(parse_calls(summary), Some(442));
        assert_eq!(parse_calls("100.00    0.013940          31       442           total\n"), Some(442));
        assert_eq!(parse_calls("nothing"), None);
    }
}
