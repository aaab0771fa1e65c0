//! One blocking conversation with the kernel: a request, its answers, its verdict.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use sys::Errno;

use crate::codec::{self, Malformed, Message, Messages, Request};
use crate::error::Error;

/// How often a dump is read again when the table changes under it.
const DUMP_ATTEMPTS: usize = 8;

/// A route netlink socket. It stays in the network namespace in which it was opened, wherever the caller is.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    datagram: Vec<u8>,
}

impl Socket {
    /// Opens one in the network namespace of the caller.
    pub(crate) fn open() -> Result<Socket, Error> {
        Ok(Socket::new(sys::netlink::route_socket()?))
    }

    /// Opens one in another network namespace. The caller is back in its own when this returns.
    pub(crate) fn open_in(netns: BorrowedFd<'_>) -> Result<Socket, Error> {
        Ok(Socket::new(sys::netlink::route_socket_in(netns)?))
    }

    /// One of another protocol of netlink, with the same manners.
    pub(crate) fn from_fd(fd: OwnedFd) -> Socket {
        Socket::new(fd)
    }

    fn new(fd: OwnedFd) -> Socket {
        Socket { fd, sequence: 0, datagram: Vec::new() }
    }

    /// Has the kernel do something. `operation` is made on failure only and names the link.
    pub(crate) fn change(&mut self, request: Request, operation: impl Fn() -> String) -> Result<(), Error> {
        self.converse(request, &operation, &mut |_| Ok(())).map(drop)
    }

    /// Asks for one thing.
    pub(crate) fn get<T>(
        &mut self,
        request: Request,
        operation: impl Fn() -> String,
        mut decode: impl FnMut(&[u8]) -> Result<T, Malformed>,
    ) -> Result<T, Error> {
        let mut found = None;
        self.converse(request, &operation, &mut |message| {
            found = Some(decode(message.payload)?);
            Ok(())
        })?;
        found.ok_or_else(|| Error::Malformed { operation: operation() })
    }

    /// Asks for a whole table, again where it changes while it is read.
    pub(crate) fn dump<T>(
        &mut self,
        request: &Request,
        operation: impl Fn() -> String,
        mut decode: impl FnMut(&[u8]) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Error> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut found = Vec::new();
            let whole = self.converse(request.clone(), &operation, &mut |message| {
                found.push(decode(message.payload)?);
                Ok(())
            })?;
            if whole {
                return Ok(found);
            }
        }
        Err(Error::Changing { operation: operation() })
    }

    /// Sends a request and reads until its verdict. False where a dump was interrupted.
    fn converse(
        &mut self,
        mut request: Request,
        operation: &dyn Fn() -> String,
        each: &mut dyn FnMut(&Message<'_>) -> Result<(), Malformed>,
    ) -> Result<bool, Error> {
        self.sequence += 1;
        sys::netlink::send(self.fd.as_fd(), request.finish(self.sequence))?;
        let mut whole = true;
        loop {
            sys::netlink::receive(self.fd.as_fd(), &mut self.datagram)?;
            let malformed = |Malformed| Error::Malformed { operation: operation() };
            for message in Messages(&self.datagram) {
                let message = message.map_err(malformed)?;
                if message.sequence != self.sequence {
                    continue;
                }
                whole &= message.flags & codec::DUMP_INTERRUPTED == 0;
                if !matches!(message.kind, codec::ERROR | codec::DONE) {
                    each(&message).map_err(malformed)?;
                    continue;
                }
                return match codec::decode_verdict(&message).map_err(malformed)? {
                    (0, _) => Ok(whole),
                    (errno, explanation) => {
                        let errno = Errno::from_raw_os_error(errno);
                        Err(Error::Refused { operation: operation(), errno, explanation })
                    }
                };
            }
        }
    }
}
