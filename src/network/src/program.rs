//! Other programs, which get a text and answer with one.

use std::io::{ErrorKind, Write};
use std::process::{Command, Output, Stdio};

/// Where programs that are started look for others.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Starts a program with nothing of our environment, and with what `prepare` adds.
pub(crate) fn run(path: &str, input: &[u8], prepare: impl FnOnce(&mut Command)) -> std::io::Result<Output> {
    let mut command = Command::new(path);
    command.env_clear().env("PATH", PATH);
    prepare(&mut command);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input));
    let output = child.wait_with_output()?;
    match written {
        // One that ends before it has read all has said why, or that it needs no more.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok(output),
    }
}

/// What a program wrote to its error output, in one line; how it ended where it wrote nothing.
pub(crate) fn complaint(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    if said.is_empty() { output.status.to_string() } else { said }
}
