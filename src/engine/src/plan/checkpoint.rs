//! What CRIU has to know of a container to save it. The restore has to name the same things, so it asks here too.

use runtime_spec::ContainerSpec;
use runtime_spec::model::{Mount, MountKind, NamespaceKind};
use runtime_spec::overlay::{Overlay, Upper};

use super::mounts;
use crate::error::{Error, Result};
use crate::facts::HostFacts;
use crate::options::CgroupsMode;
use crate::options::NetworkLock;
use crate::step::ExternalMount;

/// Annotation that names a file of further options for CRIU; empty for none.
const CONFIG_ANNOTATION: &str = "org.criu.config";
/// The file where the annotation is missing; CRIU passes over one that does not exist. The same as runc's.
const CONFIG_FILE: &str = "/etc/criu/runc.conf";

/// A dump, as far as it follows from the definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dump {
    /// Mounts of things of the host.
    pub mounts: Vec<ExternalMount>,
    /// Paths that files may be hidden at.
    pub masked: Vec<String>,
    /// Namespaces that are not the container's own, by path.
    pub external: Vec<(NamespaceKind, String)>,
    /// The group that stops all processes.
    pub freezer: Option<String>,
    /// Whether that group is one of cgroup2.
    pub unified_freezer: bool,
    /// File of further options.
    pub config_file: Option<String>,
}

/// Plans a dump.
///
/// # Errors
/// [`Error::Unsupported`] for what CRIU would not bring back as it was.
pub(crate) fn plan_dump(spec: &ContainerSpec, facts: &HostFacts, groups: &[cgroup::GroupPath]) -> Result<Dump> {
    refuse_unsavable(spec)?;
    let legacy = groups.iter().find(|group| group.has("freezer"));
    let freezer = legacy.or_else(|| groups.iter().find(|group| group.is_unified()));
    Ok(Dump {
        mounts: external_mounts(spec, facts, groups, ""),
        masked: spec.masked_paths.clone(),
        external: joined(spec).filter(|(kind, _)| is_handed_over(*kind)).collect(),
        freezer: freezer.map(cgroup::GroupPath::dir),
        unified_freezer: freezer.is_some_and(cgroup::GroupPath::is_unified),
        config_file: config_file(spec),
    })
}

/// What would come back as something else, without a word of CRIU's.
pub(super) fn refuse_unsavable(spec: &ContainerSpec) -> Result<()> {
    if spec.namespace(NamespaceKind::Mount).is_none() {
        return Err(Error::Unsupported("criu cannot save a container without a mount namespace of its own".to_owned()));
    }
    if spec.landlock.is_some() {
        return Err(Error::Unsupported(
            "criu cannot save a container under Landlock rules: its processes would come back without them".to_owned(),
        ));
    }
    if let Some(layers) = &spec.overlay {
        refuse_layers(layers)?;
    }
    let lost = |mount: &&Mount| mount.idmap.is_some() || mount.src_nofollow || mount.dest_nofollow;
    match spec.mounts.iter().find(lost) {
        None => Ok(()),
        Some(mount) => Err(Error::Unsupported(format!(
            "criu cannot save the mount {}: it would come back without its id mapping, or follow symbolic links",
            mount.destination
        ))),
    }
}

/// The layers are mounted again before there is a process: what depends on one, or was in memory, does not come back.
fn refuse_layers(layers: &Overlay) -> Result<()> {
    let why = match layers.upper {
        _ if layers.idmap => "they follow the ids of a user namespace, which comes back after them",
        Upper::Memory { .. } => "its changes are in memory, which criu does not save",
        _ => return Ok(()),
    };
    Err(Error::Unsupported(format!("criu cannot save a container with these layers as its root file system: {why}")))
}

/// The file of further options that a definition asks for.
pub(super) fn config_file(spec: &ContainerSpec) -> Option<String> {
    let named = spec.annotations.get(CONFIG_ANNOTATION).map_or(CONFIG_FILE, String::as_str);
    (!named.is_empty()).then(|| named.to_owned())
}

/// Namespaces that are joined, by path.
pub(super) fn joined(spec: &ContainerSpec) -> impl Iterator<Item = (NamespaceKind, String)> + '_ {
    spec.namespaces.iter().filter_map(|namespace| Some((namespace.kind, namespace.path.clone()?)))
}

/// Whether CRIU leaves a joined namespace of this kind alone and gets it by descriptor, rather than joining it by path.
pub(super) fn is_handed_over(kind: NamespaceKind) -> bool {
    matches!(kind, NamespaceKind::Network | NamespaceKind::Pid)
}

/// The name by which the images remember a joined namespace. The same as runc's, so that either can restore the other's.
pub(crate) fn namespace_key(kind: NamespaceKind) -> &'static str {
    if kind == NamespaceKind::Pid { "extRootPidNS" } else { "extRootNetNS" }
}

/// Binds, copies of the host's folders of groups and of its sysfs, and device nodes, which are binds in a user namespace.
/// Sources of binds are relative to the bundle.
pub(super) fn external_mounts(
    spec: &ContainerSpec,
    facts: &HostFacts,
    groups: &[cgroup::GroupPath],
    bundle: &str,
) -> Vec<ExternalMount> {
    let mut list = Vec::new();
    for mount in &spec.mounts {
        match &mount.kind {
            MountKind::Bind { .. } => list.push(ExternalMount {
                destination: mount.destination.clone(),
                source: mounts::absolute(mount.source.as_deref().unwrap_or_default(), bundle),
            }),
            MountKind::Cgroup if !mounts::cgroup_view_is_new(spec, facts) => {
                list.extend(mounts::copied_cgroup_views(facts, groups).map(|(name, source)| ExternalMount {
                    destination: match super::cgroups::is_unified(facts) {
                        true => mount.destination.clone(),
                        false => format!("{}/{name}", mount.destination.trim_end_matches('/')),
                    },
                    source,
                }));
            }
            MountKind::Filesystem(fstype) if fstype == "sysfs" && mounts::sysfs_is_bound(spec, mount) => {
                list.push(ExternalMount { destination: mount.destination.clone(), source: mounts::SYSFS.to_owned() });
            }
            _ => {}
        }
    }
    let nodes = super::devices::nodes(spec);
    list.extend(nodes.map(|path| ExternalMount { destination: path.clone(), source: path }));
    list
}

/// `criu_cg_mode`.
pub(crate) fn cgroups_mode(mode: CgroupsMode) -> u64 {
    match mode {
        CgroupsMode::Ignore => 0,
        CgroupsMode::Soft => 3,
        CgroupsMode::Full => 4,
        CgroupsMode::Strict => 5,
        CgroupsMode::Default => 6,
    }
}

/// `criu_network_lock_method`.
pub(crate) fn network_lock(method: NetworkLock) -> u64 {
    match method {
        NetworkLock::Iptables => 1,
        NetworkLock::Nftables => 2,
        NetworkLock::Skip => 3,
    }
}

#[cfg(test)]
mod tests {
    use cgroup::{GroupPath, Hierarchy, Mode};

    use super::super::tests::{facts, spec};
    use super::*;

    fn group(hierarchy: u32, controller: &str) -> GroupPath {
        GroupPath {
            hierarchy,
            controllers: vec![controller.to_owned()],
            mountpoint: format!("/sys/fs/cgroup/{controller}"),
            path: "/web1".to_owned(),
        }
    }

    #[test]
    fn the_freezer_is_that_of_v1_where_there_is_one() {
        let spec = spec(serde_json::json!({}), serde_json::json!({}));
        let dump = |groups: &[GroupPath]| plan_dump(&spec, &facts(Mode::Legacy), groups).unwrap();
        let both = dump(&[group(3, "cpu"), group(4, "freezer"), group(0, "unified")]);
        assert_eq!((both.freezer.as_deref(), both.unified_freezer), (Some("/sys/fs/cgroup/freezer/web1"), false));
        let unified = dump(&[group(0, "unified")]);
        assert_eq!((unified.freezer.as_deref(), unified.unified_freezer), (Some("/sys/fs/cgroup/unified/web1"), true));
        assert_eq!(dump(&[]).freezer, None);
    }

    #[test]
    fn layers_that_would_not_come_back_are_refused() {
        let mut spec = spec(serde_json::json!({}), serde_json::json!({}));
        let folders = Upper::Folder { upper: "/c/upper".to_owned(), work: "/c/work".to_owned() };
        let mut check = |upper: Upper, idmap: bool| {
            let lower = vec!["/base".to_owned()];
            let layers = Overlay { lower, upper, hide: Vec::new(), idmap, user_xattr: false, volatile: false };
            spec.overlay = Some(layers);
            refuse_unsavable(&spec).map_err(|error| error.to_string())
        };
        assert_eq!(check(folders.clone(), false), Ok(()));
        assert_eq!(check(Upper::None, false), Ok(()));
        assert!(check(folders, true).unwrap_err().contains("ids of a user namespace"));
        assert!(check(Upper::Memory { bytes: 0 }, false).unwrap_err().contains("in memory"));
    }

    #[test]
    fn an_annotation_names_the_file_of_further_options() {
        let mut spec = spec(serde_json::json!({}), serde_json::json!({}));
        assert_eq!(config_file(&spec).as_deref(), Some("/etc/criu/runc.conf"));
        spec.annotations.insert("org.criu.config".to_owned(), "/x.conf".to_owned());
        assert_eq!(config_file(&spec).as_deref(), Some("/x.conf"));
        spec.annotations.insert("org.criu.config".to_owned(), String::new());
        assert_eq!(config_file(&spec), None);
    }

    #[test]
    fn joined_network_and_pid_namespaces_are_external() {
        let namespaces = serde_json::json!([
            { "type": "mount" }, { "type": "network", "path": "/run/netns/a" }, { "type": "ipc", "path": "/proc/7/ns/ipc" },
        ]);
        let spec = spec(serde_json::json!({}), serde_json::json!({ "namespaces": namespaces }));
        let dump = plan_dump(&spec, &facts(Mode::Unified), &[]).unwrap();
        assert_eq!(dump.external, [(NamespaceKind::Network, "/run/netns/a".to_owned())]);
    }

    #[test]
    fn what_would_be_lost_is_refused() {
        let none = spec(
            serde_json::json!({}),
            serde_json::json!({ "namespaces": [], "maskedPaths": [], "readonlyPaths": [] }),
        );
        assert!(plan_dump(&none, &facts(Mode::Unified), &[]).unwrap_err().to_string().contains("mount namespace"));
        let mut mapped = spec(serde_json::json!({}), serde_json::json!({}));
        mapped.mounts[0].idmap = Some(runtime_spec::model::MountIdmap::default());
        assert!(plan_dump(&mapped, &facts(Mode::Unified), &[]).unwrap_err().to_string().contains("/proc"));
    }

    #[test]
    fn binds_and_devices_are_of_the_host() {
        let mut spec = spec(serde_json::json!({}), serde_json::json!({}));
        let bind = Mount {
            destination: "/data".to_owned(),
            kind: MountKind::Bind { recursive: true },
            source: Some("data".to_owned()),
            ..Mount::default()
        };
        spec.mounts.push(bind);
        let mounts = external_mounts(&spec, &facts(Mode::Unified), &[], "/b");
        let find =
            |path: &str| mounts.iter().find(|mount| mount.destination == path).map(|mount| mount.source.as_str());
        assert_eq!(find("/data"), Some("/b/data"));
        assert_eq!(find("/dev/null"), Some("/dev/null"));
        assert_eq!(find("/proc"), None);
    }

    /// A container may have no group in some hierarchy: where it may not be written, or where systemd makes none.
    #[test]
    fn a_missing_group_does_not_move_the_others() {
        let hierarchy = |id, name: &str| Hierarchy {
            id,
            controllers: vec![name.to_owned()],
            mountpoint: format!("/sys/fs/cgroup/{name}"),
            own_path: "/own".to_owned(),
        };
        let mut facts = facts(Mode::Legacy);
        facts.cgroups.hierarchies = vec![hierarchy(5, "memory"), hierarchy(4, "freezer"), hierarchy(3, "cpu")];
        let namespaces = serde_json::json!([{ "type": "mount" }]);
        let mut spec = spec(serde_json::json!({}), serde_json::json!({ "namespaces": namespaces }));
        spec.mounts.retain(|mount| mount.kind == MountKind::Cgroup);
        let listed = external_mounts(&spec, &facts, &[group(5, "memory"), group(3, "cpu")], "");
        let pairs: Vec<_> = listed
            .iter()
            .filter(|mount| mount.destination.starts_with("/sys"))
            .map(|mount| (mount.destination.as_str(), mount.source.as_str()))
            .collect();
        let expected = [
            ("/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/web1"),
            ("/sys/fs/cgroup/freezer", "/sys/fs/cgroup/freezer/own"),
            ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu/web1"),
        ];
        assert_eq!(pairs, expected);
    }

    #[test]
    fn a_sysfs_that_is_a_copy_of_the_hosts_is_of_the_host() {
        let map = serde_json::json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
        let check = |namespaces: serde_json::Value, expected: Option<&str>| {
            let linux = serde_json::json!({ "namespaces": namespaces, "uidMappings": map, "gidMappings": map });
            let spec = spec(serde_json::json!({}), linux);
            let mounts = external_mounts(&spec, &facts(Mode::Unified), &[], "");
            let found = mounts.iter().find(|mount| mount.destination == "/sys");
            assert_eq!(found.map(|mount| mount.source.as_str()), expected);
        };
        let (user, mount, network) = (json("user"), json("mount"), json("network"));
        check(serde_json::json!([user, mount]), Some("/sys"));
        check(serde_json::json!([user, mount, network]), None);
    }

    fn json(kind: &str) -> serde_json::Value {
        serde_json::json!({ "type": kind })
    }
}
