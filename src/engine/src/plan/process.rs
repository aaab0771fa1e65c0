//! The process: what is set from outside, what it sets itself, and in which order.
//!
//! The order of the last part is fixed by the kernel. Without `noNewPrivileges` the filter is loaded while CAP_SYS_ADMIN
//! is still effective, and one last `capset` follows; with it, capabilities go first and the filter last. Landlock rules
//! are enforced right before these two, so that the filter may deny that call too. After the
//! filter only these calls are made: `capset` and `prctl` (without `noNewPrivileges`), `write` at the gate (`sendmsg`
//! where the notification descriptor rides along), `read` of the start, `execve`, then on failure `write` of the error
//! and `exit_group` (and what hooks need, where there are `startContainer` hooks). What these calls need is prepared
//! before the filter, so that no memory has to be asked for.

use runtime_spec::ContainerSpec;
use runtime_spec::model::{Capabilities, Process, Seccomp, SeccompAction, User};

use super::Plan;
use super::rootless::Openings;
use crate::error::{Error, Result};
use crate::facts::HostFacts;
use crate::gate::Gate;
use crate::options::CreateOptions;
use crate::step::{ChildStep, HookPoint, HostStep, Lsm, Slot, Source, Within};

/// What only the host may do: limits that a user namespace could not raise.
pub(super) fn plan_outside(plan: &mut Plan, process: Option<&Process>, from: &str) {
    let Some(process) = process else { return };
    if !process.rlimits.is_empty() {
        plan.host_from(format!("{from}/rlimits"), HostStep::SetRlimits { rlimits: process.rlimits.clone() });
    }
    let by_launcher = plan
        .host
        .iter()
        .any(|planned| matches!(&planned.step, HostStep::Spawn { launcher: Some(l), .. } if l.oom_score_adj.is_some()));
    if let Some(value) = process.oom_score_adj.filter(|_| !by_launcher) {
        plan.host_from(format!("{from}/oomScoreAdj"), HostStep::SetOomScoreAdj { value });
    }
}

/// Scheduling comes once the process has joined its groups, which may be what allows it (realtime budget).
pub(super) fn plan_scheduling(plan: &mut Plan, spec: &ContainerSpec) {
    plan.host(HostStep::ResetAffinity);
    if let Some(process) = &spec.process {
        plan_process_scheduling(plan, process, "/process");
    }
}

pub(super) fn plan_process_scheduling(plan: &mut Plan, process: &Process, from: &str) {
    if let Some(scheduler) = process.scheduler {
        plan.host_from(format!("{from}/scheduler"), HostStep::SetScheduler { scheduler });
    }
    if let Some(priority) = process.io_priority {
        plan.host_from(format!("{from}/ioPriority"), HostStep::SetIoPriority { priority });
    }
}

/// What a terminal needs of the host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Console {
    /// Where the master goes.
    pub(super) slot: Slot,
    /// The host's multiplexer.
    multiplexer: Option<Slot>,
}

/// The host opens the way that the master of a terminal will take.
pub(super) fn plan_console(plan: &mut Plan, process: Option<&Process>, socket: Option<&str>) -> Option<Console> {
    process.filter(|p| p.terminal)?;
    let slot = plan.slot();
    plan.host_from("/process/terminal", HostStep::OpenConsole { socket: socket.map(str::to_owned), slot });
    Some(Console { slot, multiplexer: None })
}

/// A container without a mount namespace has no devpts of its own: its root may have none either, and then the terminal
/// is one of the host's, which are all that such a container can see.
pub(super) fn plan_multiplexer(plan: &mut Plan, facts: &HostFacts, console: &mut Console, openings: &mut Openings) {
    let slot = plan.slot();
    let source = Source {
        path: "/dev/pts/ptmx".to_owned(),
        within: Within::Host,
        recursive: false,
        nofollow: true,
        copy_symlink: false,
        propagation: None,
        slot,
    };
    plan.note("no mount namespace: the terminal is one of the host's, unless the root has a /dev/pts");
    openings.source(plan, facts, Some("/process/terminal"), source);
    console.multiplexer = Some(slot);
}

/// A terminal is made inside, in the container's own devpts where it has one.
pub(super) fn plan_terminal(
    plan: &mut Plan,
    process: Option<&Process>,
    ends: Option<Console>,
    console: bool,
    ttys: Option<runtime_spec::ttys::Ttys>,
) {
    if let (Some(process), Some(Console { slot, multiplexer })) = (process, ends) {
        let step = ChildStep::MakeTerminal { size: process.console_size, slot, multiplexer, console, ttys };
        plan.child_from("/process/terminal", step);
    }
}

/// Everything from the execution domain to the exec.
pub(super) fn plan_inside(
    plan: &mut Plan,
    spec: &ContainerSpec,
    facts: &HostFacts,
    options: &CreateOptions,
) -> Result<()> {
    check_mount_label(spec, facts)?;
    if let Some(personality) = spec.personality {
        plan.child_from("/linux/personality", ChildStep::SetPersonality { domain: personality.domain });
    }
    if let Some(policy) = &spec.memory_policy {
        plan.child_from("/linux/memoryPolicy", ChildStep::SetMemoryPolicy { policy: policy.clone() });
    }
    let keep = options.preserve_fds.saturating_add(options.listen_fds);
    let shown = super::rootless::shows_while_waiting(spec, facts, options).then_some(ChildStep::ShowToTracers);
    let Some(process) = &spec.process else {
        plan_close(plan, spec, keep);
        shown.into_iter().for_each(|step| plan.child(step));
        plan.child(ChildStep::PassGate { gate: Gate::Ready, slots: Vec::new() });
        plan.child(ChildStep::AwaitStart);
        return Ok(());
    };
    plan_identity(plan, process, spec, facts, (keep, shown))?;
    plan.child(ChildStep::PassGate { gate: Gate::Ready, slots: Vec::new() });
    plan.child(ChildStep::AwaitStart);
    if !spec.hooks.start_container.is_empty() {
        let hooks = spec.hooks.start_container.clone();
        plan.child_from("/hooks/startContainer", ChildStep::RunHooks { point: HookPoint::StartContainer, hooks });
    }
    let mut env = process.env.clone();
    env.extend(super::notify::is_wanted(spec, options).then(crate::notify::variable));
    plan.child_from("/process/args", execute(process, env, options.listen_fds));
    Ok(())
}

/// The program, at last. Descriptors of socket activation are told as sd_listen_fds(3) wants it.
pub(super) fn execute(process: &Process, mut env: Vec<String>, listen_fds: u32) -> ChildStep {
    if listen_fds > 0 {
        env.push(format!("LISTEN_FDS={listen_fds}"));
        env.push("LISTEN_PID=1".to_owned());
    }
    ChildStep::Execute { args: process.args.clone(), env }
}

/// Label, user, capabilities, filter: shared by create and exec. `last` is done before the filter, which may deny it.
pub(super) fn plan_identity(
    plan: &mut Plan,
    process: &Process,
    spec: &ContainerSpec,
    facts: &HostFacts,
    (keep, last): (u32, Option<ChildStep>),
) -> Result<()> {
    plan_label(plan, process, facts)?;
    let additional_gids = super::rootless::additional_gids(plan, spec, facts, &process.user.additional_gids)?;
    let filter = match &spec.seccomp {
        Some(seccomp) => {
            refuse_notify(seccomp, process.no_new_privileges)?;
            Some(compile(plan, seccomp)?)
        }
        None => None,
    };
    // Before any path of the definition is used that could lead through /proc/self/fd.
    plan_close(plan, spec, keep);
    let landlocked = super::landlock::plan_ruleset(plan, spec.landlock.as_ref(), facts)?;
    // First as root, whom the folder may belong to.
    plan.child_from("/process/cwd", ChildStep::ChangeFolder { path: process.cwd.clone() });
    plan.child_from(
        "/process/user",
        ChildStep::BecomeUser {
            user: User { additional_gids, ..process.user.clone() },
            capabilities: process.capabilities,
            keep_for_seccomp: (filter.is_some() || landlocked) && !process.no_new_privileges,
        },
    );
    let path = process.env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).map(str::to_owned);
    let name = process.args.first().cloned().unwrap_or_default();
    plan.child_from("/process/args/0", ChildStep::FindProgram { name, path });
    if let Some(limit) = process.rlimits.iter().find(|limit| limit.resource == sys::process::RLIMIT_NOFILE) {
        plan.child_from("/process/rlimits", ChildStep::LimitFiles { soft: limit.soft, hard: limit.hard });
    }
    last.into_iter().for_each(|step| plan.child(step));
    if process.no_new_privileges {
        plan.child_from("/process/noNewPrivileges", ChildStep::SetNoNewPrivs);
    }
    if landlocked {
        plan.child_from(super::landlock::FROM, ChildStep::RestrictByLandlock);
    }
    if process.no_new_privileges {
        plan_capabilities(plan, process.capabilities);
        plan.child.extend(filter);
    } else {
        plan.child.extend(filter);
        plan_capabilities(plan, process.capabilities);
    }
    Ok(())
}

/// Leaves what came from the caller: groups, where becoming root of a user namespace has not done that, and descriptors.
/// The groups first: only the host's `/proc`, which closes, can tell whether a refusal is one for good.
fn plan_close(plan: &mut Plan, spec: &ContainerSpec, keep: u32) {
    if !super::has_user_namespace(spec) {
        plan.child(ChildStep::LeaveGroups);
    }
    plan.child(ChildStep::CloseDescriptors { keep });
}

fn plan_capabilities(plan: &mut Plan, capabilities: Capabilities) {
    plan.child_from("/process/capabilities", ChildStep::SetCapabilities { capabilities });
}

fn plan_label(plan: &mut Plan, process: &Process, facts: &HostFacts) -> Result<()> {
    if let Some(profile) = process.apparmor_profile.as_ref().filter(|p| !p.is_empty()) {
        if facts.apparmor {
            // With no_new_privs a profile may only be added to the one that there is (security/apparmor/domain.c).
            let stacked = facts.apparmor_confined && process.no_new_privileges;
            if stacked {
                plan.note(format!("apparmorProfile {profile:?} is added to the profile that the runtime is under"));
            }
            let step = ChildStep::SetLsmLabel { lsm: Lsm::Apparmor, label: profile.clone(), stacked };
            plan.child_from("/process/apparmorProfile", step);
        } else if profile != "unconfined" {
            return Err(Error::Unsupported(format!(
                "apparmor: config provided but apparmor not supported (apparmorProfile {profile:?}: AppArmor is not \
                 enabled on this host, /process/apparmorProfile)"
            )));
        }
    }
    if let Some(label) = process.selinux_label.as_ref().filter(|l| !l.is_empty()) {
        if !facts.selinux {
            return Err(Error::Unsupported(format!(
                "selinux label is specified in config, but selinux is disabled or not supported (selinuxLabel \
                 {label:?}, /process/selinuxLabel)"
            )));
        }
        let step = ChildStep::SetLsmLabel { lsm: Lsm::Selinux, label: label.clone(), stacked: false };
        plan.child_from("/process/selinuxLabel", step);
    }
    Ok(())
}

/// The label of keys, which is that of the process. Where SELinux is off, the label is refused later.
pub(super) fn key_label(process: Option<&Process>, facts: &HostFacts) -> Option<String> {
    process.and_then(|process| process.selinux_label.clone()).filter(|label| facts.selinux && !label.is_empty())
}

/// A label of mounts is an option that only SELinux knows.
fn check_mount_label(spec: &ContainerSpec, facts: &HostFacts) -> Result<()> {
    match &spec.mount_label {
        Some(label) if !facts.selinux => Err(Error::Unsupported(format!(
            "mount label is specified in config, but selinux is disabled or not supported (mountLabel {label:?}, \
             /linux/mountLabel)"
        ))),
        _ => Ok(()),
    }
}

/// The process itself hands over the notification descriptor, so what it calls until then nobody could answer.
fn refuse_notify(seccomp: &Seccomp, no_new_privileges: bool) -> Result<()> {
    let own: &[&str] = if no_new_privileges { &["sendmsg"] } else { &["sendmsg", "capset", "prctl"] };
    let notified = seccomp
        .rules
        .iter()
        .filter(|rule| rule.action == SeccompAction::Notify && rule.args.is_empty())
        .flat_map(|rule| &rule.names)
        .find(|name| own.contains(&name.as_str()));
    match notified {
        None => Ok(()),
        Some(name) => Err(Error::Unsupported(format!(
            "seccomp: {name} cannot have the action SCMP_ACT_NOTIFY: the process calls it before an agent can answer \
             (/linux/seccomp/syscalls)"
        ))),
    }
}

fn compile(plan: &mut Plan, seccomp: &Seccomp) -> Result<crate::step::Planned<ChildStep>> {
    let native = security::seccomp::Arch::NATIVE
        .ok_or_else(|| Error::Unsupported("seccomp: this build has no table of system calls".to_owned()))?;
    let filter = security::seccomp::compile(seccomp, native)
        .map_err(|error| Error::Unsupported(format!("seccomp: {error} (/linux/seccomp)")))?;
    plan.seccomp = filter
        .program
        .iter()
        .map(|i| sys::seccomp::FilterInstruction { code: i.code, jt: i.jt, jf: i.jf, k: i.k })
        .collect();
    let step =
        ChildStep::LoadSeccomp { instructions: plan.seccomp.len(), flags: filter.flags, notify: filter.notifies };
    Ok(crate::step::Planned { step, from: Some("/linux/seccomp".to_owned()) })
}

/// What the host does once the child is ready.
pub(super) fn plan_ready(plan: &mut Plan, spec: &ContainerSpec, options: &CreateOptions) {
    let notifies = plan.child.iter().any(|p| matches!(p.step, ChildStep::LoadSeccomp { notify: true, .. }));
    if let Some(seccomp) = spec.seccomp.as_ref().filter(|_| notifies) {
        let step = HostStep::SendSeccompNotify {
            listener: seccomp.listener_path.clone().unwrap_or_default(),
            metadata: seccomp.listener_metadata.clone(),
        };
        plan.host_from("/linux/seccomp/listenerPath", step);
    }
    if let Some(socket) = &options.pidfd_socket {
        plan.host(HostStep::SendPidfd { socket: socket.clone() });
    }
    if let Some(path) = &options.pid_file {
        plan.host(HostStep::WritePidFile { path: path.clone() });
    }
    plan.host(HostStep::RecordCreated);
}

#[cfg(test)]
mod tests {
    use super::super::tests::facts;
    use super::*;

    fn label(process: serde_json::Value, facts: &HostFacts) -> Result<Vec<(Lsm, String, bool)>> {
        let mut whole = serde_json::json!({ "cwd": "/", "args": ["sh"] });
        whole.as_object_mut().unwrap().extend(process.as_object().unwrap().clone());
        let (findings, process) = runtime_spec::load_process(whole.to_string().as_bytes());
        let process = process.unwrap_or_else(|| panic!("{findings:?}"));
        let mut plan = Plan::default();
        plan_label(&mut plan, &process, facts)?;
        let labels = plan.child.into_iter().map(|planned| match planned.step {
            ChildStep::SetLsmLabel { lsm, label, stacked } => (lsm, label, stacked),
            other => panic!("{other:?}"),
        });
        Ok(labels.collect())
    }

    #[test]
    fn a_profile_is_stacked_only_where_nothing_else_can_be() {
        let profile = |no_new_privileges: bool| serde_json::json!({ "apparmorProfile": "web", "noNewPrivileges": no_new_privileges });
        let check = |confined, no_new_privileges, stacked| {
            let facts = HostFacts { apparmor_confined: confined, ..facts(cgroup::Mode::Legacy) };
            assert_eq!(
                label(profile(no_new_privileges), &facts).unwrap(),
                [(Lsm::Apparmor, "web".to_owned(), stacked)]
            );
        };
        check(false, false, false);
        check(false, true, false);
        check(true, false, false);
        check(true, true, true);
    }

    #[test]
    fn a_module_that_is_off_refuses_labels_in_the_words_of_the_field() {
        let off = HostFacts { apparmor: false, ..facts(cgroup::Mode::Legacy) };
        let error = label(serde_json::json!({ "apparmorProfile": "web" }), &off).unwrap_err().to_string();
        assert!(error.starts_with("apparmor: config provided but apparmor not supported"), "{error}");
        assert_eq!(label(serde_json::json!({ "apparmorProfile": "unconfined" }), &off).unwrap(), []);
        let error = label(serde_json::json!({ "selinuxLabel": "a:b:c:s0" }), &off).unwrap_err().to_string();
        assert!(error.starts_with("selinux label is specified in config, but selinux is disabled or not supported"));
        let spec = ContainerSpec { mount_label: Some("a:b:c:s0".to_owned()), ..ContainerSpec::default() };
        assert!(check_mount_label(&spec, &off).unwrap_err().to_string().starts_with("mount label is specified"));
    }

    #[test]
    fn keys_have_the_label_of_the_process() {
        let on = HostFacts { selinux: true, ..facts(cgroup::Mode::Legacy) };
        let process = Process { selinux_label: Some("a:b:c:s0".to_owned()), ..Process::default() };
        assert_eq!(key_label(Some(&process), &on).as_deref(), Some("a:b:c:s0"));
        assert_eq!(key_label(Some(&process), &facts(cgroup::Mode::Legacy)), None);
        let labels = label(serde_json::json!({ "selinuxLabel": "a:b:c:s0" }), &on).unwrap();
        assert_eq!(labels, [(Lsm::Selinux, "a:b:c:s0".to_owned(), false)]);
        let spec = ContainerSpec { mount_label: Some("a:b:c:s0".to_owned()), ..ContainerSpec::default() };
        assert!(check_mount_label(&spec, &on).is_ok());
    }
}
