//! What this program tells: lines on its standard error, which systemd puts into the journal.

use std::io::Write;

/// Writes a line. Where nobody reads it there is nobody to tell.
pub fn tell(text: &str) {
    drop(std::io::stderr().write_all(format!("{text}\n").as_bytes()));
}

/// Prints for who has called.
///
/// # Errors
/// Standard output cannot be written; a reader who has gone is no error.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
