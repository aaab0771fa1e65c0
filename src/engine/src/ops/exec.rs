//! `exec`: one more process in a container.

use runtime_spec::model::{CapSet, Namespace, NamespaceKind, Process};
use runtime_spec::state::Status;
use sys::process::Exit;

use super::foreground::{Session, follow};
use super::{Context, hook_state, spec_of};
use crate::error::{Error, Result};
use crate::facts;
use crate::host::Host;
use crate::options::ExecOptions;
use crate::plan::{Existing, plan_exec};
use crate::state::open_process;

/// What to run.
#[derive(Debug, Clone)]
pub enum Program {
    /// A process of its own.
    Process(Box<Process>),
    /// The container's process with changes.
    Like(Changes),
}

/// What differs from the container's own process.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Argument vector.
    pub args: Vec<String>,
    /// More environment; a name that is there already is replaced.
    pub env: Vec<String>,
    /// Working folder.
    pub cwd: Option<String>,
    /// User and, when given, group (else 0).
    pub user: Option<(u32, Option<u32>)>,
    /// More supplementary groups.
    pub additional_gids: Vec<u32>,
    /// Capabilities to add, as a mask.
    pub capabilities: u64,
    /// `Some` sets or clears no_new_privs.
    pub no_new_privileges: Option<bool>,
    /// Whether it gets a terminal.
    pub terminal: bool,
    /// SELinux label.
    pub process_label: Option<String>,
    /// AppArmor profile.
    pub apparmor: Option<String>,
}

/// Runs a process in a container. Returns how it ended, or `None` when detached.
///
/// # Errors
/// [`Error::ExecStopped`], [`Error::ExecPaused`], the exec's own failure, or whatever a step says.
pub fn exec(context: &Context<'_>, id: &str, program: Program, options: &ExecOptions) -> Result<Option<Exit>> {
    let mark = context.mark();
    let (_, folder) = context.find(id)?;
    let ((record, config), status) = folder.judge(&context.proc)?;
    match status {
        Status::Stopped | Status::Creating => return Err(Error::ExecStopped),
        Status::Paused if !options.ignore_paused => return Err(Error::ExecPaused),
        _ => {}
    }
    let init = record.init.ok_or(Error::ExecStopped)?;
    let mut spec = spec_of(id, &config)?;
    if record.restored_clocks && spec.namespace(NamespaceKind::Time).is_none() {
        spec.namespaces.push(Namespace { kind: NamespaceKind::Time, path: None });
    }
    let process = match program {
        Program::Process(process) => *process,
        Program::Like(changes) => changed(spec.process.clone().ok_or(Error::NoProcess)?, changes),
    };
    check_terminal(&process, options)?;
    context.spent("read_record", mark);
    let mark = context.mark();
    let facts = facts::probe(&context.proc)?;
    context.spent("probe_host", mark);
    let mark = context.mark();
    let existing = Existing {
        groups: record.groups.clone(),
        unit: record.unit().cloned(),
        callers_keyring: record.callers_keyring,
    };
    let plan = plan_exec(&spec, &process, &facts, id, existing, options)?;
    context.spent("plan", mark);

    let mark = context.mark();
    let pidfd = open_process(&context.proc, init)?.ok_or(Error::ExecStopped)?;
    let mut state = hook_state(&record);
    state.document.status = Status::Running;
    state.document.pid = u32::try_from(init.pid).ok();
    let mut host = Host::new(&plan, context, state);
    host.slots[0] = Some(pidfd);
    if !record.groups.is_empty() {
        let group = cgroup::Group::open_all(&record.groups)?;
        host.beside = options.cgroups.is_empty().then_some(init.pid);
        let guest = match spec.guest_is_below() && record.unit().is_none() && options.cgroups.is_empty() {
            true => group.guest(),
            false => options.cgroups.clone(),
        };
        host.attach = Some(group.open_attach(&guest)?);
        host.group = Some(group);
    }
    context.spent("open_container", mark);
    match perform(context, &mut host, options) {
        Err(error) => {
            if let Err(also) = host.abandon() {
                context.warn(&also.chain().join(": "));
            }
            Err(error)
        }
        ok => ok,
    }
}

fn perform(context: &Context<'_>, host: &mut Host<'_>, options: &ExecOptions) -> Result<Option<Exit>> {
    host.run()?;
    let session = if options.detach { None } else { Some(Session::begin(host.console.take())?) };
    let mark = context.mark();
    super::run::release(host)?;
    context.spent("start_program", mark);
    let Some(session) = session else { return Ok(None) };
    let spawned = host.spawned()?;
    let mark = context.mark();
    let exit = follow(context, session, spawned.id.pid, &spawned.pidfd, None)?;
    context.spent("program_runs", mark);
    host.spawned = None;
    Ok(Some(exit))
}

fn check_terminal(process: &Process, options: &ExecOptions) -> Result<()> {
    match (process.terminal, options.detach, &options.console_socket) {
        (true, true, None) => {
            Err(Error::Usage("cannot allocate tty if runc will detach without setting console socket".to_owned()))
        }
        (false, _, Some(_)) | (_, false, Some(_)) => {
            Err(Error::Usage("cannot use console socket if runc will not detach or allocate tty".to_owned()))
        }
        _ => Ok(()),
    }
}

fn changed(mut process: Process, changes: Changes) -> Process {
    process.args = changes.args;
    process.terminal = changes.terminal;
    process.console_size = None;
    for entry in changes.env {
        let name = entry.split('=').next().unwrap_or_default().to_owned();
        process.env.retain(|old| old.split('=').next() != Some(name.as_str()));
        process.env.push(entry);
    }
    if let Some(cwd) = changes.cwd {
        process.cwd = cwd;
    }
    if let Some((uid, gid)) = changes.user {
        process.user.uid = uid;
        process.user.gid = gid.unwrap_or(process.user.gid);
    }
    process.user.additional_gids.extend(changes.additional_gids);
    if changes.capabilities != 0 {
        let add = |set: CapSet| CapSet(set.0 | changes.capabilities);
        let caps = &mut process.capabilities;
        caps.bounding = add(caps.bounding);
        caps.effective = add(caps.effective);
        caps.permitted = add(caps.permitted);
        // An inheritable capability would pass into any program that a file grants it to; ambient ones need it only
        // where the container has ambient capabilities anyway.
        if caps.ambient.0 != 0 {
            caps.inheritable = add(caps.inheritable);
            caps.ambient = add(caps.ambient);
        }
    }
    if let Some(value) = changes.no_new_privileges {
        process.no_new_privileges = value;
    }
    if changes.process_label.is_some() {
        process.selinux_label = changes.process_label;
    }
    if changes.apparmor.is_some() {
        process.apparmor_profile = changes.apparmor;
    }
    process
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_is_replaced_by_name() {
        let process = Process { env: vec!["A=1".to_owned(), "AB=2".to_owned()], ..Process::default() };
        let changes = Changes { env: vec!["A=3".to_owned(), "C=".to_owned()], ..Changes::default() };
        assert_eq!(changed(process, changes).env, ["AB=2", "A=3", "C="]);
    }

    #[test]
    fn added_capabilities_are_not_inheritable() {
        let changes = Changes { capabilities: 1 << 12, ..Changes::default() };
        let caps = changed(Process::default(), changes).capabilities;
        assert_eq!((caps.effective.0, caps.inheritable.0, caps.ambient.0), (1 << 12, 0, 0));
    }
}
