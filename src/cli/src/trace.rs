//! `--trace`: where a command's time went, in a file.
//!
//! The file holds text for a person, or a Chrome trace where its name ends in `.json`: Perfetto and chrome://tracing show
//! it. Nothing is measured without the option. What cannot be seen from within is the time before the program's first
//! instruction; the time before it executed itself from a protected copy can, since the first of the two leaves word.

use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::Context;
use engine::clock;
use runtime_spec::timeline::{Side, Timeline, Traced, render_file};

use crate::args::Global;

/// Tells the protected program when the one before it began, in nanoseconds since 1970.
pub const BEGAN: &str = "SKEP_TRACE_BEGAN";
/// Stands for standard error.
const STDERR: &str = "-";

/// A trace that is being taken.
#[derive(Debug)]
pub struct Trace {
    /// What took time so far.
    pub timeline: Timeline,
    /// The file and its name; `None` is standard error.
    to: Option<(File, String)>,
    command: String,
    began: Duration,
}

impl Trace {
    /// Opens the file that the command line names, and empties it; `None` where it names none. `began` is when this program
    /// did, and `arguments` when its command line was understood.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn begin(global: &Global, command: &str, began: Duration) -> anyhow::Result<Option<Trace>> {
        let Some(path) = &global.trace else { return Ok(None) };
        let to = match path.as_str() {
            STDERR => None,
            path => Some((
                File::create(path).with_context(|| format!("cannot write the trace to {path}"))?,
                path.to_owned(),
            )),
        };
        let timeline = Timeline::default();
        let before = env::var(BEGAN).ok().and_then(|nanos| nanos.parse().ok()).map(Duration::from_nanos);
        if let Some(before) = before {
            timeline.add(Side::Host, "protect", before, began);
        }
        timeline.add(Side::Host, "arguments", began, clock::now());
        let command = format!("{} {command}", global.program.name());
        Ok(Some(Trace { timeline, to, command, began: before.unwrap_or(began) }))
    }

    /// Writes the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(self) -> io::Result<()> {
        let Trace { timeline, to, command, began } = self;
        let traced = Traced { command: &command, pid: std::process::id(), began, ended: clock::now() };
        let spans = timeline.spans();
        match to {
            None => io::stderr().write_all(render_file(STDERR, &traced, &spans).as_bytes()),
            Some((mut file, path)) => file.write_all(render_file(&path, &traced, &spans).as_bytes()),
        }
    }
}
