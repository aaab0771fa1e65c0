//! Other programs, each with a bound on its time; what they print goes to a log whose end an error shows.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Prepares a program that ends when this process does, however that ends.
///
/// The parent-death signal follows the thread that starts the program: here that is always the main thread.
pub(crate) fn bound_to_us(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]).stdin(Stdio::null());
    command
}

/// Runs a program that must succeed within `limit`; both outputs are appended to `log`.
///
/// # Errors
/// It cannot be started, fails or takes too long; the text has the end of the log.
pub(crate) fn run(mut command: Command, limit: Duration, log: &Path) -> Result<()> {
    let line = render_line(&command);
    let file = File::options().append(true).create(true).open(log);
    let file = file.with_context(|| format!("cannot open {}", log.display()))?;
    command.stdout(file.try_clone().context("cannot duplicate a descriptor")?).stderr(file);
    let mut child = command.spawn().with_context(|| format!("cannot run {line}"))?;
    let until = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().context("cannot wait for a program")? {
            break status;
        }
        if Instant::now() > until {
            child.kill().context("cannot end a program")?;
            child.wait().context("cannot wait for a program")?;
            bail!("{line} took more than {} s\n{}", limit.as_secs(), read_tail(log));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    ensure!(status.success(), "{line} failed: {status}\n{}", read_tail(log));
    Ok(())
}

/// The standard output of a quick program that must succeed.
pub(crate) fn read_output<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    ensure!(output.status.success(), "{} failed: {}", render_line(&command), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn render_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).skip_while(|word| word.is_empty()).collect();
    let all = words.join(" ");
    // A list of packages says nothing in an error.
    all.chars().take(160).collect()
}

/// The last lines of a log.
pub(super) fn read_tail(log: &Path) -> String {
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_the_end_of_the_log() {
        let log = std::env::temp_dir().join(format!("xtask-log-{}", std::process::id()));
        let script = |text: &str| {
            let mut command = bound_to_us("sh");
            command.args(["-c", text]);
            command
        };
        run(script("echo first"), Duration::from_secs(10), &log).unwrap();
        let error = run(script("echo why; exit 3"), Duration::from_secs(10), &log).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.ends_with("first\nwhy"), "{error}");
        let begin = Instant::now();
        let error = run(script("sleep 60"), Duration::from_millis(50), &log).unwrap_err().to_string();
        assert!(error.contains("took more than") && begin.elapsed() < Duration::from_secs(10), "{error}");
        std::fs::remove_file(log).unwrap();
    }
}
