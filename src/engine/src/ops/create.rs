//! `create`: a container up to the point where its program would begin.

use std::collections::BTreeMap;

use runtime_spec::model::NamespaceKind;

use super::{Context, hook_state};
use crate::bundle::Bundle;
use crate::error::{Error, Result};
use crate::facts::HostFacts;
use crate::host::{Host, Recorder};
use crate::options::CreateOptions;
use crate::plan::{Plan, cgroups, plan_create};
use crate::state::{Folder, Phase, ProcessId, Record, SCHEMA, Store, read_streams};
use crate::undo::{self, Undo};
use crate::{clock, facts, hooks};

/// Creates a container and leaves it waiting for `start`.
///
/// # Errors
/// Whatever a step says; nothing of the container is left then, or the warning that goes before names what is.
pub fn create(context: &Context<'_>, bundle: &Bundle, options: &CreateOptions) -> Result<()> {
    if terminal(bundle) && options.console_socket.is_none() {
        return Err(Error::Usage(
            "cannot allocate tty if runc will detach without setting console socket (the terminal has nowhere to go: give --console-socket)".to_owned(),
        ));
    }
    with_created(context, bundle, options, |_| Ok(())).map(drop)
}

fn terminal(bundle: &Bundle) -> bool {
    bundle.spec.process.as_ref().is_some_and(|process| process.terminal)
}

/// What would be done; needs no rights.
///
/// # Errors
/// As [`plan_create`].
pub fn plan(context: &Context<'_>, bundle: &Bundle, options: &CreateOptions) -> Result<Plan> {
    let mark = context.mark();
    let facts = probe(context, bundle, options)?;
    context.spent("probe_host", mark);
    let mark = context.mark();
    let plan = plan_create(&bundle.spec, &facts, options);
    context.spent("plan", mark);
    plan
}

/// What the plan of a new container decides from.
pub(super) fn probe(context: &Context<'_>, bundle: &Bundle, options: &CreateOptions) -> Result<HostFacts> {
    let mut facts = facts::probe(&context.proc)?;
    if let Some(systemd) = &options.systemd {
        facts.systemd = Some(facts::probe_systemd(systemd, &context.proc)?);
    } else if !options.no_cgroups && cgroups::is_rootless(&facts, options) {
        let groups = cgroup::path::plan(&facts.cgroups, bundle.spec.cgroups_path.as_deref(), &options.id)?;
        let optional: Vec<_> =
            groups.into_iter().filter(|group| cgroups::is_optional(group, &bundle.spec, &facts, options)).collect();
        facts.closed_hierarchies = facts::probe_closed(&optional, &facts.cgroups)?;
    }
    Ok(facts)
}

/// Creates a container and goes on with it; returns where its record is, too. A failure on the way, also in `then`, takes
/// everything back.
pub(super) fn with_created<T>(
    context: &Context<'_>,
    bundle: &Bundle,
    options: &CreateOptions,
    then: impl FnOnce(&mut Host<'_>) -> Result<T>,
) -> Result<(T, Store, Folder)> {
    check(context, bundle, options)?;
    let plan = plan(context, bundle, options)?;
    with_planned(context, bundle, options, &plan, then)
}

/// Says what is odd, and refuses what makes no sense.
pub(super) fn check(context: &Context<'_>, bundle: &Bundle, options: &CreateOptions) -> Result<()> {
    for finding in &bundle.warnings {
        context.warn(&format!("config.json {}: {}", finding.pointer, finding.message));
    }
    if options.console_socket.is_some() && !terminal(bundle) {
        return Err(Error::Usage("cannot use console socket if the process has no terminal".to_owned()));
    }
    crate::state::validate_id(&options.id)
}

/// Performs a plan for a container that is not there yet, and goes on with it.
pub(super) fn with_planned<T>(
    context: &Context<'_>,
    bundle: &Bundle,
    options: &CreateOptions,
    plan: &Plan,
    then: impl FnOnce(&mut Host<'_>) -> Result<T>,
) -> Result<(T, Store, Folder)> {
    for warning in &plan.warnings {
        context.warn(warning);
    }
    let mark = context.mark();
    let store = Store::open(&context.root)?;
    let (folder, lock) = store.take(&options.id)?;
    let record = new_record(context, bundle, options, plan)?;
    if let Err(error) = folder.write(&record, &bundle.config) {
        store.remove(&folder)?;
        return Err(error);
    }
    context.spent("record_creating", mark);
    let mut host = Host::new(plan, context, hook_state(&record));
    host.recorder = Some(Recorder {
        folder: &folder,
        record,
        config: &bundle.config,
        lock: Some(lock),
        start_by_other: options.start_by_other,
    });
    let outcome = host.run().and_then(|()| then(&mut host));
    if outcome.is_err() {
        take_back(context, bundle, &store, &folder, &mut host);
    }
    drop(host);
    outcome.map(|value| (value, store, folder))
}

fn new_record(context: &Context<'_>, bundle: &Bundle, options: &CreateOptions, plan: &Plan) -> Result<Record> {
    let pid = sys::process::own_pid();
    Ok(Record {
        schema: SCHEMA,
        id: options.id.clone(),
        oci_version: bundle.spec.oci_version.clone(),
        bundle: bundle.path.clone(),
        rootfs: bundle.rootfs.clone(),
        created: clock::render_nanos(clock::now()),
        owner: sys::process::effective_uid(),
        phase: Phase::Creating,
        creator: ProcessId { pid, start_time: context.proc.start_time(pid)? },
        init: None,
        groups: plan.groups.clone(),
        undo: plan.undo.clone(),
        device_programs: Vec::new(),
        annotations: BTreeMap::clone(&bundle.spec.annotations),
        own_pid_namespace: bundle.spec.makes(NamespaceKind::Pid),
        streams: read_streams(&context.proc)?,
        restored_clocks: false,
        callers_keyring: options.no_new_keyring,
    })
}

/// Ends what was begun. What cannot be taken back stays recorded, for `delete` to try again.
fn take_back(context: &Context<'_>, bundle: &Bundle, store: &Store, folder: &Folder, host: &mut Host<'_>) {
    let spawned = host.spawned.is_some();
    let mut errors: Vec<Error> = host.return_devices().err().into_iter().collect();
    errors.extend(host.abandon().err());
    if let Some(group) = host.group.as_ref().filter(|_| spawned) {
        errors.extend(super::delete::kill_group(&host.plan.id, group, &context.proc).err());
    }
    // A group that could not be made is somebody else's: it is not ours to remove.
    let (made_groups, begun) = (host.group.is_some(), host.unit.begun);
    let ours = |undo: &&Undo| match undo {
        Undo::Cgroups { .. } => made_groups || begun,
        Undo::Unit { .. } => begun,
        Undo::Link { .. } | Undo::Resctrl { .. } => true,
    };
    // What the record says: a step may know more than the plan could.
    let recorded = host.recorder.as_ref().map_or(&host.plan.undo, |recorder| &recorder.record.undo);
    let list: Vec<Undo> = recorded.iter().filter(ours).cloned().collect();
    errors.extend(undo::replay(&list, &context.proc).err());
    if spawned {
        let mut state = host.hook_state.clone();
        state.pid = None;
        run_poststop(context, bundle, &state);
    }
    if errors.is_empty() {
        errors.extend(store.remove(folder).err());
    }
    for error in errors {
        context.warn(&format!("left behind by the failed creation: {}", error.chain().join(": ")));
    }
}

fn run_poststop(context: &Context<'_>, bundle: &Bundle, state: &hooks::State) {
    super::delete::run_poststop(context, &bundle.spec, &bundle.path, state);
}
