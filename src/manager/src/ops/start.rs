//! `start NAME` of a definition: bundle, then the runtime.

use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use runtime_spec::fragment;
use runtime_spec::monitor::Orders;
use runtime_spec::state::{ALREADY_THERE, State, Status};
use serde_json::{Value, json};

use crate::base;
use crate::bundle::{Surroundings, cgroups_path, render_config};
use crate::copied::{self, Storage};
use crate::definition::{Definition, Device, First, From, Upper};
use crate::host;
use crate::lxc;
use crate::monitor::{self, Input, Waiting, Watched};
use crate::ops::{checkconfig, ended, follow, network};
use crate::output::tell;
use crate::pending;
use crate::places::{Lock, Readers, write_for_run};
use crate::quota;
use crate::rootless;
use crate::run::Manager;
use crate::runs::Run;
use crate::runtime::messages;
use crate::system::{Guest, INIT, System, files, nesting, render_uuid};
use crate::template;
use crate::view;

/// The step of the runtime that fails where the kernel cannot stack layers.
const LAYERS_REFUSED: &str = "mount the layers of the root file system";

/// Starts a container that does not run.
///
/// # Errors
/// It runs already, or cannot be started; then nothing is left of the attempt. One that runs without its monitor gets
/// another.
pub fn start(manager: &Manager, name: &str) -> Result<()> {
    let _lock = pending::lock(manager, name)?;
    let definition = Definition::need(&manager.places, name)?;
    start_locked(manager, &definition, None, Input::Null)
}

/// Starts a container whose lock is held. `again` is the run after which it is started by itself: that one has been
/// concluded.
pub(crate) fn start_locked(
    manager: &Manager,
    definition: &Definition,
    again: Option<&Run>,
    input: Input,
) -> Result<()> {
    let name = &definition.name;
    // Without a run of ours the runtime has nothing, or something that it tells when it is to start another of the name.
    let had_run = again.is_some() || Run::read(&manager.places, name)?.is_some();
    let state = if had_run { manager.runtime.state(name)? } else { None };
    if let Some(state) = &state
        && state.status.is_alive()
    {
        if input == Input::Null && ended::watch_again(manager, definition)? {
            tell(&format!("note: container {name:?} ran without its monitor, it has another now"));
            return Ok(());
        }
        bail!("container {name:?} is {} already", state.status);
    }
    if again.is_none() {
        // What an earlier run left.
        ended::clear(manager, definition, state.is_some(), false)?;
    }
    let run = Run::new(again.map_or(0, |run| run.restarts))?;
    let group = cgroup_name(definition, manager.runtime.uses_systemd());
    let view = view::raise(&manager.places, definition, &run, &group)?;
    let started = start_run(manager, definition, again, &run, view.as_deref(), input, had_run);
    // The container has mounts of its own by now.
    let lowered = view::lower(&manager.places, name);
    if let (Err(_), Err(also)) = (&started, &lowered) {
        tell(&format!("note: {also:#}"));
    }
    started.and(lowered)
}

/// The runtime has a running container of the name that is not ours.
#[derive(Debug)]
struct Foreign;

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another container of this name is running already")
    }
}

impl std::error::Error for Foreign {}

/// How the path of its group ends.
fn cgroup_name(definition: &Definition, systemd: bool) -> String {
    let path = cgroups_path(definition, systemd);
    match path.split_once(':') {
        Some((_slice, name)) if systemd => format!("/{}.scope", name.replace(':', "-")),
        _ => path,
    }
}

/// Starts a run, in which its files tell it of itself where `view` has them. `had_run` says that one was known when this start
/// began, so that what the runtime has of the name is ours.
fn start_run(
    manager: &Manager,
    definition: &Definition,
    again: Option<&Run>,
    run: &Run,
    view: Option<&Path>,
    input: Input,
    had_run: bool,
) -> Result<()> {
    let name = &definition.name;
    let folder = manager.places.container(name);
    // Somebody may have written it by hand.
    checkconfig::need_sound(&folder, name)?;
    if let Some(bytes) = definition.limits.disk {
        quota::limit_again(&folder, bytes)?;
    }
    run.write(&manager.places, name)?;
    // It comes to life while the rest is prepared.
    let monitor = match definition.monitor {
        true => Waiting::start(name, &run.folder(&manager.places, name), Watched::New(input)).map(Some),
        false => Ok(None),
    };
    // Until the runtime was to start it, what there is of the name is somebody else's, unless there was a run.
    let mut ours = had_run;
    let started = monitor.and_then(|monitor| match prepare(manager, definition, view, again.is_none()) {
        Ok((links, version)) => {
            let mark = manager.runtime.clock.mark();
            ours = true;
            launch_alone(manager, definition, run, &links, (monitor, input), had_run)?;
            manager.runtime.clock.spent("launch", mark);
            drop(version);
            Ok(())
        }
        Err(error) => monitor.map_or(Ok(()), Waiting::dismiss).and(Err(error)),
    });
    if let Err(error) = started {
        if ours && !error.is::<Foreign>() && manager.runtime.state(name)?.is_some() {
            manager.runtime.delete(name)?;
        }
        network::lower(manager, definition)?;
        match again {
            Some(before) => {
                before.write(&manager.places, name).and_then(|()| run.remove_folder(&manager.places, name))?
            }
            None => Run::forget(&manager.places, name)?,
        }
        let is_refused = format!("{error:#}").contains(LAYERS_REFUSED);
        let hint = if is_refused { ": one of --storage copy needs no layers" } else { "" };
        return Err(error.context(format!("cannot start container {name:?}{hint}")));
    }
    again.map_or(Ok(()), |before| before.remove_folder(&manager.places, name))
}

/// Makes the bundle and what connects it; puts the log aside if that is wanted. Returns the container's links, and a lock on
/// its template to be kept until it runs.
fn prepare(
    manager: &Manager,
    definition: &Definition,
    view: Option<&Path>,
    log_aside: bool,
) -> Result<(Vec<String>, Option<Lock>)> {
    let name = &definition.name;
    let folder = manager.places.container(name);
    let mark = manager.runtime.clock.mark();
    let version = template::lock_in_use(&manager.places, &definition.from)?;
    let shown = copied::shown(&manager.places, definition)?;
    let (hidden, parts) = match &definition.from {
        From::Host { hide, show } => {
            let hidden = host::probe_hidden(hide, show, &manager.places.data)?;
            let mountinfo = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts of the host")?;
            let parts = host::parse_parts(&mountinfo, &hidden);
            (hidden, parts)
        }
        _ => (Vec::new(), Vec::new()),
    };
    let user = base::find_user(&shown, definition.process.user.as_deref())?;
    let devices = definition.devices.iter().map(probe_device).collect::<Result<Vec<_>>>()?;
    let covers: Vec<_> = host::plan_covers(&parts, &hidden)
        .into_iter()
        .filter_map(|path| fs::metadata(&path).ok().map(|meta| (path, meta.is_dir())))
        .collect();
    if let From::Adopted { path, .. } = &definition.from {
        lxc::make_work(path, definition)?;
    }
    let host = folder.join("host");
    let guest = match &definition.system {
        Some(system) => Some(prepare_system(definition, system, &shown, Guest::new(&folder, &host))?),
        None => None,
    };
    let init = match definition.process.first {
        First::Program => None,
        First::SkepInit => Some(find_init()?),
    };
    let cpus = view::choose_cpus(&manager.places, definition)?;
    let offsets = view::read_offsets(definition)?;
    let mut config = render_config(
        definition,
        &Surroundings {
            folder: &folder,
            lower: &shown[1..],
            systemd: manager.runtime.uses_systemd(),
            nested: copied::in_user_namespace()?,
            user: &user,
            devices: &devices,
            // LXC leaves these files to the container.
            files: if definition.lxc.is_some() { &[] } else { &network::FILES },
            hidden: &hidden,
            parts: &parts,
            covers: &covers,
            guest,
            view,
            cpus: cpus.as_deref(),
            offsets: offsets.as_ref(),
            init: init.as_deref(),
        },
    );
    if let Some(caller) = rootless::read_caller()? {
        rootless::check(definition)?;
        rootless::apply(&mut config, definition, &caller);
    }
    leave_out_missing(&mut config);
    if definition.storage == Storage::Copy {
        copied::set_root(&mut config, &folder);
    }
    if let Some(hooks) = template::read_hooks(&manager.places, &definition.from)? {
        fragment::merge(&mut config, &json!({ "hooks": hooks }));
    }
    network::complete(manager, definition, &mut config)?;
    write_for_run(&folder.join("config.json"), &serde_json::to_vec_pretty(&config)?, Readers::Owner)?;
    manager.runtime.clock.spent("prepare_bundle", mark);
    let mark = manager.runtime.clock.mark();
    let log = follow::log_path(manager, name);
    if log_aside {
        monitor::set_log_aside(&log, definition.log.files)?;
    }
    let log = monitor::open_log(&log)?;
    lxc::run_hooks(definition, "pre-start", &[], Some(&log))?;
    let links = network::raise(manager, definition)?;
    network::write_files(manager, definition, &folder)?;
    network::tell_neighbours(manager, definition);
    manager.runtime.clock.spent("network", mark);
    Ok((links, version))
}

/// Starts the runtime, also where the container of an earlier start is in the way: one whose command was killed goes on
/// without it, until the runtime finds the folder of its run gone. That container is taken away, and this one started
/// once more; one that comes in between again is the work of another start that was killed.
fn launch_alone(
    manager: &Manager,
    definition: &Definition,
    run: &Run,
    links: &[String],
    (mut monitor, input): (Option<Waiting>, Input),
    had_run: bool,
) -> Result<()> {
    const MOST: usize = 5;
    let name = &definition.name;
    for _ in 1..MOST {
        match launch(manager, definition, run, links, monitor.take()) {
            Err(error) if format!("{error:#}").contains(ALREADY_THERE) => {
                let runs = |state: State| matches!(state.status, Status::Running | Status::Paused);
                if !had_run && manager.runtime.state(name)?.is_some_and(runs) {
                    return Err(Foreign.into());
                }
                manager.runtime.delete(name)?;
                run.remove_folder(&manager.places, name)?;
                run.write(&manager.places, name)?;
                if definition.monitor {
                    let folder = run.folder(&manager.places, name);
                    monitor = Some(Waiting::start(name, &folder, Watched::New(input))?);
                }
            }
            result => return result,
        }
    }
    launch(manager, definition, run, links, monitor)
}

/// Starts the runtime, by the monitor unless the definition has none, or gives a container that runs this monitor.
pub(super) fn launch(
    manager: &Manager,
    definition: &Definition,
    run: &Run,
    links: &[String],
    monitor: Option<Waiting>,
) -> Result<()> {
    let name = &definition.name;
    let folder = manager.places.container(name);
    let log = follow::log_path(manager, name);
    let Some(monitor) = monitor else {
        return manager.runtime.run(name, &folder, links, &monitor::open_log(&log)?);
    };
    let run_folder = run.folder(&manager.places, name);
    let terminal = definition.process.terminal;
    let data = manager.places.data.to_str().context("the data folder's name is no text")?;
    let after = |verb: &str| -> Result<Vec<String>> {
        let mut command = manager.runtime.command_line()?;
        command.extend(["--data", data, verb, name, &run.id].map(str::to_owned));
        Ok(command)
    };
    let orders = Orders {
        log: log.to_str().context("the log's name is no text")?.to_owned(),
        log_size: definition.log.size,
        log_files: definition.log.files,
        terminal,
        ttys: definition.system.as_ref().filter(|_| terminal).map_or(0, |system| system.ttys),
        lock: manager.places.lock_file(name).to_str().context("the lock's name is no text")?.to_owned(),
        start: manager.runtime.start_command(name, &folder, &run_folder, terminal, links)?,
        ended: after("ended")?,
        again: after("again")?,
    };
    monitor.order(&orders, &messages(&folder))
}

/// Adds a line to a container's log that the container did not write.
pub(super) fn note(manager: &Manager, name: &str, text: &str) -> Result<()> {
    let mut log = monitor::open_log(&follow::log_path(manager, name))?;
    Ok(writeln!(log, "[skep: {text}]")?)
}

/// Takes out mounts that may be missing and whose sources are; the mark that says so is no field of config.json.
fn leave_out_missing(config: &mut Value) {
    let Some(mounts) = config["mounts"].as_array_mut() else { return };
    mounts.retain_mut(|mount| {
        let optional = mount.as_object_mut().and_then(|mount| mount.remove("optional")) == Some(Value::Bool(true));
        !optional || mount["source"].as_str().is_some_and(|source| fs::symlink_metadata(source).is_ok())
    });
}

/// Writes what a whole system finds in its files, and looks at what it is made of.
fn prepare_system<'a>(
    definition: &Definition,
    system: &System,
    layers: &[PathBuf],
    mut guest: Guest<'a>,
) -> Result<Guest<'a>> {
    if let (Upper::Disk, [upper, lower @ ..]) = (&definition.upper, layers) {
        files::write_own(upper, lower, system)?;
    }
    files::write_host(guest.host, &render_uuid(&system.machine_id))?;
    if system.nesting {
        nesting::make_folders(guest.folder, definition)?;
    }
    let program = definition.process.args.first().map_or(INIT, String::as_str);
    guest.systemd = files::probe_systemd(layers, program)?;
    guest.unified = files::probe_unified()?;
    Ok(guest)
}

/// The program that starts others: it is installed beside this one.
fn find_init() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    let path = own.with_file_name("skep-init");
    if !path.is_file() {
        bail!("skep-init is not installed: looked for {}", path.display());
    }
    Ok(path)
}

/// Type and numbers of a device of the host.
pub(super) fn probe_device(device: &Device) -> Result<(char, u32, u32)> {
    let path = &device.source;
    let meta = fs::metadata(path).with_context(|| format!("cannot use the device {path}"))?;
    let kind = match meta.file_type() {
        kind if kind.is_char_device() => 'c',
        kind if kind.is_block_device() => 'b',
        _ => bail!("cannot use {path}: it is no device"),
    };
    Ok((kind, sys::fs::major(meta.rdev()), sys::fs::minor(meta.rdev())))
}
