//! What a run needs of memory.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::bundle::Bundles;
use crate::cases::{new_id, path_text};
use crate::runtime::Runtime;

/// Memory limits that are tried, in KiB: below the smallest nothing starts, the largest is enough for any runtime.
const LIMITS: (u64, u64) = (64, 32 * 1024);
/// How often a run has to succeed under a limit.
const TRIES: usize = 5;
/// How closely the smallest limit is looked for, in KiB.
const STEP: u64 = 4;

/// Prints a row for each runtime: what cannot be measured is named. `tool` is the program `peak` of benches/floor.
pub(crate) fn render(runtimes: &[Runtime], bundles: &Bundles, tool: &Path) -> String {
    let mut text =
        "\nfootprint: `run true` with the `spec` bundle; memory in KiB, limits tried five times each\n".to_owned();
    text += &format!("  {:<12} {:>12} {:>15}\n", "runtime", "peak", "smallest limit");
    for runtime in runtimes {
        let told = |result: Result<String>| result.unwrap_or_else(|error| format!("({error:#})"));
        let limit = match runtime.is_floor() {
            true => Ok("-".to_owned()),
            false => smallest_limit(runtime, bundles).map(|kib| kib.to_string()),
        };
        let peak = peak(runtime, &bundles.short, tool);
        text += &format!("  {:<12} {:>12} {:>15}\n", runtime.name, told(peak), told(limit));
    }
    text
}

/// Peak resident memory of a run and of all that it waits for, in KiB.
fn peak(runtime: &Runtime, bundle: &Path, tool: &Path) -> Result<String> {
    let run = runtime.command(&["run", "--bundle", path_text(bundle)?, &new_id()])?;
    let mut command = Command::new(tool);
    command.arg(run.get_program()).args(run.get_args()).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("cannot run {}", tool.display()))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    parse_peak(&String::from_utf8_lossy(&output.stdout)).context("no two numbers")
}

/// The tool tells the command's peak and its own, which hides a smaller one.
fn parse_peak(text: &str) -> Option<String> {
    let (command, own) = text.trim().split_once(' ')?;
    let (command, own): (u64, u64) = (command.parse().ok()?, own.parse().ok()?);
    Some(if command > own { command.to_string() } else { format!("below {own}") })
}

/// The smallest memory limit under which a run succeeds each time, in KiB.
fn smallest_limit(runtime: &Runtime, bundles: &Bundles) -> Result<u64> {
    let (mut fails, mut works) = LIMITS;
    ensure!(starts(runtime, bundles, works)?, "does not start with {works}");
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
    fn a_peak_that_the_tool_hides_is_told_as_a_bound() {
        assert_eq!(parse_peak("1480 420\n").as_deref(), Some("1480"));
        assert_eq!(parse_peak("420 420\n").as_deref(), Some("below 420"));
        assert_eq!(parse_peak("1480"), None);
    }
}
