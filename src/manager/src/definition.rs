//! What a container is. How it is kept on disk: [`crate::document`].

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use network::{LinkSpec, Rate, Share};
use rootfs_tools::Digest;
use runtime_spec::lxc::Kept;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::copied::Storage;
use crate::document;
use crate::places::{Places, validate_name};
use crate::size;
use crate::system::System;
use crate::validate::validate_inside;

/// Version of the document. One that is not known is left alone.
const SCHEMA: u32 = 1;

/// A container's definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Version of the document.
    pub schema: u32,
    /// The container's name.
    pub name: String,
    /// When it was defined, seconds since 1970.
    pub created: u64,
    /// What its root file system is made of.
    pub from: From,
    /// Frozen changes above that by their ids, the lowest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// Where its changes go.
    #[serde(default)]
    pub upper: Upper,
    /// How its root file system is put together.
    #[serde(default, skip_serializing_if = "Storage::is_overlay")]
    pub storage: Storage,
    /// What it runs.
    pub process: Process,
    /// Name in its UTS namespace.
    pub hostname: String,
    /// Ids of its user namespace: first one on the host, and how many; `None` is none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<(u32, u32)>,
    /// Limits.
    #[serde(default)]
    pub limits: Limits,
    /// The group that its group is below; `None` is the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_parent: Option<String>,
    /// Folders and files of the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Devices of the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// What connects it.
    pub network: Network,
    /// Links besides, each with a name of its own inside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<LinkSpec>,
    /// What it has of a link of the host that containers share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
    /// Ports of the host that lead to it, as written: `[ADDRESS:]HOST:PORT[/udp]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<String>,
    /// What happens when it ends by itself.
    #[serde(default)]
    pub restart: Restart,
    /// Which system calls it may make.
    #[serde(default)]
    pub seccomp: Seccomp,
    /// Signal that asks it to end.
    pub stop_signal: String,
    /// Whether a monitor stays with it while it runs.
    #[serde(default = "yes")]
    pub monitor: bool,
    /// Whether files such as `/proc/meminfo` tell it of itself ([`crate::view`]). Left out of the document where they do.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub view: bool,
    /// Whether it begins with the machine, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autostart: Option<Autostart>,
    /// Bounds of its log, which the monitor keeps.
    #[serde(default)]
    pub log: LogBounds,
    /// A piece of config.json that is laid over the rendered one ([`runtime_spec::fragment`]). A mount may have `optional`:
    /// it is left out where its source is not there.
    #[serde(default, skip_serializing_if = "Value::is_null", with = "document::piece")]
    pub oci: Value,
    /// What a configuration of LXC says that no other field has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lxc: Option<Kept>,
    /// What makes it a whole system, whose first process is an init; `None` is a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<System>,
}

fn yes() -> bool {
    true
}

/// How a container begins with the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Autostart {
    /// Those of a lower one come first.
    #[serde(default)]
    pub order: i32,
    /// Containers that have to be ready before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// Groups that can be started alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// When it is ready; `None` is as soon as it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
    /// Seconds until it has to be.
    #[serde(default)]
    pub timeout: u64,
}

/// By what a container shows that it is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ready {
    /// Something in it listens on this port.
    Tcp(u16),
    /// This line for its shell ends with 0.
    Exec(String),
}

impl Ready {
    /// As on the command line.
    #[must_use]
    pub fn render(&self) -> String {
        match self {
            Ready::Tcp(port) => format!("tcp:{port}"),
            Ready::Exec(command) => format!("exec:{command}"),
        }
    }
}

/// Reads `tcp:PORT` or `exec:COMMAND`.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_ready(text: &str) -> Result<Ready, String> {
    match text.split_once(':') {
        Some(("tcp", port)) => match port.parse() {
            Ok(port) if port > 0 => Ok(Ready::Tcp(port)),
            _ => Err(format!("{text:?}: want a port from 1 to 65535")),
        },
        Some(("exec", command)) if !command.trim().is_empty() => Ok(Ready::Exec(command.to_owned())),
        _ => Err(format!("{text:?}: want tcp:PORT or exec:COMMAND")),
    }
}

/// Bounds of a container's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogBounds {
    /// Bytes from which on it is put aside; 0 for never.
    #[serde(default = "log_size", deserialize_with = "size::read")]
    pub size: u64,
    /// How many old ones are kept.
    #[serde(default = "log_files")]
    pub files: u32,
}

fn log_size() -> u64 {
    LogBounds::default().size
}

fn log_files() -> u32 {
    LogBounds::default().files
}

impl Default for LogBounds {
    fn default() -> LogBounds {
        LogBounds { size: 10 << 20, files: 3 }
    }
}

/// What a root file system is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum From {
    /// Layers of an image.
    Image {
        /// Its name when the container was defined.
        name: String,
        /// The layers by the digest of their content, the lowest first.
        layers: Vec<Digest>,
    },
    /// A template, as its `current` link says at each start.
    Template {
        /// Its name.
        name: String,
    },
    /// A folder.
    Folder {
        /// Absolute path.
        path: PathBuf,
    },
    /// A root file system that is not ours and is used where it lies: changes go there, and nobody removes it.
    Adopted {
        /// Absolute path of the folder that takes the changes.
        path: PathBuf,
        /// Layers below it, the uppermost first; none for a plain folder.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lower: Vec<PathBuf>,
        /// Whether the owners on disk are those inside the container.
        #[serde(default)]
        idmap: bool,
    },
    /// The host's own files.
    Host {
        /// Paths that are not shown, besides the usual ones.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        hide: Vec<String>,
        /// Paths that are shown although they usually are not.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        show: Vec<String>,
    },
}

impl From {
    /// What `--from` takes: `host`, a path, `image:NAME` or `template:NAME`.
    #[must_use]
    pub fn render(&self) -> String {
        match self {
            From::Image { name, .. } => format!("image:{name}"),
            From::Template { name } => format!("template:{name}"),
            From::Folder { path } | From::Adopted { path, .. } => path.display().to_string(),
            From::Host { .. } => "host".to_owned(),
        }
    }
}

/// Where changes go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Upper {
    /// To the container's folder.
    #[default]
    Disk,
    /// To memory, until it ends; at most this many bytes, 0 for half of the memory.
    Memory(#[serde(deserialize_with = "size::read")] u64),
}

/// What a container runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Program and arguments.
    pub args: Vec<String>,
    /// Whether it has a terminal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub terminal: bool,
    /// `KEY=value`.
    #[serde(default)]
    pub env: Vec<String>,
    /// Working folder.
    pub cwd: String,
    /// `USER[:GROUP]`, names or numbers; `None` is root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What is the first process.
    #[serde(default, skip_serializing_if = "First::is_program")]
    pub first: First,
}

/// What the first process of a container is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum First {
    /// The program itself.
    #[default]
    Program,
    /// `skep-init`, which starts the program, reaps, and passes signals on.
    SkepInit,
}

impl First {
    /// Whether it is the usual one.
    #[must_use]
    pub fn is_program(&self) -> bool {
        *self == First::Program
    }
}

/// Limits, in the units of the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes.
    #[serde(default, deserialize_with = "size::read_optional", skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Thousandths of a processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub millicpus: Option<u64>,
    /// Tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<i64>,
    /// Bytes on disk of what it changes.
    #[serde(default, deserialize_with = "size::read_optional", skip_serializing_if = "Option::is_none")]
    pub disk: Option<u64>,
}

/// Something of the host inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Absolute path on the host.
    pub source: String,
    /// Absolute path inside.
    pub destination: String,
    /// Whether it can only be read.
    #[serde(default)]
    pub read_only: bool,
    /// Whether the owners of its files are ids of the container's user namespace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idmap: bool,
}

/// A device of the host inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Absolute path on the host.
    pub source: String,
    /// Absolute path inside.
    pub destination: String,
    /// Some of `r`, `w` and `m`.
    pub access: String,
}

/// What connects a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Network {
    /// Nothing but `lo`.
    None,
    /// The host's own network.
    Host,
    /// A managed network.
    Managed {
        /// Its name.
        name: String,
        /// Addresses that were asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        addresses: Vec<String>,
        /// Most that it sends, and that it receives.
        #[serde(default, skip_serializing_if = "Rates::is_empty")]
        rates: Rates,
    },
    /// A network that CNI plugins make.
    Cni {
        /// Its name, as its configuration has it.
        name: String,
        /// The folder with the configuration.
        conf: PathBuf,
        /// Folders with plugins, the first first.
        plugins: Vec<PathBuf>,
        /// Addresses that were asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        addresses: Vec<String>,
        /// Most that it sends, and that it receives.
        #[serde(default, skip_serializing_if = "Rates::is_empty")]
        rates: Rates,
    },
}

impl Network {
    /// What `--network` takes: `none`, `host`, a name or `cni:NAME`.
    #[must_use]
    pub fn render(&self) -> String {
        match self {
            Network::None => "none".to_owned(),
            Network::Host => "host".to_owned(),
            Network::Managed { name, .. } => name.clone(),
            Network::Cni { name, .. } => format!("cni:{name}"),
        }
    }
}

/// Which system calls a container may make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Seccomp {
    /// All but those that it has no use for.
    #[default]
    Default,
    /// All.
    Unconfined,
}

/// Limits of a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Most that the container sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Rate>,
    /// Most that it receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Rate>,
}

impl Rates {
    /// Whether there is no limit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Rates::default()
    }
}

/// What happens when a container ends by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Nothing.
    #[default]
    No,
    /// It is started again unless it ended with 0.
    OnFailure,
    /// It is started again.
    Always,
}

impl Definition {
    /// A version of the document that this build writes.
    pub const SCHEMA: u32 = SCHEMA;

    /// Reads the definition of a container; `None` where there is none.
    ///
    /// # Errors
    /// It cannot be read, or a newer version wrote it.
    pub fn read(places: &Places, name: &str) -> Result<Option<Definition>> {
        document::read(&places.container(name))
    }

    /// Reads the definition of a container that has to be there.
    ///
    /// # Errors
    /// It is no name of a container; there is none; it cannot be read.
    pub fn need(places: &Places, name: &str) -> Result<Definition> {
        validate_name("container", name)?;
        match Definition::read(places, name)? {
            Some(definition) => Ok(definition),
            None => bail!("container {name:?} is not defined"),
        }
    }

    /// Names of all that are defined, in order.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn names(places: &Places) -> Result<Vec<String>> {
        let dir = places.containers();
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.with_context(|| format!("cannot read {}", dir.display()))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.with_context(|| format!("cannot read {}", dir.display()))?.file_name();
            if let Ok(name) = name.into_string()
                && !name.starts_with('.')
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// Reads `SOURCE:DESTINATION[:ro]`.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_volume(text: &str) -> Result<Volume, String> {
    let mut parts = text.split(':');
    let (source, destination) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let read_only = match (parts.next(), parts.next()) {
        (None, _) | (Some("rw"), None) => false,
        (Some("ro"), None) => true,
        _ => return Err(format!("{text:?}: want SOURCE:DESTINATION, or that with :ro or :rw")),
    };
    if !source.starts_with('/') || !destination.starts_with('/') {
        return Err(format!("{text:?}: both paths must be absolute"));
    }
    validate_inside(destination)?;
    Ok(Volume { source: source.to_owned(), destination: destination.to_owned(), read_only, idmap: false })
}

/// Reads `PATH[:PATH INSIDE][:rwm]`.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_device(text: &str) -> Result<Device, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, access) = match parts.as_slice() {
        [source] => (*source, *source, "rwm"),
        [source, access] if is_access(access) => (*source, *source, *access),
        [source, destination] => (*source, *destination, "rwm"),
        [source, destination, access] if is_access(access) => (*source, *destination, *access),
        _ => return Err(format!("{text:?}: want PATH, PATH:PATH or PATH:PATH:rwm")),
    };
    let device = Device { source: source.to_owned(), destination: destination.to_owned(), access: access.to_owned() };
    validate_device(&device)?;
    Ok(device)
}

/// Whether a text is some of `r`, `w` and `m`.
fn is_access(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| "rwm".contains(c))
}

/// Checks a device wherever it comes from. A path may have colons, as those of /dev/disk/by-path have: an option alone, which
/// [`parse_device`] reads, cannot say them.
///
/// # Errors
/// What is wrong with it.
pub fn validate_device(device: &Device) -> Result<(), String> {
    if !device.source.starts_with('/') {
        return Err(format!("{:?} must be an absolute path", device.source));
    }
    validate_inside(&device.destination)?;
    if !is_access(&device.access) {
        return Err(format!("access {:?}: want some of r, w and m", device.access));
    }
    Ok(())
}

/// Reads a number of processors such as `0.5` as thousandths.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_cpus(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no number of processors: want one such as 0.5 or 2");
    let cpus: f64 = text.parse().map_err(|_| wrong())?;
    // The kernel's shortest quota is a millisecond of a period of 100 (CONFIG_CFS_BANDWIDTH, min_cfs_quota_period).
    if !(0.01..=1e6).contains(&cpus) {
        Err(format!("{text:?}: want at least 0.01"))
    } else {
        Ok((cpus * 1000.0).round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_read() {
        assert_eq!(
            parse_volume("/a:/b:ro"),
            Ok(Volume { source: "/a".to_owned(), destination: "/b".to_owned(), read_only: true, idmap: false })
        );
        assert!(!parse_volume("/a:/b").unwrap().read_only);
        for text in ["/a", "/a:/", "/a:/b/../..", "a:/b", "/a:b", "/a:/b:rx", "/a:/b:ro:z", ""] {
            parse_volume(text).unwrap_err();
        }
    }

    #[test]
    fn devices_are_read() {
        let device = |text| parse_device(text).map(|d| (d.source, d.destination, d.access));
        let all = |a: &str, b: &str, c: &str| Ok((a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(device("/dev/fuse"), all("/dev/fuse", "/dev/fuse", "rwm"));
        assert_eq!(device("/dev/fuse:r"), all("/dev/fuse", "/dev/fuse", "r"));
        assert_eq!(device("/dev/a:/dev/b"), all("/dev/a", "/dev/b", "rwm"));
        assert_eq!(device("/dev/a:/dev/b:rw"), all("/dev/a", "/dev/b", "rw"));
        for text in ["fuse", "/dev/a:b", "/dev/a:/dev/b:x", ""] {
            parse_device(text).unwrap_err();
        }
    }

    #[test]
    fn processors_are_thousandths() {
        assert_eq!(parse_cpus("0.5"), Ok(500));
        assert_eq!(parse_cpus("2"), Ok(2000));
        for text in ["0", "-1", "x", "nan", ""] {
            parse_cpus(text).unwrap_err();
        }
    }
}
