//! A terminal that a test drives: it types, and waits for what it expects to see.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::command::{exit_code, poll_until, render_line, wait_until};

/// How long a terminal waits for a text.
const PATIENCE: Duration = Duration::from_secs(30);

/// A command on a terminal of its own.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    line: String,
    master: File,
    seen: String,
}

impl Terminal {
    /// Starts a command as leader of a session whose controlling terminal is new, 100 columns by 30 rows.
    ///
    /// # Errors
    /// The terminal or the process cannot be made.
    pub fn start(program: &Command, arguments: &[&str]) -> Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).context("openpt")?;
        grantpt(&master).context("grantpt")?;
        unlockpt(&master).context("unlockpt")?;
        let name = ptsname(&master, Vec::new()).context("ptsname")?;
        let size = Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).context("TIOCSWINSZ")?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(&name, flags, Mode::empty()).context("open the terminal")?;
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(program.get_program()).args(program.get_args()).args(arguments);
        command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(Stdio::from(slave));
        let line = render_line(&command);
        let child = command.spawn().with_context(|| format!("cannot start `{line}`"))?;
        Ok(Self { child, line, master: File::from(master), seen: String::new() })
    }

    /// Types a text.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn send(&mut self, text: &str) -> Result<()> {
        self.master.write_all(text.as_bytes()).with_context(|| format!("type to `{}`", self.line))
    }

    /// Changes the size of the terminal; the kernel signals SIGWINCH to the command.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).context("TIOCSWINSZ")
    }

    /// Waits until the command has written `text`, and forgets all up to its end.
    ///
    /// # Errors
    /// Not within 30 s, or the command closed the terminal before.
    pub fn expect(&mut self, text: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return Ok(());
            }
            if !self.read_some(deadline)? {
                bail!("`{}`: no {text:?} in {:?}", self.line, self.seen);
            }
        }
    }

    /// Waits for the command's end and returns its exit code and what it wrote after the last expected text.
    ///
    /// # Errors
    /// It does not end within 30 s.
    pub fn end(mut self) -> Result<(i32, String)> {
        let deadline = Instant::now() + PATIENCE;
        while self.read_some(deadline)? {}
        match wait_until(&mut self.child, PATIENCE)? {
            Some(status) => Ok((exit_code(status), self.seen)),
            None => bail!("`{}` did not end: {:?}", self.line, self.seen),
        }
    }

    /// Reads what is there; `false` at the deadline and when nobody holds the other side any more.
    fn read_some(&mut self, deadline: Instant) -> Result<bool> {
        let mut watch = [PollFd::from_borrowed_fd(self.master.as_fd(), PollFlags::IN)];
        if !poll_until(&mut watch, deadline)? {
            return Ok(false);
        }
        let mut buffer = [0; 4096];
        match self.master.read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
                Ok(true)
            }
            // A master whose other side is closed reads EIO.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => Ok(false),
            Err(error) => Err(error).context("read the terminal"),
        }
    }
}
