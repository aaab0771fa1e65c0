//! The host side: one loop that performs [`HostStep`]s.
//!
//! It is single-threaded, enters no namespace of the container (a pid namespace for children is entered for the length of
//! one clone and left again) and keeps the undo list on disk ahead of what it does.

mod hide;
pub(crate) mod idmap;
mod links;
mod maker;
pub(crate) mod nodes;
mod overlay;
pub(crate) mod resctrl;
mod restore;
mod spawn;
mod unit;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use runtime_spec::model::{Device, Hook, IdMapping, NamespaceKind};
use runtime_spec::state::ContainerProcessState;
use runtime_spec::timeline::{Side, Timeline};
use sys::fs::OFlags;
use sys::mount::{AttrChange, Depth};
use sys::process::Exit;
use sys::{Errno, ProcFs};

use crate::error::{Error, Result};
use crate::gate::{self, Channel, Gate, Told, Up};
use crate::ops::Context;
use crate::plan::Plan;
use crate::source;
use crate::state::{Folder, Lock, Phase, ProcessId, Record};
use crate::step::{HookPoint, HostStep, OverlayRoot, Slot};
use crate::{clock, hooks};

/// What an operation tells its caller on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something that a person should know.
    Warning,
    /// A performed step.
    Debug,
}

/// Takes what an operation tells.
pub type Log<'a> = &'a dyn Fn(Level, &str);

/// What the host side has to work with.
pub(crate) struct Host<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) proc: &'a ProcFs,
    pub(crate) log: Log<'a>,
    /// Whether steps are told at [`Level::Debug`].
    pub(crate) trace: bool,
    /// Where steps put down the time that they took.
    pub(crate) timeline: Option<&'a Timeline>,
    pub(crate) hook_state: hooks::State,
    /// The container's record, when one is made.
    pub(crate) recorder: Option<Recorder<'a>>,
    pub(crate) slots: Vec<Option<OwnedFd>>,
    pub(crate) group: Option<cgroup::Group>,
    pub(crate) attach: Option<cgroup::AttachFds>,
    /// Process whose group below the container's is taken where the container's own takes no process (an exec).
    pub(crate) beside: Option<i32>,
    pub(crate) spawned: Option<Spawned>,
    /// Who mounts the layers of the root file system meanwhile, and where the mount goes.
    layers: Option<(maker::Maker, Slot)>,
    pub(crate) notify: Option<OwnedFd>,
    /// Network devices that were moved into the container, to be moved back when its creation fails.
    pub(crate) moved: Vec<network::DeviceMove>,
    /// The service manager's unit, where it makes the groups.
    pub(crate) unit: crate::unit::Link,
    /// Folders that the child has opened in its own mount namespace, for CRIU.
    pub(crate) opened_inside: Vec<OwnedFd>,
    /// Our end of the socket to the CRIU that restores.
    pub(crate) rpc: Option<OwnedFd>,
    /// The host's end when the caller's own terminal is to be joined with the container's.
    pub(crate) console: Option<OwnedFd>,
}

/// The record of a container that is being made.
pub(crate) struct Recorder<'a> {
    pub(crate) folder: &'a Folder,
    pub(crate) record: Record,
    pub(crate) config: &'a [u8],
    pub(crate) lock: Option<Lock>,
    /// Whether another process will start it, through FIFOs.
    pub(crate) start_by_other: bool,
}

/// The container's first process, or the process of an exec.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) id: ProcessId,
    pub(crate) pidfd: OwnedFd,
    pub(crate) channel: Channel,
}

impl<'a> Host<'a> {
    pub(crate) fn new(plan: &'a Plan, context: &'a Context<'a>, hook_state: hooks::State) -> Self {
        let mut slots = Vec::new();
        slots.resize_with(plan.slots, || None);
        Host {
            plan,
            proc: &context.proc,
            log: context.log,
            trace: context.trace,
            timeline: context.timeline,
            hook_state,
            recorder: None,
            slots,
            group: None,
            attach: None,
            beside: None,
            spawned: None,
            layers: None,
            notify: None,
            moved: Vec::new(),
            unit: crate::unit::Link::default(),
            opened_inside: Vec::new(),
            rpc: None,
            console: None,
        }
    }

    /// Performs all steps.
    pub(crate) fn run(&mut self) -> Result<()> {
        for planned in &self.plan.host {
            let begin = self.timeline.map(|_| clock::now());
            self.perform(&planned.step).map_err(|error| match (describe(&planned.step), &planned.from) {
                (Some(what), Some(from)) => error.in_step(format!("{what} (config.json {from})")),
                (Some(what), None) => error.in_step(what),
                (None, _) => error,
            })?;
            let name = step_name(&planned.step);
            if let (Some(timeline), Some(begin)) = (self.timeline, begin) {
                timeline.add(Side::Host, name, begin, clock::now());
            }
            if self.trace {
                (self.log)(Level::Debug, &format!("host step {name}"));
            }
        }
        Ok(())
    }

    fn perform(&mut self, step: &HostStep) -> Result<()> {
        match step {
            HostStep::MakeCgroups { below } => self.make_cgroups(*below),
            HostStep::WriteEarlyLimits { writes } => Ok(self.group()?.apply_attach(writes)?),
            HostStep::MakeGuestCgroups => self.make_guest_cgroups(),
            HostStep::OpenRootfs { path, slot, detached } => {
                self.slots[*slot] = Some(source::open_rootfs(path, *detached)?);
                Ok(())
            }
            HostStep::OpenContainerRoot { slot } => self.open_container_root(*slot),
            HostStep::OpenNamespace { kind, path, not_own, slot } => self.open_namespace(*kind, path, *not_own, *slot),
            HostStep::OpenSource(source) => self.fill(source.slot, source::copy(source, None)),
            HostStep::OpenDevice { device, slot } => self.fill(*slot, source::open_device(device)),
            HostStep::MakeNodes { nodes, label } => self.make_nodes(nodes, label.as_deref()),
            HostStep::MakeNotifyFolder { .. } => self.make_notify_folder(),
            HostStep::OpenConsole { socket, slot } => self.open_console(socket.as_deref(), *slot),
            HostStep::Spawn { namespaces, into_cgroup, launcher, pid_namespace } => {
                self.spawn(namespaces, *into_cgroup, launcher.as_ref(), *pid_namespace)
            }
            HostStep::StartUnit { unit, properties } => self.start_unit(unit, properties),
            HostStep::AdoptCgroups => self.adopt_cgroups(),
            HostStep::AttachToUnit { unit } => self.attach_to_unit(unit),
            HostStep::SetUnitProperties { unit, properties } => self.set_unit_properties(unit, properties),
            HostStep::MapIds(maps) => idmap::map_ids(self.proc, self.pid()?, maps),
            HostStep::SetRlimits { rlimits } => {
                let pid = self.pid()?;
                rlimits.iter().try_for_each(|limit| set_rlimit(pid, limit))
            }
            HostStep::SetOomScoreAdj { value } => self.set_oom_score_adj(*value),
            HostStep::IdmapSource { slot, of_child, recursive, uids, gids } => {
                self.idmap_source(*slot, *of_child, *recursive, uids, gids)
            }
            HostStep::MountOverlay(root) => self.mount_overlay(root),
            HostStep::MoveNetDevice { device } => {
                let netns = self.proc.open_namespace(self.pid()?, "net")?;
                let planned = network::read_device_move(&device.host_name, Some(&device.name), netns.as_fd())?;
                network::apply_device_move(&planned, netns.as_fd())?;
                self.moved.push(planned);
                Ok(())
            }
            HostStep::MakeLink { link, record } => links::make(self, link, record),
            HostStep::BringLoopbackUp => self.bring_loopback_up(),
            HostStep::OpenRpc { slot } => self.open_rpc(*slot),
            HostStep::RestoreImages(images) => self.restore_images(images),
            HostStep::JoinResctrl { rdt } => resctrl::join(resctrl::ROOT, rdt, &self.plan.id, self.pid()?),
            HostStep::AwaitGate { gate } => self.await_gate(*gate),
            HostStep::OpenGate { slots, .. } => self.open_gate(slots),
            HostStep::WriteLimits { writes } => Ok(self.group()?.apply(writes)?),
            HostStep::AttachDeviceProgram { .. } => self.attach_device_program(),
            HostStep::DelegateCgroup { uid, which } => Ok(self.group()?.delegate(*uid, *which)?),
            HostStep::SetScheduler { scheduler } => set_scheduler(self.pid()?, scheduler),
            HostStep::SetIoPriority { priority } => {
                Ok(sys::sched::set_io_priority(self.pid()?, priority.class, priority.level)?)
            }
            HostStep::SetAffinity { cpus } => Ok(sys::sched::set_affinity(self.pid()?, cpus)?),
            HostStep::ResetAffinity => self.reset_affinity(),
            HostStep::RunHooks { point, hooks } => self.run_hooks(*point, hooks),
            HostStep::SendSeccompNotify { listener, metadata } => self.send_notify(listener, metadata.as_deref()),
            HostStep::SendPidfd { socket } => self.send_pidfd(socket),
            HostStep::WritePidFile { path } => write_pid_file(path, self.pid()?),
            HostStep::RecordCreated => self.record_created(),
        }
    }

    fn group(&self) -> Result<&cgroup::Group> {
        self.group.as_ref().ok_or_else(|| Error::Unsupported("the container has no cgroup".to_owned()))
    }

    pub(crate) fn spawned(&self) -> Result<&Spawned> {
        self.spawned.as_ref().ok_or(Error::NotRunning)
    }

    fn pid(&self) -> Result<i32> {
        self.spawned().map(|spawned| spawned.id.pid)
    }

    fn make_cgroups(&mut self, below: cgroup::group::Below) -> Result<()> {
        let group = cgroup::Group::create(&self.plan.groups, below)?;
        self.attach = Some(group.open_attach(&[])?);
        self.group = Some(group);
        Ok(())
    }

    fn make_guest_cgroups(&mut self) -> Result<()> {
        let group = self.group()?;
        let subs = group.make_guest()?;
        self.attach = Some(group.open_attach(&subs)?);
        Ok(())
    }

    /// The root of the container's first process, which the state tells to hooks. The process is looked at again
    /// afterwards: its number may be another one's by now only if it has ended.
    fn open_container_root(&mut self, slot: Slot) -> Result<()> {
        let pid = self.hook_state.document.pid.and_then(|pid| i32::try_from(pid).ok()).ok_or(Error::NotRunning)?;
        let root = self.proc.open_root(pid)?;
        let init = self.slots.first().and_then(Option::as_ref).ok_or(Error::NotRunning)?;
        if sys::process::has_ended(init.as_fd())? {
            return Err(Error::NotRunning);
        }
        self.slots[slot] = Some(root);
        Ok(())
    }

    /// Opens a namespace and checks its kind: setns would say no more than EINVAL.
    fn open_namespace(&mut self, kind: NamespaceKind, path: &str, not_own: bool, slot: Slot) -> Result<()> {
        let fd = sys::fs::open(path, OFlags::RDONLY)?;
        let found = sys::namespace::kind(fd.as_fd())?;
        if found != kind.clone_flag() {
            return Err(Error::Unsupported(format!("{path} is not a {} namespace", kind.oci_name())));
        }
        if not_own && self.is_hosts_own(fd.as_fd(), kind)? {
            let kind = kind.oci_name();
            return Err(Error::Unsupported(format!(
                "{path} is the host's own {kind} namespace: what the definition asks for would change the host"
            )));
        }
        self.slots[slot] = Some(fd);
        Ok(())
    }

    /// Whether a namespace is the runtime's own or that of the host's first process.
    fn is_hosts_own(&self, namespace: BorrowedFd<'_>, kind: NamespaceKind) -> Result<bool> {
        if same_file(namespace, self.proc.open_own_namespace(kind.proc_name())?.as_fd())? {
            return Ok(true);
        }
        match self.proc.open_namespace(1, kind.proc_name()) {
            Ok(first) => same_file(namespace, first.as_fd()),
            // Whoever may not look at the first process has no right to join its namespaces either.
            Err(error) if matches!(error.errno(), Errno::ACCESS | Errno::PERM | Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn make_notify_folder(&self) -> Result<()> {
        let recorder = self.recorder.as_ref();
        let recorder = recorder.ok_or_else(|| Error::Unsupported("there is no state folder".to_owned()))?;
        crate::notify::make_folder(recorder.folder)
    }

    fn open_console(&mut self, socket: Option<&str>, slot: Slot) -> Result<()> {
        self.slots[slot] = Some(match socket {
            Some(path) => sys::socket::connect(path)?,
            None => {
                let (ours, theirs) = sys::socket::pair()?;
                self.console = Some(ours);
                theirs
            }
        });
        Ok(())
    }

    /// Setting what it has already needs no right, so it is not set.
    fn set_oom_score_adj(&self, value: i32) -> Result<()> {
        let path = format!("{}/oom_score_adj", self.pid()?);
        if self.proc.read(&path)?.trim().parse() == Ok(value) {
            return Ok(());
        }
        Ok(self.proc.write(&path, &value.to_string())?)
    }

    /// The kernel remembers what the caller was bound to, beyond the move into another cpuset.
    fn reset_affinity(&self) -> Result<()> {
        match sys::sched::reset_affinity(self.pid()?) {
            // Not allowed to choose for another user's process, which then runs where the caller does.
            Err(error) if error.is(Errno::PERM) => {
                (self.log)(Level::Warning, &format!("the caller's CPU affinity is kept: {error}"));
                Ok(())
            }
            other => Ok(other?),
        }
    }

    fn attach_device_program(&mut self) -> Result<()> {
        let program = cgroup::group::DeviceProgram::load(&self.plan.device_program)?;
        self.group()?.put_device_program(&program, cgroup::group::Own::Leftovers)?;
        if let Some(recorder) = &mut self.recorder {
            recorder.record.device_programs = vec![program.id()];
        }
        Ok(())
    }

    /// Takes messages until the child stands at the gate.
    fn await_gate(&mut self, gate: Gate) -> Result<()> {
        match self.next_word(gate)? {
            Up::Reached(Gate::Rootfs, fds) if gate == Gate::Rootfs => {
                self.opened_inside = fds;
                Ok(())
            }
            Up::Reached(reached, fds) if reached == gate => {
                self.notify = fds.into_iter().next().or_else(|| self.notify.take());
                Ok(())
            }
            _ => Err(out_of_turn()),
        }
    }

    /// Takes messages until the child hands over a copy.
    fn await_source(&mut self) -> Result<OwnedFd> {
        match self.next_word(Gate::Rootfs)? {
            Up::Source(fds) => fds.into_iter().next().ok_or_else(out_of_turn),
            _ => Err(out_of_turn()),
        }
    }

    /// The next message of a child on its way to a gate that is neither the story of its steps nor its end.
    fn next_word(&self, gate: Gate) -> Result<Up> {
        let spawned = self.spawned()?;
        loop {
            match gate::next(&spawned.channel, spawned.pidfd.as_fd())? {
                Up::Trace(step) => self.told(&step),
                Up::Failed(error) => return Err(error),
                Up::Gone => return Err(self.died(gate.during())),
                word => return Ok(word),
            }
        }
    }

    /// A step that the child has performed.
    fn told(&self, step: &Told) {
        if let Some(timeline) = self.timeline {
            timeline.add(Side::Container, &step.name, step.begin, step.end);
        }
        if self.trace {
            (self.log)(Level::Debug, &format!("child step {}", step.name));
        }
    }

    /// Takes messages until the child closes its end, which an exec does.
    pub(crate) fn await_exec(&self) -> Result<()> {
        loop {
            match self.spawned()?.channel.receive()? {
                Up::Gone => return Ok(()),
                Up::Failed(error) => return Err(error),
                Up::Trace(step) => self.told(&step),
                Up::Reached(..) | Up::Spawned(..) | Up::Source(_) | Up::NeedsMaps => {}
            }
        }
    }

    /// Why the child is gone.
    pub(crate) fn died(&self, during: &str) -> Error {
        let how = match self.pid().map(sys::process::wait) {
            Ok(Ok(Exit::Signal(sys::signal::SIGKILL))) if self.out_of_memory() => {
                "killed by the kernel: its memory limit is too small to start".to_owned()
            }
            Ok(Ok(Exit::Signal(signal))) => format!("killed by signal {signal}"),
            Ok(Ok(Exit::Code(code))) => format!("exit status {code}"),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        Error::ChildDied { during: during.to_owned(), how }
    }

    /// Whether the group has seen the OOM killer.
    fn out_of_memory(&self) -> bool {
        self.group.as_ref().is_some_and(|group| cgroup::oom::kills(group).is_ok_and(|kills| kills > 0))
    }

    fn open_gate(&mut self, slots: &[Slot]) -> Result<()> {
        self.take_layers(None).map_err(|error| error.in_step(LAYERS))?;
        let mut fds: Vec<OwnedFd> = slots.iter().filter_map(|slot| self.slots[*slot].take()).collect();
        // Groups that were made after the clone: the child enters them through what it gets now.
        fds.extend(self.attach.take().into_iter().flat_map(|attach| attach.tasks).map(|attach| attach.fd));
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        match self.spawned()?.channel.go(&borrowed) {
            // It died at the gate; why is worth more than that the pipe broke.
            Err(error) if error.errno() == Some(Errno::PIPE) => Err(self.died("waiting at a gate")),
            other => other,
        }
    }

    /// The lock is not held while hooks run: they may ask for the state, and a stuck one must not block `delete --force`.
    fn run_hooks(&mut self, point: HookPoint, list: &[Hook]) -> Result<()> {
        if let Some(recorder) = &mut self.recorder {
            recorder.lock = None;
        }
        let mut state = self.hook_state.clone();
        let spawned = self.spawned()?;
        state.pid = Some(spawned.id.pid);
        let folder = state.document.bundle.clone();
        for (index, hook) in list.iter().enumerate() {
            hooks::run(point, index, hook, &state, Some(&folder), Some(spawned.pidfd.as_fd()))?;
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.lock = Some(recorder.folder.lock()?);
        }
        Ok(())
    }

    fn send_notify(&mut self, listener: &str, metadata: Option<&str>) -> Result<()> {
        let notify = self.notify.take().ok_or_else(|| Error::Unsupported("no seccomp descriptor came".to_owned()))?;
        let spawned = self.spawned()?;
        let pid = u32::try_from(spawned.id.pid).unwrap_or_default();
        let mut state = self.hook_state.document.clone();
        state.pid = self.recorder.as_ref().map_or(state.pid, |_| Some(pid));
        let message = ContainerProcessState {
            oci_version: state.oci_version.clone(),
            fds: vec!["seccompFd".to_owned()],
            pid,
            metadata: metadata.unwrap_or_default().to_owned(),
            state,
        };
        let bytes = serde_json::to_vec(&message).expect("the message has string keys alone");
        let socket = sys::socket::connect(listener)?;
        Ok(sys::socket::send(socket.as_fd(), &bytes, &[notify.as_fd()])?)
    }

    fn send_pidfd(&self, path: &str) -> Result<()> {
        let socket = sys::socket::connect(path)?;
        Ok(sys::socket::send(socket.as_fd(), b"pidfd", &[self.spawned()?.pidfd.as_fd()])?)
    }

    pub(crate) fn record_init(&mut self) -> Result<()> {
        let id = self.spawned()?.id;
        if let Some(recorder) = &mut self.recorder {
            recorder.record.init = Some(id);
            recorder.write()?;
        }
        Ok(())
    }

    fn record_created(&mut self) -> Result<()> {
        let Some(recorder) = &mut self.recorder else { return Ok(()) };
        recorder.record.phase = Phase::Made;
        recorder.write()
    }

    fn fill(&mut self, slot: Slot, copy: Result<OwnedFd>) -> Result<()> {
        self.slots[slot] = Some(copy?);
        Ok(())
    }

    fn make_nodes(&mut self, wanted: &[(Device, Slot)], label: Option<&str>) -> Result<()> {
        for ((_, slot), node) in wanted.iter().zip(nodes::make(wanted, label)?) {
            self.slots[*slot] = Some(node);
        }
        Ok(())
    }

    /// A copy of the child's goes back to it by a word alone: its descriptor stands for the very same mount.
    fn idmap_source(
        &mut self,
        slot: Slot,
        of_child: bool,
        recursive: bool,
        uids: &[IdMapping],
        gids: &[IdMapping],
    ) -> Result<()> {
        let handed = if of_child { Some(self.await_source()?) } else { None };
        let userns = if uids.is_empty() && gids.is_empty() {
            self.proc.open_namespace(self.pid()?, "user")?
        } else {
            idmap::user_namespace(self.proc, uids, gids)?
        };
        let source = handed.as_ref().or(self.slots[slot].as_ref());
        let source = source.ok_or_else(|| sys::Error::new(format!("slot {slot} is empty"), Errno::BADF))?;
        let change = AttrChange { idmap: Some(userns.as_fd()), ..AttrChange::default() };
        let depth = if recursive { Depth::Tree } else { Depth::One };
        sys::mount::set_attr(source.as_fd(), change, depth).map_err(|error| match error.errno() {
            Errno::INVAL => {
                let call = format!("what is mounted there, or below, cannot have mapped ids: {}", error.call());
                sys::Error::new(call, Errno::INVAL)
            }
            _ => error,
        })?;
        if of_child { self.spawned()?.channel.go(&[]) } else { Ok(()) }
    }

    /// The layers may follow the ids of the container's user namespace, which exists by then.
    fn mount_overlay(&mut self, root: &OverlayRoot) -> Result<()> {
        let userns = match root.owner {
            Some(_) => Some(self.proc.open_namespace(self.pid()?, "user")?),
            None => None,
        };
        let maker = overlay::start(root, userns.as_ref().map(AsFd::as_fd))?;
        self.layers = Some((maker, root.slot));
        match root.copy {
            Some(copy) => self.take_layers(Some(copy)),
            None => Ok(()),
        }
    }

    /// Waits for the mount of the layers, and a copy of it where one is made.
    fn take_layers(&mut self, copy: Option<Slot>) -> Result<()> {
        let Some((maker, slot)) = self.layers.take() else { return Ok(()) };
        for (slot, mount) in [Some(slot), copy].into_iter().flatten().zip(overlay::take(maker, copy.is_some())?) {
            self.slots[slot] = Some(mount);
        }
        Ok(())
    }

    /// Brings network devices of the host back, while the namespace that they are in still lives.
    pub(crate) fn return_devices(&mut self) -> Result<()> {
        if self.moved.is_empty() {
            return Ok(());
        }
        let netns = self.proc.open_namespace(self.pid()?, "net")?;
        let undo =
            |device: network::DeviceMove| network::undo_device_move(&device, netns.as_fd()).err().map(Error::from);
        Error::collect(self.moved.drain(..).rev().filter_map(undo).collect())
    }

    /// Ends the child at once and reaps it.
    pub(crate) fn abandon(&mut self) -> Result<()> {
        if let Some((maker, _slot)) = self.layers.take() {
            maker.end()?;
        }
        let Some(spawned) = self.spawned.take() else { return Ok(()) };
        match sys::process::pidfd_send_signal(spawned.pidfd.as_fd(), sys::signal::SIGKILL) {
            Err(error) if !error.is(Errno::SRCH) => return Err(error.into()),
            _ => {}
        }
        match sys::process::wait(spawned.id.pid) {
            Err(error) if !error.is(Errno::CHILD) => Err(error.into()),
            _ => Ok(()),
        }
    }
}

impl Recorder<'_> {
    pub(crate) fn write(&self) -> Result<()> {
        self.folder.write(&self.record, self.config)
    }
}

fn out_of_turn() -> Error {
    sys::Error::new("message at the gate out of turn", Errno::PROTO).into()
}

/// Whether two descriptors stand for one file.
fn same_file(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> Result<bool> {
    let (a, b) = (sys::fs::stat(a)?, sys::fs::stat(b)?);
    Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

/// The number of open files is only ever raised here: the child has many open until it is done, and lowers it then.
fn set_rlimit(pid: i32, limit: &runtime_spec::model::Rlimit) -> Result<()> {
    let (mut soft, mut hard) = (limit.soft, limit.hard);
    if limit.resource == sys::process::RLIMIT_NOFILE {
        let own = sys::process::own_limit(limit.resource)?;
        (soft, hard) = (soft.max(own.0), hard.max(own.1));
        if (soft, hard) == own {
            return Ok(());
        }
    }
    Ok(sys::process::prlimit(pid, limit.resource, soft, hard)?)
}

fn set_scheduler(pid: i32, scheduler: &runtime_spec::model::Scheduler) -> Result<()> {
    let mut attr = sys::sched::SchedAttr::default();
    attr.policy = scheduler.policy;
    attr.flags = scheduler.flags;
    attr.nice = scheduler.nice;
    attr.priority = scheduler.priority;
    attr.runtime = scheduler.runtime_ns;
    attr.deadline = scheduler.deadline_ns;
    attr.period = scheduler.period_ns;
    Ok(sys::sched::set_scheduler(pid, attr)?)
}

/// By rename: whoever waits for the file never reads half of it.
fn write_pid_file(path: &str, pid: i32) -> Result<()> {
    let (folder, name) = path
        .rsplit_once('/')
        .map_or((".", path), |(folder, name)| (if folder.is_empty() { "/" } else { folder }, name));
    let dir = sys::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY)?;
    let temporary = format!(".{name}.{}", sys::process::own_pid());
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
    let file = sys::fs::open_at(dir.as_fd(), &temporary, flags, 0o644)?;
    let written = sys::fs::write_all(file.as_fd(), pid.to_string().as_bytes())
        .and_then(|()| sys::fs::rename_at(dir.as_fd(), &temporary, dir.as_fd(), name));
    if let Err(error) = written {
        sys::fs::unlink_at(dir.as_fd(), &temporary)?;
        return Err(error.into());
    }
    Ok(())
}

/// The tag of a step, as the printed plan has it.
pub(crate) fn step_name(step: &HostStep) -> &'static str {
    match step {
        HostStep::MakeCgroups { .. } => "make_cgroups",
        HostStep::WriteEarlyLimits { .. } => "write_early_limits",
        HostStep::MakeGuestCgroups => "make_guest_cgroups",
        HostStep::OpenRootfs { .. } => "open_rootfs",
        HostStep::OpenContainerRoot { .. } => "open_container_root",
        HostStep::OpenNamespace { .. } => "open_namespace",
        HostStep::OpenSource(_) => "open_source",
        HostStep::OpenDevice { .. } => "open_device",
        HostStep::MakeNodes { .. } => "make_nodes",
        HostStep::MakeNotifyFolder { .. } => "make_notify_folder",
        HostStep::OpenConsole { .. } => "open_console",
        HostStep::Spawn { .. } => "spawn",
        HostStep::StartUnit { .. } => "start_unit",
        HostStep::AdoptCgroups => "adopt_cgroups",
        HostStep::AttachToUnit { .. } => "attach_to_unit",
        HostStep::SetUnitProperties { .. } => "set_unit_properties",
        HostStep::MapIds(_) => "map_ids",
        HostStep::SetRlimits { .. } => "set_rlimits",
        HostStep::SetOomScoreAdj { .. } => "set_oom_score_adj",
        HostStep::IdmapSource { .. } => "idmap_source",
        HostStep::MountOverlay(_) => "mount_overlay",
        HostStep::MoveNetDevice { .. } => "move_net_device",
        HostStep::MakeLink { .. } => "make_link",
        HostStep::BringLoopbackUp => "bring_loopback_up",
        HostStep::OpenRpc { .. } => "open_rpc",
        HostStep::RestoreImages(_) => "restore_images",
        HostStep::JoinResctrl { .. } => "join_resctrl",
        HostStep::AwaitGate { .. } => "await_gate",
        HostStep::OpenGate { .. } => "open_gate",
        HostStep::WriteLimits { .. } => "write_limits",
        HostStep::AttachDeviceProgram { .. } => "attach_device_program",
        HostStep::DelegateCgroup { .. } => "delegate_cgroup",
        HostStep::SetScheduler { .. } => "set_scheduler",
        HostStep::SetIoPriority { .. } => "set_io_priority",
        HostStep::SetAffinity { .. } => "set_affinity",
        HostStep::ResetAffinity => "reset_affinity",
        HostStep::RunHooks { .. } => "run_hooks",
        HostStep::SendSeccompNotify { .. } => "send_seccomp_notify",
        HostStep::SendPidfd { .. } => "send_pidfd",
        HostStep::WritePidFile { .. } => "write_pid_file",
        HostStep::RecordCreated => "record_created",
    }
}

/// How the mount of layers is called.
const LAYERS: &str = "mount the layers of the root file system";

/// What a step does, in words for an error; `None` where the error speaks for itself.
fn describe(step: &HostStep) -> Option<String> {
    Some(match step {
        HostStep::AwaitGate { .. }
        | HostStep::OpenGate { .. }
        | HostStep::RunHooks { .. }
        | HostStep::RestoreImages(_) => return None,
        HostStep::MakeCgroups { .. } => "unable to apply cgroup configuration".to_owned(),
        HostStep::WriteLimits { .. } | HostStep::WriteEarlyLimits { .. } => "apply limits".to_owned(),
        HostStep::StartUnit { unit, .. } => format!("start unit {unit}"),
        HostStep::SetUnitProperties { unit, .. } => format!("set properties of unit {unit}"),
        HostStep::AttachToUnit { unit } => format!("enter unit {unit}"),
        HostStep::OpenSource(source) => format!("open mount source {:?}", source.path),
        HostStep::OpenDevice { device, .. } => format!("open device {:?} of the host", device.path),
        HostStep::OpenRootfs { .. } => "open the root file system".to_owned(),
        HostStep::MountOverlay(_) => LAYERS.to_owned(),
        HostStep::OpenNamespace { kind, .. } => format!("open {} namespace", kind.oci_name()),
        HostStep::MakeLink { link, .. } => format!("make the {} {:?}", link.link.name(), link.name),
        other => step_name(other).replace('_', " "),
    })
}
