//! Changes of states as `skep monitor` tells them: nobody looks again and again.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ChildStdout};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::skep::Skep;

/// A monitor that is listened to; it ends with this value.
#[derive(Debug)]
pub struct Changes {
    child: Child,
    told: ChildStdout,
    /// What has come of the next line.
    begun: Vec<u8>,
    signals: OwnedFd,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// A container is in a state now, by LXC's name.
    Change {
        /// The container.
        name: String,
        /// The state that it is in.
        state: &'static str,
        /// Whether it was in it already when this began.
        initial: bool,
        /// The code that its first process ended with, where it has just ended.
        code: Option<i64>,
    },
    /// The time is up.
    Late,
    /// A signal asks this program to end.
    Signal(i32),
}

impl Changes {
    /// Listens for changes of one container or of all, the states that they are in first.
    ///
    /// # Errors
    /// `skep` cannot be run.
    pub fn listen(skep: &Skep, name: Option<&str>) -> Result<Changes> {
        let mut args = vec!["monitor", "--json", "--initial"];
        args.extend(name);
        let mut child = skep.reading(&args)?;
        let told = child.stdout.take().context("a pipe was asked for")?;
        // After it was started: it has its own ways with signals.
        let signals = sys::signal::take_all()?;
        Ok(Changes { child, told, begun: Vec::new(), signals })
    }

    /// Waits for the next change, at most this long.
    ///
    /// # Errors
    /// The monitor ended; what the kernel says.
    pub fn next(&mut self, limit: Option<Duration>) -> Result<Next> {
        let until = limit.map(|limit| Instant::now() + limit);
        loop {
            if let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.begun.drain(..=end).collect();
                return parse(&line).context("cannot read the answer of monitor");
            }
            let left_ms = until.map(sys::process::left_ms);
            let ready = sys::process::poll_readable(&[self.told.as_fd(), self.signals.as_fd()], left_ms)?;
            if ready[1].readable {
                let signal = sys::signal::next(self.signals.as_fd())?;
                if sys::signal::asks_to_end(signal) {
                    return Ok(Next::Signal(signal));
                }
            }
            if ready[0].readable || ready[0].hung_up {
                let mut buffer = [0; 4096];
                match self.told.read(&mut buffer).context("cannot read what the monitor tells")? {
                    0 => bail!("the monitor has ended"),
                    length => self.begun.extend(&buffer[..length]),
                }
            } else if left_ms == Some(0) {
                return Ok(Next::Late);
            }
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        // One that has ended by itself cannot be killed, which is as good.
        match self.child.kill().and_then(|()| self.child.wait()) {
            Ok(_) | Err(_) => {}
        }
    }
}

fn parse(line: &[u8]) -> Result<Next> {
    let change: Value = serde_json::from_slice(line)?;
    let name = change["name"].as_str().context("no name")?.to_owned();
    let state = render_state(change["state"].as_str().context("no state")?);
    let initial = change["initial"].as_bool().unwrap_or(false);
    Ok(Next::Change { name, state, initial, code: change["last"]["code"].as_i64() })
}

/// A state by LXC's name.
fn render_state(word: &str) -> &'static str {
    match word {
        "running" => "RUNNING",
        "paused" => "FROZEN",
        "created" | "creating" => "STARTING",
        _ => "STOPPED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_monitor_are_read() {
        let line = br#"{"time":"x","name":"a","state":"stopped","initial":false,"pid":null,"last":{"code":3}}"#;
        let expected = Next::Change { name: "a".to_owned(), state: "STOPPED", initial: false, code: Some(3) };
        assert_eq!(parse(line).unwrap(), expected);
        parse(b"x").unwrap_err();
    }
}
