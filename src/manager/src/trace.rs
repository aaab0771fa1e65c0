//! `--trace`: where a verb's time went, with each call of the runtime; the runtime's own steps are in a trace of its own.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use runtime_spec::timeline::{Side, Timeline, Traced, render_file};

/// Stands for standard error.
const STDERR: &str = "-";

/// Where phases put down the time that they took; nothing is measured without a timeline.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    timeline: Option<Arc<Mutex<Timeline>>>,
}

impl Clock {
    /// When a phase begins, where that is put down.
    #[must_use]
    pub fn mark(&self) -> Option<Duration> {
        self.timeline.as_ref().map(|_| now())
    }

    /// Puts a phase down that began at a [`mark`](Clock::mark) and has just ended.
    pub fn spent(&self, phase: &str, mark: Option<Duration>) {
        if let (Some(timeline), Some(begin)) = (&self.timeline, mark) {
            let end = now();
            timeline.lock().unwrap_or_else(PoisonError::into_inner).add(Side::Host, phase, begin, end);
        }
    }
}

/// A trace that is being taken.
#[derive(Debug)]
pub struct Trace {
    timeline: Arc<Mutex<Timeline>>,
    /// The file and its name; `None` is standard error.
    to: Option<(File, String)>,
    began: Duration,
}

impl Trace {
    /// Opens the file, and empties it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin(path: &str) -> Result<Trace> {
        let to = match path {
            STDERR => None,
            path => {
                let file = File::create(path).with_context(|| format!("cannot write the trace to {path}"))?;
                Some((file, path.to_owned()))
            }
        };
        Ok(Trace { timeline: Arc::default(), to, began: now() })
    }

    /// What phases are measured with.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock { timeline: Some(Arc::clone(&self.timeline)) }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(self, command: &str) -> Result<()> {
        let traced = Traced { command, pid: std::process::id(), began: self.began, ended: now() };
        let spans = self.timeline.lock().unwrap_or_else(PoisonError::into_inner).spans();
        let written = match self.to {
            None => io::stderr().write_all(render_file(STDERR, &traced, &spans).as_bytes()),
            Some((mut file, path)) => file.write_all(render_file(&path, &traced, &spans).as_bytes()),
        };
        written.context("cannot write the trace")
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
