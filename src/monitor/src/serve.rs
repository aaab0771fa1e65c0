//! The loop: output, input, people, the end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::Result;
use runtime_spec::monitor::{End, Event, MESSAGE_MAX, Request};
use sys::Errno;
use sys::process::{Exit, Ready, Wanted};

use crate::log::{Log, Tail};

/// People that may be there at once; another one is turned away.
const CLIENTS_MAX: usize = 32;
/// Input that may wait for the terminal, in bytes. With as much nobody is listened to until it has gone.
const INPUT_MAX: usize = 64 << 10;
/// What one read takes, so that a message has room for it.
const CHUNK: usize = MESSAGE_MAX - 1;

/// Most bytes that a pipe holds (/proc/sys/fs/pipe-max-size, by default).
const PIPE_MAX: usize = 1 << 20;

/// How long the parent of a process may take to note its end, milliseconds.
const NOTE_MS: u64 = 2000;

/// Where a container's output comes from.
#[derive(Debug)]
pub enum Output {
    /// Both ends of the FIFO in one.
    Fifo(OwnedFd),
    /// The terminal.
    Terminal {
        /// Its master, for as long as the container lives.
        master: OwnedFd,
        /// As long as it is open the master does not hang up (EIO) while nothing inside has the terminal open.
        _slave: OwnedFd,
    },
    /// What the container wrote went to somebody who is gone.
    Lost,
}

impl Output {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Output::Fifo(fd) | Output::Terminal { master: fd, .. } => Some(fd.as_fd()),
            Output::Lost => None,
        }
    }
}

/// What somebody at the socket gets of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gets {
    Nothing,
    /// That there is some.
    Word,
    All,
}

/// Somebody at the socket.
#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    /// What it gets of the output.
    gets: Gets,
    /// Whether it knows that the container has ended.
    told: bool,
}

impl Client {
    /// Sends output. Whether the client stays: who does not read what is sent is sent away, since the container does not
    /// wait for people; of who has left the last words are still heard.
    fn show(&mut self, message: &[u8]) -> bool {
        match sys::socket::send(self.socket.as_fd(), message, &[]) {
            Ok(()) => true,
            Err(error) => {
                // One that has words waiting already needs no other.
                let waits = self.gets == Gets::Word && error.is(Errno::AGAIN);
                if !waits {
                    self.gets = Gets::Nothing;
                }
                waits || error.is(Errno::PIPE) || error.is(Errno::CONNRESET)
            }
        }
    }
}

/// What the loop works with.
#[derive(Debug)]
pub struct Server {
    /// Where people come in.
    pub listener: OwnedFd,
    /// Where the output comes from.
    pub output: Output,
    /// Where it goes.
    pub log: Log,
    tail: Tail,
    clients: Vec<Client>,
    input: Vec<u8>,
}

impl Server {
    /// A server that nobody has come to yet.
    #[must_use]
    pub fn new(listener: OwnedFd, output: Output, log: Log) -> Server {
        Server { listener, output, log, tail: Tail::default(), clients: Vec::new(), input: Vec::new() }
    }

    /// Whether there is nothing that output could come from.
    #[must_use]
    pub fn output_is_lost(&self) -> bool {
        matches!(self.output, Output::Lost)
    }

    /// Serves until a process ends (its pidfd becomes readable).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn until_end(&mut self, process: BorrowedFd<'_>) -> Result<()> {
        loop {
            if self.turn(Some(process), None)? {
                return Ok(());
            }
        }
    }

    /// Passes on what was written before the end. It is bounded: somebody else may have the output open and go on writing.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn drain(&mut self) -> Result<()> {
        for _ in 0..=PIPE_MAX / CHUNK {
            if !self.pass_output()? {
                break;
            }
        }
        Ok(())
    }

    /// Serves for one wait, at most this long. Whether the process has ended.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn turn(&mut self, process: Option<BorrowedFd<'_>>, timeout_ms: Option<u64>) -> Result<bool> {
        let full = self.input.len() >= INPUT_MAX;
        let output = self.output.fd();
        let mut fds = vec![(self.listener.as_fd(), Wanted::Reading)];
        fds.extend(process.map(|process| (process, Wanted::Reading)));
        let wanted = if self.input.is_empty() { Wanted::Reading } else { Wanted::Both };
        fds.extend(output.map(|output| (output, wanted)));
        let wanted = if full { Wanted::End } else { Wanted::Reading };
        fds.extend(self.clients.iter().map(|client| (client.socket.as_fd(), wanted)));
        let mut ready = sys::process::poll(&fds, timeout_ms)?.into_iter();
        let mut next = || ready.next().unwrap_or_default();

        let somebody = next().readable;
        let ended = process.is_some() && next().readable;
        let terminal = if output.is_some() { next() } else { Ready::default() };
        let people: Vec<Ready> = self.clients.iter().map(|_| next()).collect();
        if terminal.readable {
            self.pass_output()?;
        }
        if terminal.writable {
            self.pass_input();
        }
        self.listen_to(&people);
        if somebody {
            self.let_in();
        }
        Ok(ended)
    }

    /// Takes what there is of the output, at most one message long. Whether there was any.
    fn pass_output(&mut self) -> Result<bool> {
        let Some(fd) = self.output.fd() else { return Ok(false) };
        let mut buffer = [0; CHUNK];
        let length = match sys::fs::read_some(fd, &mut buffer) {
            // A terminal whose slaves are all closed says EIO.
            Err(error) if error.is(Errno::AGAIN) || error.is(Errno::IO) => 0,
            other => other?,
        };
        let data = &buffer[..length];
        if data.is_empty() {
            return Ok(false);
        }
        self.log.write(data);
        self.tail.push(data);
        let message = Event::Output(data).render();
        let word = Event::Output(&[]).render();
        self.clients.retain_mut(|client| match client.gets {
            Gets::Nothing => true,
            Gets::Word => client.show(&word),
            Gets::All => client.show(&message),
        });
        Ok(true)
    }

    fn pass_input(&mut self) {
        let Output::Terminal { master, .. } = &self.output else {
            self.input.clear();
            return;
        };
        match sys::fs::write_some(master.as_fd(), &self.input) {
            Ok(written) => drop(self.input.drain(..written)),
            Err(error) if error.is(Errno::AGAIN) => {}
            // Nobody will read it any more.
            Err(_) => self.input.clear(),
        }
    }

    fn listen_to(&mut self, ready: &[Ready]) {
        let mut stay = Vec::with_capacity(self.clients.len());
        for (mut client, ready) in std::mem::take(&mut self.clients).into_iter().zip(ready) {
            if (!ready.readable && !ready.hung_up) || self.hear(&mut client) {
                stay.push(client);
            }
        }
        self.clients = stay;
    }

    /// Takes one message. Whether the client stays.
    fn hear(&mut self, client: &mut Client) -> bool {
        let receive = || sys::socket::receive(client.socket.as_fd(), MESSAGE_MAX);
        let received = match receive() {
            // That it left without reading all is told before its last words.
            Err(error) if error.is(Errno::CONNRESET) => receive(),
            other => other,
        };
        let Ok(message) = received else { return false };
        match (Request::parse(&message.bytes), &self.output) {
            (Some(Request::Attach), _) => {
                client.gets = Gets::All;
                let tail = self.tail.read();
                tail.is_empty() || client.show(&Event::Output(&tail).render())
            }
            (Some(Request::Follow), _) => {
                client.gets = Gets::Word;
                true
            }
            (Some(Request::Input(data)), Output::Terminal { .. }) => {
                self.input.extend_from_slice(data);
                self.pass_input();
                true
            }
            (Some(Request::Size { rows, columns }), Output::Terminal { master, .. }) => {
                sys::terminal::set_size(master.as_fd(), rows, columns).is_ok()
            }
            (Some(Request::Wait), _) => true,
            // It has left, or talks nonsense.
            _ => false,
        }
    }

    fn let_in(&mut self) {
        if let Ok(socket) = sys::socket::accept(self.listener.as_fd(), true)
            && self.clients.len() < CLIENTS_MAX
        {
            self.clients.push(Client { socket, gets: Gets::Nothing, told: false });
        }
    }

    /// Tells everybody of the end who does not know, those too who wait to be let in. Their connections are closed when this
    /// process ends: then it has been decided what comes after.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn tell_end(&mut self, end: End) -> Result<()> {
        while sys::process::poll_readable(&[self.listener.as_fd()], Some(0))?[0].readable {
            self.let_in();
        }
        let message = Event::Ended(end).render();
        // Who cannot be told has left, or reads too slowly.
        self.clients.retain_mut(|client| {
            client.told || {
                client.told = true;
                sys::socket::send(client.socket.as_fd(), &message, &[]).is_ok()
            }
        });
        Ok(())
    }
}

/// How a process has ended: as its parent knows it, else as the kernel kept it.
///
/// # Errors
/// What the kernel says.
pub fn end_of(process: BorrowedFd<'_>, pid: i32) -> Result<End> {
    let exit = match sys::process::try_wait(pid) {
        Ok(Some(exit)) => Some(exit),
        // It is no child of this process. The kernel tells others when its parent has taken note, and then hangs up.
        Ok(None) | Err(_) => {
            sys::process::poll(&[(process, Wanted::End)], Some(NOTE_MS))?;
            sys::process::exit_of(process)?
        }
    };
    Ok(match exit {
        Some(Exit::Code(code)) => End::Code(code),
        Some(Exit::Signal(signal)) => End::Signal(signal),
        None => End::Unknown,
    })
}
