//! `create NAME --from`: a definition, and the folder for what its container will change.

use std::fs;
use std::path::Path;

use anyhow::{Context, Error, Result, bail};

use crate::args::CreateArgs;
use crate::args_network::ConnectionArgs;
use crate::base::{self, Base};
use crate::changes;
use crate::copied::{self, Storage};
use crate::definition::{
    Definition, Device, First, From, Limits, LogBounds, Network, Process, Rates, Restart, Upper, Volume,
};
use crate::links;
use crate::lxc;
use crate::monitor::Input;
use crate::ops::{checkconfig, network, remove_tree};
use crate::output;
use crate::places::{CLOSED, Lock, UPPER, WORK, make_closed_dir, make_private_dir, now, validate_name};
use crate::quota;
use crate::rootless;
use crate::run::Manager;
use crate::system::init::STOP_SIGNAL;
use crate::system::{INIT, System, ids};
use crate::template::{self, Version};
use crate::validate::{HOSTNAME_MAX, validate_hostname, validate_signal};

/// Defines a container.
///
/// # Errors
/// There is one of the name, or something of the definition makes no sense.
pub fn create(manager: &Manager, args: &CreateArgs) -> Result<()> {
    validate_name("container", &args.name)?;
    let lxc = args.lxc.config.as_deref().map(|file| lxc::read(manager, args, file)).transpose()?;
    if args.lxc.check {
        return Ok(());
    }
    let _lock = manager.places.lock(&args.name)?;
    if args.lxc.replace {
        lxc::forget(manager, &args.name)?;
    }
    need_free(manager, &args.name)?;
    let mut base = match (&args.from, &lxc) {
        (Some(from), _) => base::find(&manager.places, from)?,
        (None, Some(lowered)) => lxc::base(lowered)?,
        (None, None) => bail!("--from says what its files are"),
    };
    let _version_stays = template::lock_in_use(&manager.places, &base.from)?;
    let _layers_stay = base::pin(&manager.places, &base.from)?;
    let mut defaults = template::read_defaults(&manager.places, &base.from)?;
    if let Some(lowered) = &lxc {
        lxc::replace_defaults(lowered, &mut base, &mut defaults);
    }
    let mut definition = define(args, base, defaults)?;
    if let Some(lowered) = lxc {
        lxc::complete(&mut definition, lowered, args)?;
    }
    for after in &args.autostart.after {
        validate_name("container", after)?;
    }
    if args.no_monitor && (args.tty || definition.restart != Restart::No) {
        bail!("--no-monitor goes neither with --tty nor with --restart: the monitor holds the one and does the other");
    }
    if rootless::read_caller()?.is_some() {
        rootless::check(&definition)?;
    }
    let allocate = definition.system.is_some() && args.ids.is_none() && !args.privileged;
    let _ids_stay = renew(manager, &mut definition, allocate)?;
    check(&definition)?;
    network::check(manager, &definition)?;
    checkconfig::refuse_new(manager, None, &definition)?;
    definition.storage = copied::decide(&manager.places, &definition, args.storage)?;
    add(manager, &definition, None)?;
    if args.start {
        super::start::start_locked(manager, &definition, None, Input::Null)?;
    }
    output::write(&format!("{}\n", args.name))
}

/// Gives a container what only one can have: a whole system a machine-id, and ids on the host to whoever is to have some. Those
/// are its own as long as the lock is held, and once its definition is on disk.
pub(super) fn renew(manager: &Manager, definition: &mut Definition, allocate: bool) -> Result<Option<Lock>> {
    if let Some(system) = &mut definition.system {
        system.machine_id = format!("{}{}", changes::random_id()?, changes::random_id()?);
    }
    if !allocate {
        return Ok(None);
    }
    let (ids, lock) = ids::allocate(&manager.places)?;
    definition.ids = Some(ids);
    Ok(Some(lock))
}

/// Checks what only shows at a start otherwise, wherever it comes from: options, the image or the template.
fn check(definition: &Definition) -> Result<()> {
    validate_signal(&definition.stop_signal).map_err(Error::msg).context("the signal that asks it to end")?;
    for volume in &definition.volumes {
        fs::metadata(&volume.source).with_context(|| format!("cannot use the volume {}", volume.source))?;
    }
    Ok(())
}

/// Checks that a name is nobody's.
pub(super) fn need_free(manager: &Manager, name: &str) -> Result<()> {
    if manager.places.container(name).exists() {
        bail!("container {name:?} is defined already");
    }
    if manager.runtime.state(name)?.is_some() {
        bail!("there is a container {name:?} already, without a definition: skep delete removes it");
    }
    Ok(())
}

/// Adds a container that has not run yet, or leaves nothing. Its upper layer begins as a copy of `begin`, if there is one.
pub(super) fn add(manager: &Manager, definition: &Definition, begin: Option<&Path>) -> Result<()> {
    let name = &definition.name;
    make_private_dir(&manager.places.containers())?;
    let unfinished = manager.places.containers().join(format!(".{name}.new"));
    remove_tree(&unfinished)?;
    let made = make_folder(manager, &unfinished, definition, begin).and_then(|()| {
        let folder = manager.places.container(name);
        fs::rename(&unfinished, &folder).with_context(|| format!("cannot make {}", folder.display()))
    });
    // The lease comes after the container: one without would be nobody's. A start finds its files, and changes what is no
    // longer true of them.
    let made = made.and_then(|()| network::connect(manager, definition)).and_then(|()| match definition.lxc {
        // LXC leaves them to the container.
        Some(_) => Ok(()),
        None => network::write_files(manager, definition, &manager.places.container(name)),
    });
    if let Err(error) = made {
        remove_tree(&unfinished)?;
        super::destroy::remove(manager, name)?;
        return Err(error);
    }
    Ok(())
}

/// The folder of a container. The definition comes last.
fn make_folder(manager: &Manager, folder: &Path, definition: &Definition, begin: Option<&Path>) -> Result<()> {
    make_private_dir(folder)?;
    let own = folder.join(CLOSED);
    make_closed_dir(&own)?;
    if let Some(bytes) = definition.limits.disk {
        quota::limit_new(&manager.places, &own, bytes)?;
    }
    for name in ["rootfs", WORK] {
        let path = folder.join(name);
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    let below = changes::layers(&manager.places, definition)?;
    let upper = folder.join(UPPER);
    changes::make_upper(&upper, &below[0])?;
    match begin {
        Some(begin) => copied::fill_raw(&upper, begin)?,
        None if definition.storage == Storage::Copy => copied::fill(&upper, &below)?,
        None => {}
    }
    definition.write(folder)
}

fn define(args: &CreateArgs, base: Base, defaults: Version) -> Result<Definition> {
    let mut from = base.from;
    match &mut from {
        From::Host { hide, show } => {
            hide.clone_from(&args.hide);
            show.clone_from(&args.show);
        }
        _ if !args.hide.is_empty() || !args.show.is_empty() => bail!("--hide and --show go with --from host alone"),
        _ => {}
    }
    let command = match (args.init, args.command.is_empty()) {
        (true, true) => vec![defaults.init.clone().unwrap_or_else(|| INIT.to_owned())],
        (true, false) => args.command.clone(),
        (false, true) => [base.entrypoint, base.process.args.clone()].concat(),
        (false, false) => [base.entrypoint, args.command.clone()].concat(),
    };
    if command.is_empty() {
        bail!("there is nothing to run: {:?} has no command of its own, add -- CMD", from.render());
    }
    // An init begins with an empty environment, as root, at the top: what an image says is said of one program.
    let said = if args.init { Process::default() } else { base.process };
    let mut env = said.env;
    for entry in &args.env {
        set_variable(&mut env, &variable(entry)?);
    }
    let cwd = args.workdir.clone().or(Some(said.cwd).filter(|cwd| !cwd.is_empty()));
    let cwd = cwd.unwrap_or_else(|| "/".to_owned());
    if !cwd.starts_with('/') {
        bail!("--workdir {cwd:?} must be an absolute path");
    }
    let connected = connection(args);
    let asked = !args.addresses.is_empty() || args.egress.is_some() || args.ingress.is_some();
    if asked && matches!(connected, Network::None | Network::Host) {
        bail!("--ip, --egress and --ingress are for a managed network or one of CNI; a --link has its own");
    }
    // A console is what an init writes to; without a monitor there is nobody to hold it.
    let terminal = args.tty || (args.init && !args.no_monitor);
    let first = if args.with_init { First::SkepInit } else { First::Program };
    Ok(Definition {
        schema: Definition::SCHEMA,
        name: args.name.clone(),
        created: now(),
        from,
        changes: Vec::new(),
        upper: args.ephemeral.map_or(Upper::Disk, Upper::Memory),
        storage: Storage::Overlay,
        process: Process { args: command, terminal, env, cwd, user: args.user.clone().or(said.user), first },
        hostname: hostname(args, defaults.hostname.as_deref())?,
        ids: args.ids,
        limits: Limits {
            memory: args.memory.or(defaults.limits.memory),
            millicpus: args.cpus.or(defaults.limits.millicpus),
            pids: args.pids.or(defaults.limits.pids),
            disk: args.disk_size,
        },
        cgroup_parent: args.cgroup_parent.clone(),
        volumes: volumes(args, defaults.volumes),
        devices: devices(args),
        links: links::parse_links(&args.connection.link, &connected)?,
        network: connected,
        share: args.connection.class.clone(),
        publish: args.publish.clone(),
        restart: args.restart,
        seccomp: args.seccomp,
        stop_signal: args
            .stop_signal
            .clone()
            .or(base.stop_signal.filter(|_| !args.init))
            .unwrap_or_else(|| STOP_SIGNAL.to_owned()),
        monitor: !args.no_monitor,
        view: !args.no_view,
        autostart: args.autostart.autostart(),
        log: LogBounds { size: args.log_size, files: args.log_files },
        oci: serde_json::Value::Null,
        lxc: None,
        // The id comes when nothing speaks against the container.
        system: args.init.then(|| System { nesting: args.nesting, ttys: args.ttys, ..System::default() }),
    })
}

/// Those that were given; for a whole system also what its users mount and connect by, where the host has it.
fn devices(args: &CreateArgs) -> Vec<Device> {
    let mut devices = args.device.clone();
    for path in ["/dev/fuse", "/dev/net/tun"] {
        let given = devices.iter().any(|device| device.destination == path);
        if args.init && !given && Path::new(path).exists() {
            devices.push(Device { source: path.to_owned(), destination: path.to_owned(), access: "rwm".to_owned() });
        }
    }
    devices
}

/// The one that was given, or the pattern of a template with the container's name in it.
fn hostname(args: &CreateArgs, pattern: Option<&str>) -> Result<String> {
    const NAME: &str = "{name}";
    if let Some(given) = &args.hostname {
        return validate_hostname(given).map(|()| given.clone()).map_err(Error::msg);
    }
    let pattern = pattern.unwrap_or(NAME);
    // The container's own name may have an underscore.
    validate_hostname(&pattern.replace(NAME, "x")).map_err(Error::msg)?;
    let rendered = pattern.replace(NAME, &args.name);
    if rendered.len() > HOSTNAME_MAX {
        bail!("host name {rendered:?} has more than {HOSTNAME_MAX} characters: give another by --hostname");
    }
    Ok(rendered)
}

/// Those of a template, but for what was given another one at the same place.
fn volumes(args: &CreateArgs, mut volumes: Vec<Volume>) -> Vec<Volume> {
    volumes.retain(|default| args.volume.iter().all(|given| given.destination != default.destination));
    volumes.extend(args.volume.iter().cloned());
    volumes
}

fn connection(args: &CreateArgs) -> Network {
    let (addresses, rates) = (args.addresses.clone(), Rates { egress: args.egress, ingress: args.ingress });
    match args.network.as_deref() {
        None | Some("none") => Network::None,
        Some("host") => Network::Host,
        Some(name) => match name.strip_prefix("cni:") {
            Some(name) => {
                let ConnectionArgs { cni_conf, cni_plugins, .. } = args.connection.clone();
                Network::Cni { name: name.to_owned(), conf: cni_conf, plugins: cni_plugins, addresses, rates }
            }
            None => Network::Managed { name: name.to_owned(), addresses, rates },
        },
    }
}

/// `KEY=VALUE`, or the caller's own value of `KEY`.
fn variable(entry: &str) -> Result<String> {
    if entry.starts_with('=') || entry.is_empty() {
        bail!("--env {entry:?} has no name");
    }
    if entry.contains('=') {
        return Ok(entry.to_owned());
    }
    let value = std::env::var(entry).with_context(|| format!("--env {entry}: the caller has no such variable"))?;
    Ok(format!("{entry}={value}"))
}

fn set_variable(env: &mut Vec<String>, entry: &str) {
    let key = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let wanted = key(entry);
    env.retain(|known| key(known) != wanted);
    env.push(entry.to_owned());
}
