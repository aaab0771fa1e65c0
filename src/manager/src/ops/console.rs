//! `console NAME`: the terminal of a container on the terminal of the caller.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, bail};
use runtime_spec::monitor::{MESSAGE_MAX, Request};
use sys::signal::SIGWINCH;

use crate::args_running::ConsoleArgs;
use crate::definition::Definition;
use crate::monitor::{Connection, Told};
use crate::output::tell;
use crate::run::Manager;
use crate::runs::Run;

/// Joins both terminals until the caller leaves or the container ends.
///
/// # Errors
/// It has no terminal, does not run, or its monitor is gone.
pub fn console(manager: &Manager, args: &ConsoleArgs) -> Result<()> {
    let name = &args.name;
    let definition = Definition::need(&manager.places, name)?;
    if !definition.process.terminal {
        bail!("container {name:?} has no terminal: skep logs shows what it writes, skep attach runs a shell in it");
    }
    let ttys = definition.system.as_ref().map_or(0, |system| system.ttys);
    if let Some(number) = args.tty.filter(|number| *number > ttys) {
        bail!(
            "container {name:?} has no terminal {number} besides its console, but {ttys}: skep config set {name} ttys={number}"
        );
    }
    let Some(run) = Run::read(&manager.places, name)? else { bail!("container {name:?} does not run") };
    let folder = run.folder(&manager.places, name);
    let Some(mut connection) = Connection::again(&folder)? else {
        bail!(
            "the monitor of container {name:?} is gone with its spare, and its terminals with them: restart the container"
        );
    };
    let mut escape = Escape::new(args.escape);
    let (input, output) = (std::io::stdin(), std::io::stdout());
    let raw = sys::terminal::is_terminal(input.as_fd());
    if raw {
        tell(&format!("Control-{0} q leaves, Control-{0} {0} is Control-{0}", args.escape));
    }
    // Before the terminal changes: whatever ends this program then comes by the descriptor, and the terminal is put back.
    let signals = sys::signal::take_all()?;
    let before = if raw { Some(sys::terminal::make_raw(input.as_fd())?) } else { None };
    let ends = Ends { input: input.as_fd(), output: output.as_fd(), signals: signals.as_fd() };
    let mut reading = true;
    let mut request = args.tty.map_or(Request::Attach, Request::Tty);
    let joined = loop {
        match join(&connection, &request, &mut escape, &mut reading, &ends) {
            Ok(Left::Monitor) => match Connection::again(&folder) {
                // Its spare goes on, and knows nothing of who was here.
                Ok(Some(another)) => connection = another,
                Ok(None) => break Ok(Left::Monitor),
                Err(error) => break Err(error),
            },
            joined => break joined,
        }
        if request == Request::Attach {
            request = Request::Resume;
        }
    };
    if let Some(before) = before {
        sys::terminal::restore(input.as_fd(), &before)?;
        tell("");
    }
    match joined? {
        Left::Caller => Ok(()),
        Left::Container => {
            tell(&format!("container {name:?} has ended"));
            Ok(())
        }
        Left::Monitor => bail!("the monitor of container {name:?} sent this away"),
    }
}

/// Who ended it.
enum Left {
    Caller,
    Container,
    Monitor,
}

/// What the caller is at.
struct Ends<'a> {
    input: BorrowedFd<'a>,
    output: BorrowedFd<'a>,
    signals: BorrowedFd<'a>,
}

/// Joins both until somebody leaves. `reading` says whether there is more to come from the caller.
fn join(
    connection: &Connection,
    request: &Request<'_>,
    escape: &mut Escape,
    reading: &mut bool,
    ends: &Ends<'_>,
) -> Result<Left> {
    let Ends { input, output, signals } = *ends;
    if !connection.ask(request)? {
        return Ok(Left::Monitor);
    }
    pass_size(connection, output)?;
    loop {
        let mut fds = vec![connection.as_fd(), signals];
        fds.extend(reading.then_some(input));
        let ready = sys::process::poll_readable(&fds, None)?;
        let is_ready = |index: usize| ready.get(index).is_some_and(|ready| ready.readable || ready.hung_up);
        if is_ready(0) {
            match connection.next()? {
                Told::Output(data) => sys::fs::write_all(output, &data).context("cannot write to the terminal")?,
                Told::Ended(_) => return Ok(Left::Container),
                Told::Gone => return Ok(Left::Monitor),
            }
        }
        if is_ready(1) {
            match sys::signal::next(signals)? {
                SIGWINCH => pass_size(connection, output)?,
                signal if sys::signal::asks_to_end(signal) => return Ok(Left::Caller),
                _ => {}
            }
        }
        if is_ready(2) {
            let mut buffer = [0; MESSAGE_MAX - 1];
            let length = sys::fs::read_some(input, &mut buffer)?;
            // The end of a file or pipe: what the container answers is still shown.
            *reading = length > 0;
            let (data, leaves) = escape.filter(&buffer[..length]);
            if !data.is_empty() && !connection.ask(&Request::Input(&data))? {
                return Ok(Left::Monitor);
            }
            if leaves {
                return Ok(Left::Caller);
            }
        }
    }
}

/// Gives the container's terminal the size of the caller's, if that is one.
fn pass_size(connection: &Connection, terminal: BorrowedFd<'_>) -> Result<()> {
    if let Ok((rows, columns)) = sys::terminal::size(terminal)
        && rows > 0
    {
        connection.ask(&Request::Size { rows, columns })?;
    }
    Ok(())
}

/// Finds the keys by which the caller leaves.
#[derive(Debug)]
struct Escape {
    key: u8,
    /// The key was the last one.
    begun: bool,
}

impl Escape {
    fn new(letter: char) -> Escape {
        // Control takes the upper bits of a letter away.
        Escape { key: u8::try_from(letter).unwrap_or(b'a') & 0x1f, begun: false }
    }

    /// What the container gets of some input, and whether the caller leaves after it.
    fn filter(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(input.len());
        for byte in input {
            match (self.begun, *byte) {
                (false, byte) if byte == self.key => self.begun = true,
                (false, byte) => passed.push(byte),
                (true, b'q') => return (passed, true),
                (true, byte) => {
                    self.begun = false;
                    // Twice is once; before anything else it is no command.
                    passed.push(self.key);
                    if byte != self.key {
                        passed.push(byte);
                    }
                }
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_keys_leave() {
        let filter = |input: &[u8]| Escape::new('a').filter(input);
        assert_eq!(filter(b"ls\n"), (b"ls\n".to_vec(), false));
        assert_eq!(filter(b"x\x01qy"), (b"x".to_vec(), true));
        assert_eq!(filter(b"\x01\x01"), (b"\x01".to_vec(), false));
        assert_eq!(filter(b"\x01x"), (b"\x01x".to_vec(), false));
        let mut escape = Escape::new('b');
        assert_eq!(escape.filter(b"\x02"), (Vec::new(), false));
        assert_eq!(escape.filter(b"q"), (Vec::new(), true));
    }
}
