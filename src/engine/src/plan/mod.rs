//! Every choice, made once and written down: `(definition, facts, options) -> Plan`.
//!
//! Pure: nothing is opened and nothing is changed. What `skep plan` prints is the very value that `create`, `run` and
//! `exec` perform. A choice that the definition did not make (a default, a relaxation, a fall-back) is noted.

pub(crate) mod cgroups;
pub(crate) mod checkpoint;
mod devices;
mod exec;
mod landlock;
mod mounts;
mod namespaces;
mod notify;
mod overlay;
mod process;
mod restore;
mod rootless;
mod sources;
pub(crate) mod unit;

use runtime_spec::ContainerSpec;
use runtime_spec::model::NamespaceKind;
use serde::Serialize;

use crate::error::Result;
use crate::facts::HostFacts;
use crate::gate::Gate;
use crate::options::CreateOptions;
use crate::step::{ChildStep, HookPoint, HostStep, Planned, Slot};
use crate::undo::Undo;
use crate::unit::Unit;

pub use exec::{Existing, plan_exec};
pub(crate) use namespaces::root_ids;
pub(crate) use restore::plan_restore;

/// What will be done.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Plan {
    /// The container.
    pub id: String,
    /// Choices that the definition did not make, with their reasons.
    pub notes: Vec<String>,
    /// What a person should know of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The container's groups, one per hierarchy.
    pub groups: Vec<cgroup::GroupPath>,
    /// Host side, in order.
    pub host: Vec<Planned<HostStep>>,
    /// Child side, in order.
    pub child: Vec<Planned<ChildStep>>,
    /// What is undone when the container goes, in the order of doing.
    pub undo: Vec<Undo>,
    /// How many descriptors the two sides share.
    pub slots: usize,
    /// The seccomp filter, ready to load.
    #[serde(skip)]
    pub seccomp: Vec<sys::seccomp::FilterInstruction>,
    /// The device program of the unified hierarchy, as bytes.
    #[serde(skip)]
    pub device_program: Vec<u8>,
    /// The service manager's unit, where it makes the groups.
    #[serde(skip)]
    pub unit: Option<Unit>,
    /// Limits on their way into steps.
    #[serde(skip)]
    limits: cgroup::Limits,
    /// What the service manager is told, on its way into steps.
    #[serde(skip)]
    told: unit::Told,
}

impl Plan {
    fn slot(&mut self) -> Slot {
        self.slots += 1;
        self.slots - 1
    }

    fn host(&mut self, step: HostStep) {
        self.host.push(Planned { step, from: None });
    }

    fn host_from(&mut self, from: impl Into<String>, step: HostStep) {
        self.host.push(Planned { step, from: Some(from.into()) });
    }

    fn child(&mut self, step: ChildStep) {
        self.child.push(Planned { step, from: None });
    }

    fn child_from(&mut self, from: impl Into<String>, step: ChildStep) {
        self.child.push(Planned { step, from: Some(from.into()) });
    }

    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

/// Plans the creation of a container.
///
/// # Errors
/// [`Error::Unsupported`](crate::Error::Unsupported) for what this host cannot do, and the errors of the cgroup paths,
/// limits and the seccomp compiler.
pub fn plan_create(spec: &ContainerSpec, facts: &HostFacts, options: &CreateOptions) -> Result<Plan> {
    rootless::refuse(spec, facts, options)?;
    let mut plan = Plan { id: options.id.clone(), ..Plan::default() };
    let spec = &*sources::strip_destinations(&mut plan, spec, options);
    let rootfs = plan.slot();
    overlay::plan_root(&mut plan, spec, facts, rootfs, false)?;
    cgroups::plan_groups(&mut plan, spec, facts, options)?;
    let mut openings = rootless::Openings::default();
    if spec.overlay.is_none() {
        openings.rootfs(&mut plan, facts, &options.rootfs, spec.namespace(NamespaceKind::Mount).is_some(), rootfs);
    }
    if rootless::hides_first(spec, facts) {
        plan.child(ChildStep::HideFromTracers);
    }
    plan.child(ChildStep::NewSession);
    let maps = namespaces::plan_id_maps(&mut plan, spec, facts, &options.id_map_helpers)?;
    let (spawn, maps) = namespaces::plan_spawn(&mut plan, spec, facts, maps);
    let sources = mounts::plan_sources(&mut plan, spec, facts, options, &mut openings);
    let notify = notify::plan_source(&mut plan, spec, facts, options, &mut openings);
    let device_sources = devices::plan_sources(&mut plan, spec, facts, &mut openings)?;
    let mut console = process::plan_console(&mut plan, spec.process.as_ref(), options.console_socket.as_deref());
    if let Some(console) = console.as_mut().filter(|_| spec.namespace(NamespaceKind::Mount).is_none()) {
        process::plan_multiplexer(&mut plan, facts, console, &mut openings);
    }
    plan.host(spawn);

    plan.host(HostStep::AwaitGate { gate: Gate::Namespaces });
    let views = unit::plan_start(&mut plan, sources.later());
    if let Some(maps) = maps {
        plan.host_from("/linux/uidMappings", HostStep::MapIds(maps));
    }
    process::plan_outside(&mut plan, spec.process.as_ref(), "/process");
    namespaces::plan_links(&mut plan, spec, options);
    let mut idmapped = mounts::plan_idmaps(&mut plan, spec, &sources);
    idmapped.extend(views);
    overlay::plan_root(&mut plan, spec, facts, rootfs, true)?;
    idmapped.extend(spec.overlay.is_some().then_some(rootfs));
    plan.host(HostStep::OpenGate { gate: Gate::Namespaces, slots: idmapped.clone() });

    plan.child(ChildStep::PassGate { gate: Gate::Namespaces, slots: idmapped });
    if !rootless::hides_first(spec, facts) {
        plan.child(ChildStep::HideFromTracers);
    }
    openings.plan_by_child(&mut plan);
    cgroups::plan_join(&mut plan, spec, facts);
    namespaces::plan_inside(&mut plan, spec, facts, options);
    mounts::plan_rootfs(&mut plan, spec, options, rootfs);
    let postponed = mounts::plan_mounts(&mut plan, spec, facts, &sources);
    notify::plan_mount(&mut plan, notify);
    devices::plan_devices(&mut plan, &device_sources);
    plan.child(ChildStep::PassGate { gate: Gate::Rootfs, slots: Vec::new() });

    plan.host(HostStep::AwaitGate { gate: Gate::Rootfs });
    cgroups::plan_limits(&mut plan, spec, facts);
    process::plan_scheduling(&mut plan, spec);
    if let Some(rdt) = &spec.intel_rdt {
        plan.undo.extend(crate::host::resctrl::groups_of(rdt, &options.id).map(|path| Undo::Resctrl { path }));
        plan.host_from("/linux/intelRdt", HostStep::JoinResctrl { rdt: rdt.clone() });
    }
    plan_host_hooks(&mut plan, spec);
    plan.host(HostStep::OpenGate { gate: Gate::Rootfs, slots: Vec::new() });

    if !spec.hooks.create_container.is_empty() {
        let hooks = spec.hooks.create_container.clone();
        plan.child_from("/hooks/createContainer", ChildStep::RunHooks { point: HookPoint::CreateContainer, hooks });
    }
    mounts::plan_change_root(&mut plan, spec, options);
    mounts::plan_after_root(&mut plan, spec, console, postponed);
    process::plan_inside(&mut plan, spec, facts, options)?;

    plan.host(HostStep::AwaitGate { gate: Gate::Ready });
    process::plan_ready(&mut plan, spec, options);
    Ok(plan)
}

fn plan_host_hooks(plan: &mut Plan, spec: &ContainerSpec) {
    for (point, hooks) in
        [(HookPoint::Prestart, &spec.hooks.prestart), (HookPoint::CreateRuntime, &spec.hooks.create_runtime)]
    {
        if !hooks.is_empty() {
            let step = HostStep::RunHooks { point, hooks: hooks.clone() };
            plan.host_from(format!("/hooks/{}", point.name()), step);
        }
    }
}

/// Whether the container's processes live in a user namespace other than the runtime's.
fn has_user_namespace(spec: &ContainerSpec) -> bool {
    spec.namespace(NamespaceKind::User).is_some()
}

#[cfg(test)]
mod tests {
    use cgroup::group::Below;
    use cgroup::{Hierarchy, Layout, Mode};

    use super::*;

    pub(super) fn facts(mode: Mode) -> HostFacts {
        let unified = Hierarchy {
            id: 0,
            controllers: vec!["memory".to_owned(), "pids".to_owned()],
            mountpoint: "/sys/fs/cgroup".to_owned(),
            own_path: "/".to_owned(),
        };
        let unified = (mode == Mode::Unified).then_some(unified);
        let pids = Hierarchy {
            id: 3,
            controllers: vec!["pids".to_owned()],
            mountpoint: "/sys/fs/cgroup/pids".to_owned(),
            own_path: "/".to_owned(),
        };
        let hierarchies = if mode == Mode::Unified { Vec::new() } else { vec![pids] };
        HostFacts {
            euid: 0,
            egid: 0,
            capabilities: u64::MAX,
            in_user_namespace: false,
            may_mount: true,
            setgroups_denied: false,
            cgroups: Layout { mode, hierarchies, unified },
            closed_hierarchies: Vec::new(),
            apparmor: true,
            apparmor_confined: false,
            selinux: false,
            landlock: 3,
            systemd: None,
        }
    }

    /// The example, which has no names of its own here, with these changes of its process and its `linux`.
    pub(super) fn spec(process: serde_json::Value, linux: serde_json::Value) -> ContainerSpec {
        let mut config = serde_json::to_value(runtime_spec::example::example(false)).unwrap();
        config.as_object_mut().unwrap().remove("hostname");
        for (part, changes) in [("process", process), ("linux", linux)] {
            for (key, value) in changes.as_object().unwrap() {
                config[part][key] = value.clone();
            }
        }
        let report = runtime_spec::load(&serde_json::to_vec(&config).unwrap());
        report.spec.unwrap_or_else(|| panic!("{:?}", report.findings))
    }

    fn plan(mode: Mode, process: serde_json::Value, linux: serde_json::Value) -> Plan {
        let spec = spec(process, linux);
        let options =
            CreateOptions { id: "web1".to_owned(), rootfs: "/b/rootfs".to_owned(), ..CreateOptions::default() };
        plan_create(&spec, &facts(mode), &options).unwrap()
    }

    pub(super) fn names(plan: &Plan) -> Vec<&'static str> {
        plan.child.iter().map(|planned| crate::child::step_name(&planned.step)).collect()
    }

    #[track_caller]
    fn ends_in(plan: &Plan, expected: &[&str]) {
        let names = names(plan);
        assert_eq!(names[names.len() - expected.len()..], *expected);
    }

    fn filter() -> serde_json::Value {
        let rule = serde_json::json!({ "names": ["swapon"], "action": "SCMP_ACT_ERRNO" });
        serde_json::json!({ "seccomp": { "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] } })
    }

    /// A new root there would be that of the host's processes.
    #[test]
    fn a_joined_mount_namespace_may_not_be_the_hosts() {
        let linux = serde_json::json!({
            "namespaces": [{ "type": "mount", "path": "/proc/1/ns/mnt" }, { "type": "ipc", "path": "/proc/1/ns/ipc" }],
        });
        let plan = plan(Mode::Legacy, serde_json::json!({}), linux);
        let refused: Vec<_> = plan
            .host
            .iter()
            .filter_map(|planned| match &planned.step {
                HostStep::OpenNamespace { kind, not_own, .. } => Some((*kind, *not_own)),
                _ => None,
            })
            .collect();
        assert_eq!(refused, [(NamespaceKind::Mount, true), (NamespaceKind::Ipc, false)]);
    }

    #[test]
    fn the_callers_supervisor_is_reached_through_a_mount() {
        let check = |env: &[&str], expected: (bool, bool)| {
            let mut config = serde_json::to_value(runtime_spec::example::example(false)).unwrap();
            config["process"]["env"] = env.into();
            let spec = runtime_spec::load(&serde_json::to_vec(&config).unwrap()).spec.unwrap();
            let notify = crate::options::Notify { socket: "@s".to_owned(), folder: "/r/web1/notify".to_owned() };
            let options = CreateOptions { id: "web1".to_owned(), notify: Some(notify), ..CreateOptions::default() };
            let plan = plan_create(&spec, &facts(Mode::Legacy), &options).unwrap();
            let mounted = plan.child.iter().any(
                |planned| matches!(&planned.step, ChildStep::MountBind(mount) if mount.destination == "/run/notify"),
            );
            let told = plan.child.iter().any(|planned| match &planned.step {
                ChildStep::Execute { env, .. } => env.contains(&"NOTIFY_SOCKET=/run/notify/notify.sock".to_owned()),
                _ => false,
            });
            assert_eq!((mounted, told), expected);
        };
        check(&["PATH=/bin"], (true, true));
        check(&["NOTIFY_SOCKET=/own"], (false, false));
    }

    #[test]
    fn a_joined_uts_namespace_is_not_the_hosts_where_it_gets_a_name() {
        let check = |sysctl: serde_json::Value, expected: bool| {
            let uts = serde_json::json!({ "type": "uts", "path": "/proc/9/ns/uts" });
            let linux = serde_json::json!({ "namespaces": [{ "type": "mount" }, uts], "sysctl": sysctl });
            let plan = plan(Mode::Legacy, serde_json::json!({}), linux);
            let refused = plan.host.iter().find_map(|planned| match &planned.step {
                HostStep::OpenNamespace { kind: NamespaceKind::Uts, not_own, .. } => Some(*not_own),
                _ => None,
            });
            assert_eq!(refused, Some(expected));
        };
        check(serde_json::json!({}), false);
        check(serde_json::json!({ "kernel.domainname": "example.org" }), true);
    }

    #[test]
    fn where_root_is_not_mapped_the_user_makes_the_files() {
        let check = |first: u32, expected: (u32, u32)| {
            let map = serde_json::json!([{ "containerID": first, "hostID": 100_000, "size": 5000 }]);
            let whole = serde_json::json!([{ "containerID": 0, "hostID": 100_000, "size": 5000 }]);
            let namespaces = serde_json::json!([{ "type": "user" }, { "type": "mount" }]);
            let linux = serde_json::json!({ "namespaces": namespaces, "uidMappings": map, "gidMappings": whole });
            let process = serde_json::json!({ "user": { "uid": 1000, "gid": 1001 } });
            let plan = plan(Mode::Legacy, process, linux);
            let ids = plan.child.iter().find_map(|planned| match planned.step {
                ChildStep::BecomeNamespaceRoot { uid, gid } => Some((uid, gid)),
                _ => None,
            });
            assert_eq!(ids, Some(expected));
        };
        check(0, (0, 0));
        check(500, (1000, 0));
    }

    #[test]
    fn ids_are_mapped_once_for_whoever_makes_the_namespace() {
        let check = |network: serde_json::Value, by_launcher: bool| {
            let map = serde_json::json!([{ "containerID": 0, "hostID": 100_000, "size": 5000 }]);
            let namespaces = serde_json::json!([{ "type": "user" }, { "type": "mount" }, network]);
            let linux = serde_json::json!({ "namespaces": namespaces, "uidMappings": map, "gidMappings": map });
            let plan = plan(Mode::Legacy, serde_json::json!({}), linux);
            let has = |wanted: fn(&HostStep) -> bool| plan.host.iter().any(|planned| wanted(&planned.step));
            let launched = has(|step| match step {
                HostStep::Spawn { launcher: Some(launcher), .. } => launcher.new_user_namespace.is_some(),
                _ => false,
            });
            assert_eq!((launched, has(|step| matches!(step, HostStep::MapIds(_)))), (by_launcher, !by_launcher));
        };
        check(serde_json::json!({ "type": "network" }), false);
        check(serde_json::json!({ "type": "network", "path": "/run/netns/a" }), true);
    }

    #[test]
    fn groups_of_the_caller_are_left_once() {
        let left = |plan: &Plan| {
            let names = names(plan);
            ["become_namespace_root", "leave_groups"].map(|name| names.iter().filter(|step| **step == name).count())
        };
        assert_eq!(left(&plan(Mode::Legacy, serde_json::json!({}), serde_json::json!({}))), [0, 1]);
        assert_eq!(left(&in_user_namespace(&[], serde_json::json!({}))), [1, 0]);
    }

    /// Which decides whether an ordinary group becomes a threaded one.
    #[test]
    fn what_happens_below_a_busy_group_is_in_the_plan() {
        let check = |resources: serde_json::Value, expected: Below| {
            let linux = serde_json::json!({ "resources": resources });
            let plan = plan(Mode::Unified, serde_json::json!({}), linux);
            let below = plan.host.iter().find_map(|planned| match planned.step {
                HostStep::MakeCgroups { below } => Some(below),
                _ => None,
            });
            assert_eq!(below, Some(expected));
        };
        check(serde_json::json!({}), Below::Ordinary);
        check(serde_json::json!({ "pids": { "limit": 5 } }), Below::Threaded);
        check(serde_json::json!({ "pids": { "limit": 5 }, "memory": { "limit": 1_048_576 } }), Below::Ordinary);
    }

    #[test]
    fn the_filter_comes_last_with_no_new_privileges() {
        let process = serde_json::json!({ "noNewPrivileges": true, "apparmorProfile": "web" });
        let expected = [
            "set_lsm_label",
            "leave_groups",
            "close_descriptors",
            "change_folder",
            "become_user",
            "find_program",
            "limit_files",
            "set_no_new_privs",
            "set_capabilities",
            "load_seccomp",
            "pass_gate",
            "await_start",
            "execute",
        ];
        ends_in(&plan(Mode::Legacy, process, filter()), &expected);
    }

    #[test]
    fn the_filter_comes_before_the_last_capset_without() {
        let process = serde_json::json!({ "noNewPrivileges": false, "apparmorProfile": "web" });
        let expected = [
            "set_lsm_label",
            "leave_groups",
            "close_descriptors",
            "change_folder",
            "become_user",
            "find_program",
            "limit_files",
            "load_seccomp",
            "set_capabilities",
            "pass_gate",
            "await_start",
            "execute",
        ];
        ends_in(&plan(Mode::Legacy, process, filter()), &expected);
    }

    #[test]
    fn where_unified_is_alone_the_clone_enters_the_group_and_makes_the_cgroup_namespace() {
        let check = |mode, expected: (bool, bool)| {
            let linux = serde_json::json!({
                "namespaces": [{ "type": "mount" }, { "type": "cgroup" }, { "type": "pid" }],
                "resources": {}
            });
            let plan = plan(mode, serde_json::json!({}), linux);
            let spawn = plan.host.iter().find_map(|planned| match &planned.step {
                HostStep::Spawn { namespaces, into_cgroup, .. } => {
                    Some((namespaces.contains(&NamespaceKind::Cgroup), *into_cgroup))
                }
                _ => None,
            });
            assert_eq!(spawn, Some(expected));
            assert_eq!(names(&plan).contains(&"unshare_cgroup"), !expected.0);
            assert_eq!(names(&plan).contains(&"join_cgroups"), mode == Mode::Legacy);
        };
        check(Mode::Unified, (true, true));
        check(Mode::Legacy, (false, false));
    }

    /// The example with a new user namespace of 65536 ids from 100000, and these other namespaces.
    fn in_user_namespace(others: &[&str], mut linux: serde_json::Value) -> Plan {
        let kinds = ["user", "mount", "pid"].iter().chain(others);
        linux["namespaces"] = kinds.map(|kind| serde_json::json!({ "type": kind })).collect();
        linux["uidMappings"] = serde_json::json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
        linux["gidMappings"] = linux["uidMappings"].clone();
        plan(Mode::Legacy, serde_json::json!({}), linux)
    }

    fn says(plan: &Plan, text: &str) -> bool {
        plan.notes.iter().any(|note| note.contains(text))
    }

    #[test]
    fn a_sysfs_that_would_be_refused_is_a_copy_of_the_hosts() {
        let bound = |plan: &Plan| {
            let opened = plan.host.iter().find_map(|planned| match &planned.step {
                HostStep::OpenSource(source) if source.path == "/sys" => Some((source.slot, source.recursive)),
                _ => None,
            });
            let mounted = plan.child.iter().find_map(|planned| match &planned.step {
                ChildStep::MountBind(bind) if bind.destination == "/sys" => Some(bind.clone()),
                _ => None,
            });
            opened.zip(mounted)
        };
        let shared = in_user_namespace(&[], serde_json::json!({}));
        let ((slot, recursive), mount) = bound(&shared).expect("the network is the host's");
        assert!(recursive && slot == mount.slot && mount.links_refused && says(&shared, "/sys"));
        assert!(mount.recursive_set.contains(runtime_spec::model::MountAttr::RDONLY), "all of it is read-only");
        let own = in_user_namespace(&["network"], serde_json::json!({}));
        assert!(bound(&own).is_none() && !says(&own, "/sys"));
        let none =
            plan(Mode::Legacy, serde_json::json!({}), serde_json::json!({ "namespaces": [{ "type": "mount" }] }));
        assert!(bound(&none).is_none(), "without a user namespace a new one may be mounted");
    }

    /// Nodes of the definition have owners of the host there; the default ones are the host's own.
    #[test]
    fn nodes_for_a_user_namespace_are_made_with_the_owners_of_the_host() {
        let device = serde_json::json!({ "path": "/dev/x", "type": "c", "major": 1, "minor": 5, "uid": 5, "gid": 6 });
        let plan = in_user_namespace(&[], serde_json::json!({ "devices": [device] }));
        let made: Vec<_> = plan
            .host
            .iter()
            .filter_map(|planned| match &planned.step {
                HostStep::MakeNodes { nodes, .. } => Some(nodes.clone()),
                _ => None,
            })
            .flatten()
            .map(|(device, slot)| (device.path, device.uid, device.gid, slot))
            .collect();
        let [(path, 100_005, 100_006, slot)] = made.as_slice() else { panic!("{made:?}") };
        let mounted = plan.child.iter().any(|planned| {
            matches!(&planned.step, ChildStep::MakeDevice { device, bind } if device.path == *path && *bind == Some(*slot))
        });
        assert!(mounted, "what was made is what is mounted");
        let opened = plan.host.iter().filter(|p| matches!(p.step, HostStep::OpenDevice { .. })).count();
        assert_eq!(opened, 6, "one for each default device");
    }

    #[test]
    fn a_resctrl_group_of_its_own_goes_with_the_container() {
        let linux = serde_json::json!({ "intelRdt": { "l3CacheSchema": "L3:0=f" } });
        let undo = plan(Mode::Legacy, serde_json::json!({}), linux).undo;
        assert!(undo.contains(&Undo::Resctrl { path: "/sys/fs/resctrl/web1".to_owned() }), "{undo:?}");
    }
}
