//! The child side: one loop that performs [`ChildStep`]s, in a process that is a copy of the runtime.
//!
//! It is single-threaded, shares no memory with the host side and leaves by `_exit` alone. What it needs of the host was
//! opened before the clone or comes through a gate. Paths inside the container are resolved from the descriptor of its
//! root, paths under `/proc` from the host's procfs.

mod criu;
pub(crate) mod devices;
pub(crate) mod identity;
mod landlock;
mod launcher;
mod mounts;
mod program;
pub(crate) mod resolve;
mod rootfs;
mod terminal;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use runtime_spec::model::{Hook, NamespaceKind};
use sys::ProcFs;

use crate::error::{Error, Result};
use crate::gate::{Channel, Gate, encode_failure};
use crate::plan::Plan;
use crate::step::{ChildStep, HookPoint, Lsm, Slot, Source};
use crate::{clock, hooks, source};

pub(crate) use launcher::launch;

/// What the child side has to work with.
#[derive(Debug)]
pub(crate) struct Child<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) channel: Channel,
    pub(crate) slots: Vec<Option<OwnedFd>>,
    pub(crate) proc: &'a ProcFs,
    /// `tasks` files of the groups to join, in the order of joining.
    pub(crate) attach: cgroup::AttachFds,
    /// Where the start comes from when it is not the channel, and where the outcome goes then.
    pub(crate) start: Option<StartPipes>,
    /// The state document for hooks; the pid is filled in.
    pub(crate) hook_state: hooks::State,
    /// Whether each step is told to the host.
    pub(crate) trace: bool,
    pub(crate) progress: Progress,
}

/// The two FIFOs of a container that waits for `start`.
#[derive(Debug)]
pub(crate) struct StartPipes {
    /// A byte here starts it.
    pub(crate) start: OwnedFd,
    /// A failure of the exec is written here; success closes it.
    pub(crate) result: OwnedFd,
}

/// What earlier steps found out for later ones.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Root of the container.
    root: Option<OwnedFd>,
    /// Where the last device was made, by path.
    device_folder: Option<(String, OwnedFd)>,
    /// Working folder that only the user may enter.
    pending_folder: Option<String>,
    /// Folders that go up at the next gate.
    folders: Vec<OwnedFd>,
    /// The environment of the program.
    environment: Vec<String>,
    /// The program, ready to be executed.
    program: Option<sys::process::Prepared>,
    /// Notification descriptor of the filter. It stays until the exec: closing it would be one more call under the filter.
    notify: Option<OwnedFd>,
    /// Landlock rule set.
    landlock: Option<OwnedFd>,
    /// Whether the start has come.
    started: bool,
}

impl Child<'_> {
    /// Performs all steps. Ends in the program, or in `_exit` after telling the host why.
    pub(crate) fn run(mut self) -> ! {
        for planned in &self.plan.child {
            let told = self.trace && !past_filter(&planned.step);
            let begin = told.then(clock::now);
            let outcome = self.perform(&planned.step);
            if let Err(error) = outcome {
                let error = match (describe(&planned.step), &planned.from) {
                    (Some(what), Some(from)) => error.in_step(format!("{what} (config.json {from})")),
                    (Some(what), None) => error.in_step(what),
                    (None, _) => error,
                };
                self.fail(&error);
            }
            if let Some(begin) = begin
                && let Err(error) = self.channel.trace(step_name(&planned.step), begin, clock::now())
            {
                self.fail(&error);
            }
        }
        sys::process::exit_now(0)
    }

    /// Tells the host (or whoever started it) and ends.
    fn fail(&self, error: &Error) -> ! {
        let to = match &self.start {
            Some(pipes) if self.progress.started => pipes.result.as_fd(),
            _ => self.channel.as_fd(),
        };
        let told = sys::fs::write_all(to, &encode_failure(error)).is_ok();
        // Where nobody listens any more the exit code is all that is left to say.
        sys::process::exit_now(if told { 1 } else { 2 })
    }

    fn perform(&mut self, step: &ChildStep) -> Result<()> {
        match step {
            ChildStep::HideFromTracers => Ok(sys::process::set_dumpable(false)?),
            ChildStep::ShowToTracers => {
                sys::process::clear_environment();
                Ok(sys::process::set_dumpable(true)?)
            }
            ChildStep::NewSession => new_session(self.proc),
            ChildStep::OpenRootfs { path, slot } => {
                self.slots[*slot] = Some(source::open_rootfs(path, true)?);
                Ok(())
            }
            ChildStep::OpenSource(source) => self.open_source(source),
            ChildStep::OpenDevice { device, slot } => {
                self.slots[*slot] = Some(source::open_device(device)?);
                Ok(())
            }
            ChildStep::SetUmask { mask } => {
                sys::process::set_umask(*mask);
                Ok(())
            }
            ChildStep::JoinNamespaces { list } => self.join_namespaces(list),
            ChildStep::JoinContainer { kinds, slot, root } => self.join_container(kinds, *slot, *root),
            ChildStep::PassGate { gate, slots } => self.pass_gate(*gate, slots),
            ChildStep::JoinCgroups => self.join_cgroups(),
            ChildStep::UnshareCgroup => Ok(sys::namespace::unshare(NamespaceKind::Cgroup.clone_flag())?),
            ChildStep::BecomeNamespaceRoot { uid, gid } => identity::become_namespace_root(*uid, *gid, self.proc),
            ChildStep::JoinKeyring { name, existing, label } => self.join_keyring(name, *existing, label.as_deref()),
            ChildStep::LoopbackUp => Ok(network::loopback_up()?),
            ChildStep::SetRootPropagation { kind, recursive } => rootfs::set_propagation(*kind, *recursive),
            ChildStep::AttachRootfs { path, slot, propagation, private_parent } => {
                if *private_parent {
                    rootfs::make_parent_private(path)?;
                }
                self.attach_rootfs(path, *slot, *propagation)
            }
            ChildStep::MountFilesystem(mount) => self.mount_filesystem(mount),
            ChildStep::HandOverSource { slot } => self.channel.hand_over_source(self.slot(*slot)?),
            ChildStep::MountBind(mount) => self.mount_bind(mount),
            ChildStep::MountCgroups(mount) => self.mount_cgroups(mount),
            ChildStep::Remount { destination, set, clear, super_set, super_clear, data } => {
                self.remount(destination, (*set, *clear), (*super_set, *super_clear), data)
            }
            ChildStep::MakeMountPoint { destination } => self.make_mount_point(destination),
            ChildStep::DetachMounts { path } => self.detach_mounts(path),
            ChildStep::OpenFolders { images, work } => {
                self.progress.folders = crate::criu::Folders::open_inside(images, work.as_deref())?;
                Ok(())
            }
            ChildStep::BecomeCriu { program, slot, keep } => self.become_criu(program, *slot, keep),
            ChildStep::MakeDevice { device, bind } => self.make_device(device, *bind),
            ChildStep::MakeDeviceLinks => self.make_device_links(),
            ChildStep::RunHooks { point, hooks } => self.run_hooks(*point, hooks),
            ChildStep::ChangeRoot { how } => self.change_root(*how),
            ChildStep::SetHostname { name } => Ok(sys::namespace::set_hostname(name)?),
            ChildStep::SetDomainname { name } => Ok(sys::namespace::set_domainname(name)?),
            ChildStep::MakeTerminal { size, slot, multiplexer, console, ttys } => {
                self.make_terminal(*size, *slot, *multiplexer, *console, *ttys)
            }
            ChildStep::SetMountAttributes { destination, set } => self.set_attributes(destination, *set),
            ChildStep::ReopenNull => self.reopen_null(),
            ChildStep::WriteSysctls { values } => self.write_sysctls(values),
            ChildStep::MaskPaths { paths, label } => self.mask_paths(paths, label.as_deref()),
            ChildStep::ProtectPaths { paths } => self.protect_paths(paths),
            ChildStep::MakeWorkingFolder { path } => self.make_working_folder(path),
            ChildStep::SetPersonality { domain } => Ok(sys::sched::set_personality(*domain)?),
            ChildStep::SetMemoryPolicy { policy } => {
                Ok(sys::sched::set_memory_policy(policy.mode, policy.flags, &policy.nodes)?)
            }
            ChildStep::SetLsmLabel { lsm, label, stacked } => self.set_label(*lsm, label, *stacked),
            ChildStep::BecomeUser { user, capabilities, keep_for_seccomp } => {
                identity::become_user(user, capabilities, *keep_for_seccomp)?;
                self.enter_pending_folder()
            }
            ChildStep::FindProgram { name, path } => self.find_program(name, path.as_deref()),
            ChildStep::ChangeFolder { path } => self.change_folder(path),
            ChildStep::SetNoNewPrivs => Ok(sys::process::set_no_new_privs()?),
            ChildStep::LeaveGroups => identity::leave_groups(self.proc),
            ChildStep::CloseDescriptors { keep } => self.close_descriptors(*keep),
            ChildStep::LimitFiles { soft, hard } => {
                Ok(sys::process::prlimit(0, sys::process::RLIMIT_NOFILE, *soft, *hard)?)
            }
            ChildStep::MakeLandlockRuleset { rules } => self.make_landlock_ruleset(rules),
            ChildStep::RestrictByLandlock => self.restrict_by_landlock(),
            ChildStep::LoadSeccomp { flags, notify, .. } => self.load_seccomp(*flags, *notify),
            ChildStep::SetCapabilities { capabilities } => identity::set_capabilities(capabilities),
            ChildStep::AwaitStart => self.await_start(),
            ChildStep::Execute { args, .. } => self.execute(args),
        }
    }

    /// The descriptor in a slot.
    fn slot(&self, slot: Slot) -> Result<BorrowedFd<'_>> {
        self.slots
            .get(slot)
            .and_then(Option::as_ref)
            .map(AsFd::as_fd)
            .ok_or_else(|| sys::Error::new(format!("slot {slot} is empty"), sys::Errno::BADF).into())
    }

    /// Takes the descriptor out of a slot.
    fn take_slot(&mut self, slot: Slot) -> Result<OwnedFd> {
        self.slots
            .get_mut(slot)
            .and_then(Option::take)
            .ok_or_else(|| sys::Error::new(format!("slot {slot} is empty"), sys::Errno::BADF).into())
    }

    fn open_source(&mut self, source: &Source) -> Result<()> {
        let copy = source::copy(source, self.progress.root.as_ref().map(AsFd::as_fd))?;
        self.slots[source.slot] = Some(copy);
        Ok(())
    }

    fn join_namespaces(&mut self, list: &[(NamespaceKind, Slot)]) -> Result<()> {
        for (kind, slot) in list {
            sys::namespace::join(self.slot(*slot)?, kind.clone_flag())
                .map_err(|e| Error::from(e).in_step(format!("join {} namespace", kind.oci_name())))?;
        }
        Ok(())
    }

    /// All at once: the kernel checks the rights for each against the user namespace that is joined with them. A mount
    /// namespace brings its root along; without one the root would stay the host's.
    fn join_container(&mut self, kinds: &[NamespaceKind], slot: Slot, root: Option<Slot>) -> Result<()> {
        let flags = kinds.iter().fold(0, |flags, kind| flags | kind.clone_flag());
        if flags != 0 {
            sys::namespace::join(self.slot(slot)?, flags)?;
        }
        if let Some(root) = root {
            sys::process::chdir_fd(self.slot(root)?)?;
            sys::process::chroot_here()?;
        }
        self.progress.root = Some(sys::fs::open_dir("/")?);
        Ok(())
    }

    fn pass_gate(&mut self, gate: Gate, slots: &[Slot]) -> Result<()> {
        if gate == Gate::Ready {
            // The word to go on is the start, which comes later and maybe from another process.
            let notify = self.progress.notify.as_ref().map(AsFd::as_fd);
            return self.channel.tell_ready(notify.as_slice());
        }
        let folders: Vec<_> = self.progress.folders.iter().map(AsFd::as_fd).collect();
        let mut received = self.channel.reach(gate, &folders)?;
        if gate == Gate::Namespaces && self.plan.unit.is_some() && self.attach.tasks.is_empty() {
            // Groups of a unit exist only now; their descriptors come last, in the order of joining.
            let names = cgroup::attach_order(&self.plan.groups);
            let tasks = received.split_off(slots.len().min(received.len()));
            let attach = |(controllers, fd)| cgroup::AttachFd { controllers, fd };
            self.attach.tasks = names.into_iter().zip(tasks).map(attach).collect();
        }
        if received.len() != slots.len() {
            let text = format!("gate: {} descriptors came, {} were planned", received.len(), slots.len());
            return Err(sys::Error::new(text, sys::Errno::PROTO).into());
        }
        for (slot, fd) in slots.iter().zip(received) {
            self.slots[*slot] = Some(fd);
        }
        Ok(())
    }

    /// One `0` to each file: the kernel then moves the caller alone and takes no lock over all threads. The files are closed
    /// with everything else, by [`ChildStep::CloseDescriptors`].
    fn join_cgroups(&self) -> Result<()> {
        Ok(self.attach.enter()?)
    }

    /// Where the kernel has no keyrings there is none to be kept apart from. Any other failure would leave the container
    /// in the caller's, with the caller's keys.
    fn join_keyring(&self, name: &str, existing: bool, label: Option<&str>) -> Result<()> {
        if let Some(label) = label {
            self.label_keys(label)?;
        }
        let joined = sys::keyring::join_session(name);
        if label.is_some() {
            // A line without a label takes it back.
            self.label_keys("\n")?;
        }
        let serial = match joined {
            Ok(serial) => serial,
            Err(error) if error.is(sys::Errno::NOSYS) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if existing {
            return Ok(());
        }
        // Search for the user, so that exec finds the keyring by name.
        const USER_SEARCH: u32 = 0x0008_0000;
        let permissions = sys::keyring::permissions(serial)?;
        Ok(sys::keyring::set_permissions(serial, permissions | USER_SEARCH)?)
    }

    /// A `startContainer` hook that names no environment gets the process' own, as it always had: it is a program of the
    /// container that runs in the container.
    fn run_hooks(&self, point: HookPoint, list: &[Hook]) -> Result<()> {
        let inherited: &[String] = if point == HookPoint::StartContainer { &self.progress.environment } else { &[] };
        let mut state = self.hook_state.clone();
        state.pid = match point {
            // It runs inside, where the process knows itself by this number.
            HookPoint::StartContainer => Some(sys::process::own_pid()),
            _ => self.proc.own_process()?.parse().ok(),
        };
        for (index, hook) in list.iter().enumerate() {
            let env = if hook.env.is_empty() { inherited.to_vec() } else { hook.env.clone() };
            hooks::run(point, index, &Hook { env, ..hook.clone() }, &state, None, None)?;
        }
        Ok(())
    }

    /// Each is of a namespace that is new, or was seen not to be the host's when it was opened.
    fn write_sysctls(&self, values: &[(String, String)]) -> Result<()> {
        values.iter().try_for_each(|(path, value)| Ok(self.proc.write(&format!("sys/{path}"), value)?))
    }

    /// Writes through the host's procfs, so that no mount of the container can redirect it.
    fn set_label(&self, lsm: Lsm, label: &str, stacked: bool) -> Result<()> {
        let thread = self.proc.own_thread()?;
        let (file, value) = match lsm {
            Lsm::Apparmor if stacked => ("attr/apparmor/exec", format!("stack {label}")),
            Lsm::Apparmor => ("attr/apparmor/exec", format!("exec {label}")),
            Lsm::Selinux => ("attr/exec", label.to_owned()),
        };
        let outcome = match self.proc.write(&format!("{thread}/{file}"), &value) {
            // KERNEL(5.8): before, the one attr/exec served whichever module there was.
            Err(error) if lsm == Lsm::Apparmor && error.is(sys::Errno::NOENT) => {
                self.proc.write(&format!("{thread}/attr/exec"), &value)
            }
            other => other,
        };
        outcome.map_err(|error| {
            let text = format!("write {value:?} to `/proc/thread-self/{file}`");
            sys::Error::new(text, error.errno()).into()
        })
    }

    /// SELinux: what keys of this thread will be labelled.
    fn label_keys(&self, label: &str) -> Result<()> {
        let thread = self.proc.own_thread()?;
        Ok(self.proc.write(&format!("{thread}/attr/keycreate"), label)?)
    }

    /// Closes everything but what the program is given and what the start needs; the latter closes at the exec.
    fn close_descriptors(&mut self, keep: u32) -> Result<()> {
        let end = 3_u32.saturating_add(keep);
        for number in 3..end {
            // One of our own in the place of one that the caller forgot would hand the host to the container.
            if !sys::process::is_inherited(i32::try_from(number).unwrap_or(i32::MAX)) {
                let text = format!("descriptor {number} was not passed by the caller");
                return Err(sys::Error::new(text, sys::Errno::BADF).into());
            }
        }
        let mut needed: Vec<u32> = (0..end).collect();
        let pipes = self.start.iter().flat_map(|pipes| [pipes.start.as_raw_fd(), pipes.result.as_raw_fd()]);
        needed.extend(pipes.chain([self.channel.as_fd().as_raw_fd()]).filter_map(|fd| u32::try_from(fd).ok()));
        Ok(sys::process::close_all_but(needed)?)
    }

    fn load_seccomp(&mut self, flags: u64, notify: bool) -> Result<()> {
        let flags = if notify { flags | sys::seccomp::NEW_LISTENER } else { flags };
        self.progress.notify = sys::seccomp::load(&self.plan.seccomp, flags)?;
        Ok(())
    }

    /// Only `read` is needed here, since a filter may be in force.
    fn await_start(&mut self) -> Result<()> {
        let fd = self.start.as_ref().map_or_else(|| self.channel.as_fd(), |pipes| pipes.start.as_fd());
        let mut byte = [0u8; 1];
        match sys::fs::read_some(fd, &mut byte)? {
            0 => sys::process::exit_now(1),
            _ => {
                self.progress.started = true;
                Ok(())
            }
        }
    }
}

/// A session of its own, with signals as a fresh program expects them and file modes as asked.
fn new_session(proc: &ProcFs) -> Result<()> {
    // Whatever the caller ignores, and SIGPIPE, which the runtime ignores itself.
    sys::signal::reset(proc.own_ignored_signals()?);
    sys::signal::end_on_termination();
    sys::process::set_umask(0);
    match sys::process::new_session() {
        // A process that was born as a session leader of nothing cannot be here; a group leader can (pid 1 of a joined
        // namespace is none).
        Err(error) if error.is(sys::Errno::PERM) => Ok(()),
        other => Ok(other?),
    }
}

/// After the filter nothing is told but the gate, and after the gate nobody listens any more.
fn past_filter(step: &ChildStep) -> bool {
    matches!(
        step,
        ChildStep::LoadSeccomp { .. }
            | ChildStep::SetCapabilities { .. }
            | ChildStep::AwaitStart
            | ChildStep::RunHooks { point: HookPoint::StartContainer, .. }
            | ChildStep::Execute { .. }
            | ChildStep::PassGate { gate: Gate::Ready, .. }
    )
}

/// The tag of a step, as the printed plan has it.
pub(crate) fn step_name(step: &ChildStep) -> &'static str {
    match step {
        ChildStep::HideFromTracers => "hide_from_tracers",
        ChildStep::ShowToTracers => "show_to_tracers",
        ChildStep::NewSession => "new_session",
        ChildStep::OpenRootfs { .. } => "open_rootfs",
        ChildStep::OpenSource(_) => "open_source",
        ChildStep::OpenDevice { .. } => "open_device",
        ChildStep::SetUmask { .. } => "set_umask",
        ChildStep::JoinNamespaces { .. } => "join_namespaces",
        ChildStep::JoinContainer { .. } => "join_container",
        ChildStep::PassGate { .. } => "pass_gate",
        ChildStep::JoinCgroups => "join_cgroups",
        ChildStep::UnshareCgroup => "unshare_cgroup",
        ChildStep::BecomeNamespaceRoot { .. } => "become_namespace_root",
        ChildStep::JoinKeyring { .. } => "join_keyring",
        ChildStep::LoopbackUp => "loopback_up",
        ChildStep::SetRootPropagation { .. } => "set_root_propagation",
        ChildStep::AttachRootfs { .. } => "attach_rootfs",
        ChildStep::MountFilesystem(_) => "mount_filesystem",
        ChildStep::HandOverSource { .. } => "hand_over_source",
        ChildStep::MountBind(_) => "mount_bind",
        ChildStep::MountCgroups(_) => "mount_cgroups",
        ChildStep::Remount { .. } => "remount",
        ChildStep::MakeMountPoint { .. } => "make_mount_point",
        ChildStep::DetachMounts { .. } => "detach_mounts",
        ChildStep::OpenFolders { .. } => "open_folders",
        ChildStep::BecomeCriu { .. } => "become_criu",
        ChildStep::MakeDevice { .. } => "make_device",
        ChildStep::MakeDeviceLinks => "make_device_links",
        ChildStep::RunHooks { .. } => "run_hooks",
        ChildStep::ChangeRoot { .. } => "change_root",
        ChildStep::SetHostname { .. } => "set_hostname",
        ChildStep::SetDomainname { .. } => "set_domainname",
        ChildStep::MakeTerminal { .. } => "make_terminal",
        ChildStep::SetMountAttributes { .. } => "set_mount_attributes",
        ChildStep::ReopenNull => "reopen_null",
        ChildStep::WriteSysctls { .. } => "write_sysctls",
        ChildStep::MaskPaths { .. } => "mask_paths",
        ChildStep::ProtectPaths { .. } => "protect_paths",
        ChildStep::MakeWorkingFolder { .. } => "make_working_folder",
        ChildStep::SetPersonality { .. } => "set_personality",
        ChildStep::SetMemoryPolicy { .. } => "set_memory_policy",
        ChildStep::SetLsmLabel { .. } => "set_lsm_label",
        ChildStep::BecomeUser { .. } => "become_user",
        ChildStep::FindProgram { .. } => "find_program",
        ChildStep::ChangeFolder { .. } => "change_folder",
        ChildStep::SetNoNewPrivs => "set_no_new_privs",
        ChildStep::LeaveGroups => "leave_groups",
        ChildStep::CloseDescriptors { .. } => "close_descriptors",
        ChildStep::LimitFiles { .. } => "limit_files",
        ChildStep::MakeLandlockRuleset { .. } => "make_landlock_ruleset",
        ChildStep::RestrictByLandlock => "restrict_by_landlock",
        ChildStep::LoadSeccomp { .. } => "load_seccomp",
        ChildStep::SetCapabilities { .. } => "set_capabilities",
        ChildStep::AwaitStart => "await_start",
        ChildStep::Execute { .. } => "execute",
    }
}

/// What a step does, in words for an error; `None` where the error speaks for itself.
fn describe(step: &ChildStep) -> Option<String> {
    Some(match step {
        ChildStep::FindProgram { .. } | ChildStep::Execute { .. } | ChildStep::RunHooks { .. } => return None,
        ChildStep::OpenRootfs { .. } => "open the root file system".to_owned(),
        ChildStep::OpenDevice { device, .. } => format!("open device {:?} of the host", device.path),
        ChildStep::MountFilesystem(m) => format!("mount {} ({})", m.destination, m.fstype),
        ChildStep::OpenSource(source) => format!("open mount source {:?}", source.path),
        ChildStep::MountBind(m) => format!("bind mount {}", m.destination),
        ChildStep::MountCgroups(m) => format!("mount {} (cgroup)", m.destination),
        ChildStep::MakeMountPoint { destination } => format!("make the mount point {destination}"),
        ChildStep::Remount { destination, .. } => format!("remount {destination}"),
        ChildStep::MakeDevice { device, .. } => format!("make device {}", device.path),
        ChildStep::SetMountAttributes { destination, .. } => format!("make {destination} read-only"),
        ChildStep::ChangeFolder { path } => format!("change to working folder {path:?}"),
        ChildStep::SetLsmLabel { lsm: Lsm::Apparmor, .. } => "unable to apply apparmor profile".to_owned(),
        ChildStep::SetLsmLabel { lsm: Lsm::Selinux, .. } => "can't set process label".to_owned(),
        other => step_name(other).replace('_', " "),
    })
}
