//! `create NAME --lxc-config FILE`: a container as LXC's configuration describes it.
//!
//! What a key means is settled in [`runtime_spec::lxc`]. Here the files are read, the host is asked, and the hooks are run
//! that are outside of a run of the container: before it begins, when it is copied, when it is destroyed. A root file
//! system that the configuration names is used where it lies: nothing in it is moved, chowned or ever removed.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Error, Result, bail};
use clap::Args;
use runtime_spec::Severity;
use runtime_spec::lxc::{self, Around, Finding, Found, HookVersion, Kept, Layout, Lowered, Report, Rootfs, Source};
use runtime_spec::model::CapSet;
use security::seccomp::{Arch, syscalls};
use serde::Serialize;
use serde_json::json;

use crate::args::CreateArgs;
use crate::base::Base;
use crate::bundle::adopted_work;
use crate::definition::{Autostart, Definition, From, Limits, Network, Seccomp};
use crate::ops;
use crate::output::{self, Format, tell};
use crate::run::Manager;
use crate::seccomp::architectures;
use crate::template::Version;

/// Seconds that a container has to begin with the machine, as where no option says it.
const READY_SECONDS: u64 = 60;

/// Most bytes of one file of a configuration: an honest one has a few thousand.
const FILE_MAX: u64 = 1 << 20;

/// The options of `create` for configurations of LXC.
#[derive(Debug, Default, Args)]
pub struct LxcArgs {
    /// Take what the container is from a configuration of LXC; its root file system is used where it lies.
    #[arg(long = "lxc-config", value_name = "FILE", id = "lxc_config")]
    pub config: Option<PathBuf>,
    /// Set a key of that configuration; may be repeated.
    #[arg(long = "lxc-set", value_name = "KEY=VALUE", requires = "lxc_config")]
    pub set: Vec<String>,
    /// Take the place of a stopped container whose root file system is used where it lies, too.
    #[arg(long, requires = "lxc_config")]
    pub replace: bool,
    /// Print what became of each key: text or json.
    #[arg(long, value_name = "FORMAT", value_enum, requires = "lxc_config")]
    pub report: Option<ReportFormat>,
    /// Only read the configuration and tell what is wrong with it: nothing is defined.
    #[arg(long, requires = "lxc_config")]
    pub check: bool,
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ReportFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What `--report json` prints. Names of fields are not changed, only added to.
#[derive(Debug, Serialize)]
struct Document<'a> {
    /// What is wrong or odd in the files.
    findings: &'a [Finding],
    /// What became of each key.
    #[serde(flatten)]
    report: &'a Report,
}

/// Reads a configuration and lowers it for a container of the name in `args`; with `--report` the report is printed.
///
/// # Errors
/// A file cannot be read, or something in it is wrong; each such finding is told before.
pub fn read(manager: &Manager, args: &CreateArgs, file: &Path) -> Result<Lowered> {
    let file = std::path::absolute(file).context("cannot tell the current folder")?;
    let name = file.to_string_lossy().into_owned();
    let text = match read_source(&name).map_err(Error::msg).with_context(|| format!("cannot read {name}"))? {
        Found::File(text) => text,
        Found::Folder(_) => bail!("cannot read {name}: it is a folder"),
    };
    let (mut config, mut findings) = lxc::parse(Source { name: &name, text: &text }, &mut read_source);
    if let Err(finding) = lxc::read_entries(&mut config, &args.lxc.set) {
        findings.push(finding);
    }
    let mount_point = manager.places.container(&args.name).join("rootfs");
    let halt = config.get("lxc.rootfs.path").map_or(DEFAULT_HALT, |setting| probe_halt(&setting.value));
    let around = Around {
        name: &args.name,
        file: &name,
        mount_point: &mount_point.to_string_lossy(),
        layout: probe_layout(),
        architectures: architectures(),
        call_name: &call_name,
        capabilities: probe_capabilities()?,
        apparmor: is_yes("/sys/module/apparmor/parameters/enabled"),
        selinux: Path::new("/sys/fs/selinux/enforce").exists(),
        halt,
        variable: &|name| std::env::var(name).ok(),
        addresses: &addresses,
    };
    let (lowered, report, more) = lxc::lower(&config, &around, &mut read_source);
    findings.extend(more);
    tell_findings(&findings, args.lxc.report);
    match args.lxc.report {
        Some(ReportFormat::Json) => {
            output::print(Format::Json, &Document { findings: &findings, report: &report }, Vec::new)?;
        }
        Some(ReportFormat::Text) => output::write(&report.render())?,
        None if !report.not_possible.is_empty() => {
            tell(&format!(
                "note: {} keys of {name} have no effect: --report text tells which",
                report.not_possible.len()
            ));
        }
        None => {}
    }
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    if errors > 0 {
        bail!("cannot use {name}: {errors} of its lines are wrong");
    }
    Ok(lowered)
}

/// Findings are told, but for warnings that a report in JSON has anyway.
fn tell_findings(findings: &[Finding], report: Option<ReportFormat>) {
    for finding in findings {
        match finding.severity {
            Severity::Error => tell(&format!("error: {finding}")),
            Severity::Warning if report == Some(ReportFormat::Json) => {}
            Severity::Warning => tell(&format!("warning: {finding}")),
        }
    }
}

/// What a configuration says its files are.
///
/// # Errors
/// It names none, or they are not there.
pub fn base(lowered: &Lowered) -> Result<Base> {
    let Some(Rootfs { path, lower, idmap }) = &lowered.rootfs else {
        bail!("the configuration names no root file system that can be used: lxc.rootfs.path, or --from");
    };
    let folder = |path: &String| {
        let found = fs::canonicalize(path).with_context(|| format!("cannot use the root file system {path}"))?;
        if !found.is_dir() || found == Path::new("/") {
            bail!("cannot use the root file system {path}: it is no folder of its own");
        }
        Ok(found)
    };
    let lower = lower.iter().map(folder).collect::<Result<_>>()?;
    let from = From::Adopted { path: folder(path)?, lower, idmap: *idmap };
    Ok(Base { from, entrypoint: Vec::new(), process: Default::default(), stop_signal: None })
}

/// Forgets a stopped container that only refers to what lies elsewhere, so that it can be defined anew. Its hooks do not run.
///
/// # Errors
/// It runs, or it has files of its own; what the kernel or the runtime says.
pub fn forget(manager: &Manager, name: &str) -> Result<()> {
    let Some(old) = Definition::read(&manager.places, name)? else { return Ok(()) };
    if old.lxc.is_none() || !matches!(old.from, From::Adopted { .. }) {
        bail!("container {name:?} is defined already, and has files of its own");
    }
    ops::need_stopped(manager, name)?;
    ops::destroy::remove(manager, name)
}

/// Puts what a configuration says in the place of what an image or a template says.
pub fn replace_defaults(lowered: &Lowered, base: &mut Base, defaults: &mut Version) {
    let process = &mut base.process;
    base.entrypoint.clear();
    process.args.clone_from(&lowered.args);
    process.env.extend(lowered.env.iter().cloned());
    process.cwd = lowered.cwd.clone().unwrap_or_else(|| "/".to_owned());
    process.user.clone_from(&lowered.user);
    base.stop_signal = Some(lowered.stop_signal.clone());
    let own = Limits { memory: lowered.memory, millicpus: None, pids: lowered.pids, disk: None };
    defaults.limits = own;
    if lowered.hostname.is_some() {
        defaults.hostname.clone_from(&lowered.hostname);
    }
}

/// Adds what a configuration says beyond the options of `create`, which count where both say something.
///
/// # Errors
/// A link makes no sense.
pub fn complete(definition: &mut Definition, lowered: Lowered, args: &CreateArgs) -> Result<()> {
    if args.network.is_none() {
        definition.network = if lowered.host_network { Network::Host } else { Network::None };
        let parse = |text: &String| network::parse_link(text).with_context(|| format!("cannot use the link {text:?}"));
        definition.links = lowered.links.iter().map(parse).collect::<Result<_>>()?;
    }
    definition.oci = lowered.oci;
    if let Some(kinds) = definition.oci["linux"]["namespaces"].as_array_mut().filter(|_| args.ids.is_some())
        && !kinds.iter().any(|kind| kind["type"] == "user")
    {
        kinds.push(json!({ "type": "user" }));
    }
    definition.ids = definition.ids.or(lowered.ids);
    if definition.cgroup_parent.is_none() {
        definition.cgroup_parent = lowered.cgroup_parent;
    }
    // The configuration names its own filter, or none.
    definition.seccomp = Seccomp::Unconfined;
    let kept = lowered.kept;
    if definition.autostart.is_none() && kept.auto {
        let (order, groups) = (kept.order, kept.groups.clone());
        definition.autostart = Some(Autostart { order, groups, timeout: READY_SECONDS, ..Autostart::default() });
    }
    definition.lxc = Some(kept);
    Ok(())
}

/// Makes the kernel's working folder for a root file system of layers that is not ours.
///
/// # Errors
/// What the kernel says.
pub fn make_work(path: &Path, definition: &Definition) -> Result<()> {
    if matches!(&definition.from, From::Adopted { lower, idmap: false, .. } if lower.is_empty()) {
        return Ok(());
    }
    let work = adopted_work(path);
    match fs::create_dir(&work) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("cannot make {}", work.display()))
        }
        _ => Ok(()),
    }
}

/// Runs the hooks of a kind, one after the other, with variables besides those of every hook. What they write goes to
/// `log`, if there is one.
///
/// # Errors
/// One cannot be run, or does not end with 0; the others are not run then.
pub fn run_hooks(definition: &Definition, kind: &str, told: &[(&str, &str)], log: Option<&File>) -> Result<()> {
    let Some(kept) = &definition.lxc else { return Ok(()) };
    for hook in kept.hooks.iter().filter(|hook| hook.kind == kind) {
        let mut command = hook_command(kept, kind, &hook.command, told);
        for stream in [Command::stdout, Command::stderr] {
            match log {
                Some(log) => stream(&mut command, Stdio::from(log.try_clone()?)),
                None => stream(&mut command, Stdio::null()),
            };
        }
        let status = command.status().with_context(|| format!("cannot run the {kind} hook {:?}", hook.command))?;
        if !status.success() {
            bail!("the {kind} hook {:?} ended with {status}", hook.command);
        }
    }
    Ok(())
}

/// A shell that runs a hook, as LXC has it: the value may have arguments.
fn hook_command(kept: &Kept, kind: &str, text: &str, told: &[(&str, &str)]) -> Command {
    let mut command = Command::new("/bin/sh");
    command.stdin(Stdio::null());
    let entries = kept.hook_env.iter().filter_map(|entry| entry.split_once('='));
    command.envs(entries).envs(told.iter().copied());
    let own = kept.hook_env.iter().find_map(|entry| entry.strip_prefix("LXC_NAME=")).unwrap_or_default();
    let name = told.iter().find(|(key, _)| *key == "LXC_NAME").map_or(own, |(_, name)| name);
    match kept.hook_version {
        HookVersion::Arguments => command.args(["-c", &format!("{text} {name} lxc {kind}")]),
        HookVersion::Variables => command.env("LXC_HOOK_TYPE", kind).env("LXC_HOOK_SECTION", "lxc").args(["-c", text]),
    };
    command
}

/// Reads a file, or lists what a folder has that ends in `.conf`.
fn read_source(path: &str) -> Result<Found, String> {
    let meta = fs::metadata(path).map_err(|error| error.to_string())?;
    if meta.is_dir() {
        let entries = fs::read_dir(path).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        let paths = entries.map_err(|error| error.to_string())?.into_iter().map(|entry| entry.path());
        let mut files: Vec<String> = paths
            .filter(|path| path.extension().is_some_and(|end| end == "conf"))
            .map(|path| path.to_string_lossy().into_owned())
            .collect();
        files.sort_unstable();
        return Ok(Found::Folder(files));
    }
    if !meta.is_file() {
        return Err("it is no file".to_owned());
    }
    let mut text = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(FILE_MAX + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > FILE_MAX {
        return Err(format!("it has more than {FILE_MAX} bytes"));
    }
    String::from_utf8(text).map(Found::File).map_err(|_| "it is no UTF-8 text".to_owned())
}

/// The signal that halts a container where nothing is said (lxc.container.conf(5), lxc.signal.halt).
const DEFAULT_HALT: &str = "SIGPWR";

/// The signal that halts what a root file system has as its first program: systemd takes another one (systemd(1), signals).
fn probe_halt(rootfs: &str) -> &'static str {
    let path = rootfs.rsplit(':').next().unwrap_or(rootfs);
    match fs::read_link(Path::new(path).join("sbin/init")) {
        Ok(target) if target.to_string_lossy().ends_with("systemd") => "SIGRTMIN+3",
        _ => DEFAULT_HALT,
    }
}

/// Which version of cgroups has the controllers of this host.
pub(crate) fn probe_layout() -> Layout {
    match Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        true => Layout::Unified,
        false => Layout::Legacy,
    }
}

fn is_yes(path: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.trim() == "Y")
}

/// What a container can have at most: the caller's bounding set (proc(5), CapBnd).
fn probe_capabilities() -> Result<CapSet> {
    const PATH: &str = "/proc/self/status";
    let status = fs::read_to_string(PATH).with_context(|| format!("cannot read {PATH}"))?;
    let bits = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let bits = bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.map(CapSet).with_context(|| format!("{PATH} has no capabilities"))
}

fn call_name(number: u32) -> Option<String> {
    let mut all = syscalls(Arch::NATIVE?);
    all.find(|(_, known)| *known == number).map(|(name, _)| name.to_owned())
}

/// Addresses of a device of the host; none where it has none or is not there.
fn addresses(device: &str) -> Vec<std::net::IpAddr> {
    let links = network::list_addresses(None).unwrap_or_default();
    let of_device = links.into_iter().filter(|(link, _)| link.name == device).flat_map(|(_, addresses)| addresses);
    of_device.filter(network::LinkAddress::is_permanent_global).map(|address| address.prefix.ip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_are_called_by_the_version() {
        let kept = |hook_version| Kept {
            hook_env: vec!["LXC_NAME=a".to_owned(), "X=1".to_owned()],
            hook_version,
            ..Kept::default()
        };
        let args = |version, told: &[(&str, &str)]| {
            let command = hook_command(&kept(version), "clone", "/h x", told);
            command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(args(HookVersion::Arguments, &[]), ["-c", "/h x a lxc clone"]);
        assert_eq!(args(HookVersion::Arguments, &[("LXC_NAME", "b")]), ["-c", "/h x b lxc clone"]);
        assert_eq!(args(HookVersion::Variables, &[]), ["-c", "/h x"]);
        let command = hook_command(&kept(HookVersion::Variables), "clone", "/h", &[("LXC_NAME", "b")]);
        let env: Vec<_> =
            command.get_envs().filter_map(|(key, value)| Some((key.to_str()?, value?.to_str()?))).collect();
        assert_eq!(env, [("LXC_HOOK_SECTION", "lxc"), ("LXC_HOOK_TYPE", "clone"), ("LXC_NAME", "b"), ("X", "1")]);
    }

    #[test]
    fn files_and_folders_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        for name in ["b.conf", "a.conf", "c.txt"] {
            fs::write(path(name), name).unwrap();
        }
        assert_eq!(read_source(&path("")), Ok(Found::Folder(vec![path("a.conf"), path("b.conf")])));
        assert_eq!(read_source(&path("c.txt")), Ok(Found::File("c.txt".to_owned())));
        fs::write(path("d"), vec![b'x'; FILE_MAX as usize + 1]).unwrap();
        assert!(read_source(&path("d")).unwrap_err().contains("more than"));
        read_source(&path("gone")).unwrap_err();
        read_source("/dev/null").unwrap_err();
        assert_eq!(call_name(u32::MAX), None);
    }
}
