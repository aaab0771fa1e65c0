//! The two streams.

use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};

/// Writes to standard output. A reader that has gone has read enough.
///
/// # Errors
/// What the kernel says.
pub fn write(text: &str) -> Result<()> {
    write_open(text).map(drop)
}

/// Writes to standard output; whether somebody still reads.
///
/// # Errors
/// What the kernel says.
pub fn write_open(text: &str) -> Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true).context("cannot write to standard output"),
    }
}

/// Writes to standard error. There is nobody to tell that nobody can be told.
pub fn tell(text: &str) {
    match std::io::stderr().lock().write_all(text.as_bytes()) {
        Ok(()) | Err(_) => {}
    }
}
