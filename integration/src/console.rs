//! The caller's side of `--console-socket`: receives the master of a pseudo-terminal by SCM_RIGHTS.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// How long a message or a text may take to come.
const DEADLINE: Duration = Duration::from_secs(20);

/// A listening socket that a runtime connects to.
#[derive(Debug)]
pub struct FdSocket {
    listener: UnixListener,
    /// What the option or the config gets.
    pub path: PathBuf,
}

/// One message with descriptors.
#[derive(Debug)]
pub struct Message {
    /// The bytes of the message.
    pub bytes: Vec<u8>,
    /// The descriptors, in order.
    pub fds: Vec<OwnedFd>,
}

impl FdSocket {
    /// Listens at `dir/name`; the path must stay below the 108 bytes of a socket address.
    pub fn bind(dir: &Path, name: &str) -> FdSocket {
        let path = dir.join(name);
        let listener = UnixListener::bind(&path).unwrap_or_else(|e| panic!("bind {}: {e}", path.display()));
        FdSocket { listener, path }
    }

    /// The socket itself, to see whether somebody has connected.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// The path as text.
    pub fn text(&self) -> &str {
        self.path.to_str().expect("test paths are UTF-8")
    }

    /// Waits for a connection and reads its one message, however many parts the bytes come in: until the sender
    /// closes, or until descriptors have come and the bytes are whole (a name, or a complete JSON object).
    ///
    /// # Panics
    /// When nobody connects or sends in time.
    #[track_caller]
    pub fn receive(&self) -> Message {
        assert!(readable(&self.listener, DEADLINE), "nobody connected to {}", self.path.display());
        let (stream, _) = self.listener.accept().expect("accept");
        let mut message = Message { bytes: Vec::new(), fds: Vec::new() };
        while !message.is_whole() && readable(&stream, DEADLINE) && receive_part(&stream, &mut message) {}
        message
    }

    /// Waits for the master of a terminal.
    #[track_caller]
    pub fn console(&self) -> Console {
        let mut message = self.receive();
        assert_eq!(message.fds.len(), 1, "exactly one descriptor on the console socket");
        let name = String::from_utf8_lossy(&message.bytes).into_owned();
        Console { name, master: message.fds.remove(0) }
    }
}

impl Message {
    fn is_whole(&self) -> bool {
        let json = self.bytes.first() == Some(&b'{');
        !self.fds.is_empty()
            && !self.bytes.is_empty()
            && (!json || serde_json::from_slice::<serde_json::Value>(&self.bytes).is_ok())
    }
}

/// Reads one part of a message. Says whether more may come: `false` at the end of the stream.
fn receive_part(stream: &UnixStream, message: &mut Message) -> bool {
    let mut bytes = [0u8; 65_536];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC);
    let count = match got {
        Ok(got) => got.bytes,
        // A sender that closes with unread bytes of ours would give this; it has sent all it had.
        Err(rustix::io::Errno::CONNRESET) => 0,
        Err(e) => panic!("recvmsg: {e}"),
    };
    message.bytes.extend(&bytes[..count]);
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = part {
            message.fds.extend(fds);
        }
    }
    count > 0
}

/// The master side of a container's terminal.
#[derive(Debug)]
pub struct Console {
    /// What the runtime called it: the bytes that came with the descriptor.
    pub name: String,
    /// The master.
    pub master: OwnedFd,
}

impl Console {
    /// Types this text.
    pub fn type_in(&self, text: &str) {
        rustix::io::write(&self.master, text.as_bytes()).expect("write to the terminal");
    }

    /// Reads until `text` has come, and returns all that came.
    ///
    /// # Panics
    /// When it does not come in time, or the other side closes first.
    #[track_caller]
    pub fn read_until(&self, text: &str) -> String {
        let all = self.read_while(|all| !all.contains(text));
        assert!(all.contains(text), "no {text:?} on the terminal, but {all:?}");
        all
    }

    /// Reads until the other side closes, and returns all that came.
    pub fn read_to_end(&self) -> String {
        self.read_while(|_| true)
    }

    fn read_while(&self, mut more: impl FnMut(&str) -> bool) -> String {
        let mut all = String::new();
        let until = Instant::now() + DEADLINE;
        while more(&all) && readable(&self.master, until.saturating_duration_since(Instant::now())) {
            let mut bytes = [0u8; 4096];
            match rustix::io::read(&self.master, &mut bytes) {
                // EIO: the last descriptor of the other side is closed.
                Ok(0) | Err(rustix::io::Errno::IO) => break,
                Ok(n) => all.push_str(&String::from_utf8_lossy(&bytes[..n])),
                Err(e) => panic!("read from the terminal: {e}"),
            }
        }
        all
    }

    /// Rows and columns.
    pub fn size(&self) -> (u16, u16) {
        let size = rustix::termios::tcgetwinsize(&self.master).expect("TIOCGWINSZ");
        (size.ws_row, size.ws_col)
    }
}

/// Whether something can be read (or the other side has closed) within this time.
pub fn readable(fd: impl AsFd, time: Duration) -> bool {
    let until = Instant::now() + time;
    loop {
        let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).expect("fits a timespec");
        match poll(&mut [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)], Some(&left)) {
            Ok(count) => return count > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => panic!("poll: {e}"),
        }
    }
}
