//! The loop: output, input, people, the end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::Result;
use runtime_spec::monitor::{End, Event, MESSAGE_MAX, Request};
use sys::Errno;
use sys::process::{Exit, Ready, Wanted};

use crate::log::{Log, Tail};
use crate::spare::Spare;
use crate::terminal::{self, Terminal};

/// People that may be there at once; another one is turned away.
const CLIENTS_MAX: usize = 32;
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
    /// The terminal, kept from hanging up.
    Terminal(Terminal),
    /// What the container wrote went to somebody who is gone.
    Lost,
}

impl Output {
    fn fd(&self) -> Option<(BorrowedFd<'_>, Wanted)> {
        match self {
            Output::Fifo(fd) => Some((fd.as_fd(), Wanted::Reading)),
            Output::Terminal(terminal) => Some((terminal.master(), wanted_of(terminal))),
            Output::Lost => None,
        }
    }
}

fn wanted_of(terminal: &Terminal) -> Wanted {
    if terminal.is_behind() { Wanted::Both } else { Wanted::Reading }
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
    /// At which terminal besides the console, counted from 0; `None` is the console.
    tty: Option<usize>,
    /// Whether it knows that the container has ended.
    told: bool,
    /// Input for which its terminal has no room: until it has, the client is not listened to.
    waiting: Vec<u8>,
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
    /// Terminals besides the console. Nobody reads what is written there until somebody joins one, as at LXC's.
    pub ttys: Vec<Terminal>,
    /// Where the output goes.
    pub log: Log,
    /// The last of it.
    pub tail: Tail,
    /// The spare, where there is one.
    pub spare: Option<Spare>,
    clients: Vec<Client>,
}

/// What has become ready.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Turned {
    /// The container's first process has ended.
    pub ended: bool,
    /// The spare has died.
    pub spare_died: bool,
}

impl Server {
    /// A server that nobody has come to yet.
    #[must_use]
    pub fn new(listener: OwnedFd, output: Output, log: Log) -> Server {
        let (ttys, clients) = (Vec::new(), Vec::new());
        Server { listener, output, ttys, log, tail: Tail::default(), spare: None, clients }
    }

    /// Whether there is nothing that output could come from.
    #[must_use]
    pub fn output_is_lost(&self) -> bool {
        matches!(self.output, Output::Lost)
    }

    /// All terminals, the console first.
    #[must_use]
    pub fn terminals(&self) -> Vec<&Terminal> {
        let console = if let Output::Terminal(terminal) = &self.output { Some(terminal) } else { None };
        console.into_iter().chain(&self.ttys).collect()
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

    /// Serves for one wait, at most this long.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn turn(&mut self, process: Option<BorrowedFd<'_>>, timeout_ms: Option<u64>) -> Result<Turned> {
        let joined: Vec<usize> = (0..self.ttys.len()).filter(|at| self.is_joined(*at)).collect();
        let spare = self.spare.as_ref().map(Spare::as_fd);
        let mut fds = vec![(self.listener.as_fd(), Wanted::Reading)];
        fds.extend(process.map(|process| (process, Wanted::Reading)));
        fds.extend(spare.as_ref().map(|spare| (spare.as_fd(), Wanted::Reading)));
        let output = self.output.fd();
        fds.extend(output);
        fds.extend(joined.iter().map(|at| (self.ttys[*at].master(), wanted_of(&self.ttys[*at]))));
        let heard = |client: &Client| if client.waiting.is_empty() { Wanted::Reading } else { Wanted::End };
        fds.extend(self.clients.iter().map(|client| (client.socket.as_fd(), heard(client))));
        let mut ready = sys::process::poll(&fds, timeout_ms)?.into_iter();
        let mut next = || ready.next().unwrap_or_default();

        let somebody = next().readable;
        let ended = process.is_some() && next().readable;
        let at_spare = if spare.is_some() { next() } else { Ready::default() };
        // It says nothing.
        let spare_died = at_spare.readable || at_spare.hung_up;
        let console = if output.is_some() { next() } else { Ready::default() };
        let at_ttys: Vec<(usize, Ready)> = joined.into_iter().map(|at| (at, next())).collect();
        let people: Vec<Ready> = self.clients.iter().map(|_| next()).collect();
        if console.readable {
            self.pass_output()?;
        }
        if let (true, Output::Terminal(terminal)) = (console.writable, &mut self.output) {
            terminal.pass_on();
        }
        for (at, ready) in at_ttys {
            if ready.readable {
                self.pass_tty(at)?;
            }
            if ready.writable {
                self.ttys[at].pass_on();
            }
        }
        self.listen_to(&people);
        self.pass_waiting();
        self.leave_ttys()?;
        if somebody {
            self.let_in();
        }
        Ok(Turned { ended, spare_died })
    }

    fn is_joined(&self, tty: usize) -> bool {
        self.clients.iter().any(|client| client.tty == Some(tty))
    }

    /// Takes what there is of the output, at most one message long. Whether there was any.
    fn pass_output(&mut self) -> Result<bool> {
        let mut buffer = [0; CHUNK];
        let length = match &self.output {
            Output::Lost => 0,
            Output::Fifo(fd) => terminal::read(fd.as_fd(), &mut buffer)?,
            Output::Terminal(terminal) => terminal.read(&mut buffer)?,
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
            Gets::All if client.tty.is_none() => client.show(&message),
            Gets::Word => client.show(&word),
            Gets::All | Gets::Nothing => true,
        });
        Ok(true)
    }

    /// The same of another terminal, which has no log.
    fn pass_tty(&mut self, tty: usize) -> Result<()> {
        let mut buffer = [0; CHUNK];
        let length = self.ttys[tty].read(&mut buffer)?;
        let message = Event::Output(&buffer[..length]).render();
        self.clients.retain_mut(|client| length == 0 || client.tty != Some(tty) || client.show(&message));
        Ok(())
    }

    /// Gives terminals what waits for room.
    fn pass_waiting(&mut self) {
        for client in &mut self.clients {
            if let Some(terminal) = terminal_of(&mut self.output, &mut self.ttys, client.tty)
                && !client.waiting.is_empty()
                && terminal.take(&client.waiting)
            {
                client.waiting = Vec::new();
            }
        }
    }

    /// What nobody is at any more may hang up.
    fn leave_ttys(&mut self) -> Result<()> {
        for at in 0..self.ttys.len() {
            let joined = self.is_joined(at);
            self.ttys[at].set_open(joined)?;
        }
        Ok(())
    }

    fn listen_to(&mut self, ready: &[Ready]) {
        let mut stay = Vec::with_capacity(self.clients.len());
        for (mut client, ready) in std::mem::take(&mut self.clients).into_iter().zip(ready) {
            if (!ready.readable && !ready.hung_up) || self.hear(&mut client, ready.hung_up) {
                stay.push(client);
            }
        }
        self.clients = stay;
    }

    /// Takes one message. Whether the client stays. `left` says that it has closed its end.
    fn hear(&mut self, client: &mut Client, left: bool) -> bool {
        let receive = || sys::socket::receive(client.socket.as_fd(), MESSAGE_MAX);
        let received = match receive() {
            // That it left without reading all is told before its last words.
            Err(error) if error.is(Errno::CONNRESET) => receive(),
            other => other,
        };
        let Ok(message) = received else { return false };
        let terminal = terminal_of(&mut self.output, &mut self.ttys, client.tty);
        match (Request::parse(&message.bytes), terminal) {
            (Some(Request::Attach), _) => {
                client.gets = Gets::All;
                let tail = self.tail.read();
                tail.is_empty() || client.show(&Event::Output(&tail).render())
            }
            (Some(Request::Resume), _) => {
                client.gets = Gets::All;
                true
            }
            (Some(Request::Tty(number)), _) => self.join_tty(client, number),
            (Some(Request::Follow), _) => {
                client.gets = Gets::Word;
                // What was written before it asked may be all that there will be.
                client.show(&Event::Output(&[]).render())
            }
            (Some(Request::Input(data)), Some(terminal)) => {
                if left {
                    terminal.take_left(&client.waiting);
                    client.waiting = Vec::new();
                    terminal.take_left(data);
                } else if !terminal.take(data) {
                    client.waiting = data.to_vec();
                }
                true
            }
            (Some(Request::Size { rows, columns }), Some(terminal)) => {
                sys::terminal::set_size(terminal.master(), rows, columns).is_ok()
            }
            (Some(Request::Wait), _) => true,
            // It has left, or talks nonsense.
            (_, terminal) => {
                if let Some(terminal) = terminal {
                    terminal.take_left(&client.waiting);
                }
                false
            }
        }
    }

    /// Has somebody join a terminal besides the console, counted from 1. Whether there is one.
    fn join_tty(&mut self, client: &mut Client, number: u16) -> bool {
        let at = usize::from(number).wrapping_sub(1);
        let Some(terminal) = self.ttys.get_mut(at) else { return false };
        (client.gets, client.tty) = (Gets::All, Some(at));
        terminal.set_open(true).is_ok()
    }

    fn let_in(&mut self) {
        if let Ok(socket) = sys::socket::accept(self.listener.as_fd(), true)
            && self.clients.len() < CLIENTS_MAX
        {
            self.clients.push(Client { socket, gets: Gets::Nothing, tty: None, told: false, waiting: Vec::new() });
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

/// The terminal that somebody is at.
fn terminal_of<'a>(output: &'a mut Output, ttys: &'a mut [Terminal], tty: Option<usize>) -> Option<&'a mut Terminal> {
    match (tty, output) {
        (Some(at), _) => ttys.get_mut(at),
        (None, Output::Terminal(terminal)) => Some(terminal),
        (None, _) => None,
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
