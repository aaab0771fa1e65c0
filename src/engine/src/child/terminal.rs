//! The container's terminal.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use runtime_spec::model::ConsoleSize;
use runtime_spec::ttys::Ttys;
use sys::Errno;
use sys::fs::{self, OFlags};
use sys::mount::Depth;

use super::Child;
use super::resolve::{Links, make_folders};
use crate::error::{Error, Result};
use crate::step::Slot;

impl Child<'_> {
    /// Makes a pseudo terminal in the container's devpts, sends its master to the socket in `slot`, and makes the slave
    /// standard input, output and error. Everything goes by descriptor from the multiplexer on; see
    /// [`sys::terminal::open_pty`] for the checks.
    pub(super) fn make_terminal(
        &mut self,
        size: Option<ConsoleSize>,
        slot: Slot,
        multiplexer: Option<Slot>,
        console: bool,
        ttys: Option<Ttys>,
    ) -> Result<()> {
        let ptmx = self.find_multiplexer(multiplexer)?;
        let pty = sys::terminal::open_pty(self.proc, ptmx.as_fd())?;
        if let Some(size) = size.filter(|s| (s.height, s.width) != (0, 0)) {
            sys::terminal::set_size(pty.slave.as_fd(), size.height, size.width)?;
        }
        if console {
            self.mount_terminal("console", pty.slave.as_fd())?;
        }
        let socket = self.take_slot(slot)?;
        let name = format!("/dev/pts/{}", pty.number);
        sys::socket::send(socket.as_fd(), name.as_bytes(), &[pty.master.as_fd()])?;
        drop(pty.master);
        if let Some(ttys) = ttys {
            self.make_ttys(ttys, ptmx.as_fd(), socket.as_fd())?;
        }
        sys::terminal::make_controlling(pty.slave.as_fd())?;
        for number in 0..3 {
            sys::process::dup_onto(pty.slave.as_fd(), number)?;
        }
        Ok(())
    }

    /// Makes terminals besides, and sends their masters in one message, in their order.
    fn make_ttys(&self, ttys: Ttys, ptmx: BorrowedFd<'_>, socket: BorrowedFd<'_>) -> Result<()> {
        let mut masters = Vec::new();
        for number in 1..=ttys.count {
            let pty = sys::terminal::open_pty(self.proc, ptmx)?;
            if ttys.named {
                self.mount_terminal(&format!("tty{number}"), pty.slave.as_fd())?;
            }
            masters.push(pty.master);
        }
        let masters: Vec<BorrowedFd<'_>> = masters.iter().map(AsFd::as_fd).collect();
        Ok(sys::socket::send(socket, ttys.render().as_bytes(), &masters)?)
    }

    /// Mounts a terminal on a name in the container's `/dev`, which is made if it is not there.
    fn mount_terminal(&self, name: &str, slave: BorrowedFd<'_>) -> Result<()> {
        let dir = make_folders(self.root()?, "/dev", Links::Refused)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY;
        match fs::open_at(dir.as_fd(), name, flags, 0o666) {
            Err(error) if !error.is(Errno::EXIST) => return Err(error.into()),
            _ => {}
        }
        let target = fs::open_at(dir.as_fd(), name, OFlags::PATH | OFlags::NOFOLLOW, 0)?;
        if fs::file_type(&fs::stat(target.as_fd())?) == fs::FileType::Symlink {
            let what = format!("/dev/{name} of the container is a link");
            return Err(Error::from(sys::Error::new(what, Errno::LOOP)));
        }
        let copy = sys::mount::clone_tree(slave, Depth::One)?;
        Ok(sys::mount::attach(copy.as_fd(), target.as_fd())?)
    }

    /// The container's, or what the plan has for a root that lacks one.
    fn find_multiplexer(&mut self, other: Option<Slot>) -> Result<OwnedFd> {
        let found = match self.look("/dev/pts/ptmx", Links::Refused) {
            Err(error) if error.is(Errno::NOENT) => self.look("/dev/ptmx", Links::Inside),
            found => found,
        };
        match (found, other) {
            (Err(error), Some(slot)) if error.is(Errno::NOENT) => self.take_slot(slot),
            (found, _) => Ok(found?),
        }
    }
}
