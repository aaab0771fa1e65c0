//! Network namespaces of this measurement's own, so that the host's network sees nothing of it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A network namespace, which a waiting process holds; it ends with this value, and also with this program's end.
pub(crate) struct Namespace {
    holder: Child,
}

impl Namespace {
    /// Makes one, with its loopback device up.
    ///
    /// # Errors
    /// The caller is not root, or `unshare`, `ip` or `sh` is missing.
    pub(crate) fn make() -> Result<Namespace> {
        let script = "ip link set lo up && echo ready && exec cat";
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().context("cannot run unshare")?;
        let mut line = String::new();
        let output = holder.stdout.take().context("no output of unshare")?;
        let namespace = Namespace { holder };
        BufReader::new(output).read_line(&mut line).context("cannot read what unshare says")?;
        ensure!(line.trim() == "ready", "cannot make a network namespace");
        Ok(namespace)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.holder.id()
    }

    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.pid()))
    }

    /// The words that go before a command so that it runs in this namespace.
    pub(crate) fn prefix(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net={}", self.path().display())]
    }

    /// Runs `ip` or `tc` with these words in it.
    pub(crate) fn set_up(&self, line: &str) -> Result<()> {
        let prefix = self.prefix();
        let status = Command::new(&prefix[0]).args(&prefix[1..]).args(line.split_whitespace()).status();
        ensure!(status.with_context(|| format!("cannot run {line}"))?.success(), "{line} failed");
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Either fails only for a process that has ended already.
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// Two namespaces that a veth joins; `outer` has a bridge with the first address.
pub(crate) struct Network {
    pub(crate) outer: Namespace,
    pub(crate) inner: Namespace,
}

/// The bridge's name, and its address.
pub(crate) const BRIDGE: &str = "bench0";
pub(crate) const GATEWAY: &str = "10.99.0.1";

impl Network {
    /// Makes both, and a veth `eth0` in `inner` with an address beside the bridge's.
    pub(crate) fn make() -> Result<Network> {
        let network = Network { outer: Namespace::make()?, inner: Namespace::make()? };
        let outer = &network.outer;
        outer.set_up(&format!("ip link add {BRIDGE} type bridge"))?;
        outer.set_up(&format!("ip address add {GATEWAY}/16 dev {BRIDGE}"))?;
        outer.set_up(&format!("ip link set {BRIDGE} up"))?;
        network.join(&network.inner, "10.99.0.2")?;
        Ok(network)
    }

    /// Joins a namespace to the bridge by a veth, `eth0` inside.
    pub(crate) fn join(&self, inner: &Namespace, address: &str) -> Result<()> {
        let pid = inner.pid();
        self.outer.set_up(&format!("ip link add veth{pid} type veth peer name eth0 netns {pid}"))?;
        self.outer.set_up(&format!("ip link set veth{pid} master {BRIDGE} up"))?;
        inner.set_up(&format!("ip address add {address}/16 dev eth0"))?;
        inner.set_up("ip link set eth0 up")
    }
}
