//! A network namespace of a test's own that stands for the host.

use std::path::Path;

use crate::host;
use crate::runtime::{Call, Output, Running};
use crate::sandbox::Sandbox;

/// A network namespace; it goes with the process that holds it.
#[derive(Debug)]
pub struct Net<'a> {
    sb: &'a Sandbox,
    holder: Running,
}

impl<'a> Net<'a> {
    /// Makes one, in which loopback is up.
    pub fn new(sb: &'a Sandbox) -> Net<'a> {
        let holder = sb.program("/usr/bin/unshare").args(["--net", "sleep", "3600"]).spawn();
        let own = std::fs::read_link("/proc/self/ns/net").expect("a network namespace");
        let net = Net { sb, holder };
        host::eventually("a network namespace", || std::fs::read_link(net.path()).is_ok_and(|other| other != own));
        net.ip("link set lo up");
        net
    }

    /// The file that stands for it.
    pub fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.pid())
    }

    /// Prepares a program there.
    pub fn call(&self, program: impl AsRef<Path>, args: &[&str]) -> Call {
        let target = format!("--net={}", self.path());
        self.sb.program("/usr/bin/nsenter").args([&target, "--"]).arg(program).args(args)
    }

    /// Runs ip(8) there, with arguments that have one space between them.
    #[track_caller]
    pub fn ip(&self, arguments: &str) -> String {
        self.call("/usr/sbin/ip", &arguments.split(' ').collect::<Vec<_>>()).run().ok()
    }

    /// Runs the runtime under test there, on the state of the sandbox.
    pub fn skep(&self, args: &[&str]) -> Output {
        let root = self.sb.root.to_str().expect("a UTF-8 path");
        self.call(&self.sb.runtime.path, &[&["--root", root], args].concat()).run()
    }

    /// Names of its devices but loopback.
    pub fn names(&self) -> Vec<String> {
        let text = self.ip("-br link");
        let names = text.lines().filter_map(|line| line.split([' ', '@']).next());
        names.filter(|name| *name != "lo").map(str::to_owned).collect()
    }
}
