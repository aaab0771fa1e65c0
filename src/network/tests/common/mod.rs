//! Network namespaces of the tests' own, which go with the last descriptor of them.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "each test file uses a part of these helpers; a skipped test says why"
)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Command;

use network::{Link, LinkAddress, list_addresses};

/// CLONE_NEWNET.
const NEWNET: u64 = 0x4000_0000;

pub(crate) struct Netns(pub(crate) OwnedFd);

impl Netns {
    /// None, with the reason printed, where the test may not make one.
    pub(crate) fn new() -> Option<Netns> {
        let made = std::thread::spawn(|| {
            sys::namespace::unshare(NEWNET)?;
            sys::netlink::current_netns()
        });
        match made.join().unwrap() {
            Ok(fd) => Some(Netns(fd)),
            Err(error) => {
                assert!(!rustix::process::geteuid().is_root(), "root makes network namespaces: {error}");
                eprintln!("skipped: needs root to make a network namespace");
                None
            }
        }
    }

    /// Runs something on a thread inside.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                sys::namespace::join(self.0.as_fd(), NEWNET).unwrap();
                let before = identity();
                let result = work();
                assert_eq!(identity(), before, "the thread is where it was");
                result
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    pub(crate) fn find(&self, name: &str) -> Option<(Link, Vec<LinkAddress>)> {
        list_addresses(Some(self.fd())).unwrap().into_iter().find(|(link, _)| link.name == name)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        list_addresses(Some(self.fd())).unwrap().into_iter().map(|(link, _)| link.name).collect()
    }

    /// Global addresses of a link as text.
    pub(crate) fn addresses(&self, name: &str) -> Vec<String> {
        let (_, addresses) = self.find(name).unwrap();
        addresses.iter().filter(|address| address.scope == 0).map(|address| address.prefix.to_string()).collect()
    }

    pub(crate) fn ip(&self, arguments: &str) -> String {
        self.run(|| {
            let output = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2");
            assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        })
    }
}

pub(crate) fn identity() -> u64 {
    rustix::fs::fstat(sys::netlink::current_netns().unwrap()).unwrap().st_ino
}

pub(crate) fn pair() -> Option<(Netns, Netns)> {
    Some((Netns::new()?, Netns::new()?))
}
