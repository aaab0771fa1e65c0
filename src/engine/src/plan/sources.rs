//! Which side copies the source of a bind mount, and where its path begins.
//!
//! The host side copies before the clone where the child may not be able to: a user namespace, a mount namespace that is
//! joined. Else the child does it at its turn, so that the mounts of the container have their numbers in the order of
//! the definition. A source inside the root file system that an earlier mount covers exists only then, and only there.

use std::borrow::Cow;

use runtime_spec::ContainerSpec;
use runtime_spec::model::{Mount, MountKind, NamespaceKind, PropagationKind};

use super::{Plan, has_user_namespace};
use crate::options::CreateOptions;
use crate::step::Within;

/// Who copies, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Copied {
    /// The host side, before the clone.
    Before,
    /// The child at its turn, from its own copy of the host's mounts.
    AtTurn,
    /// The child at its turn, from this path of the container.
    Inside(String),
}

/// Decides for the bind mount at `index`, whose source is `path`.
pub(super) fn copied(spec: &ContainerSpec, options: &CreateOptions, index: usize, path: &str) -> Copied {
    let recursive = matches!(spec.mounts[index].kind, MountKind::Bind { recursive: true });
    if spec.namespace(NamespaceKind::Mount).is_none() {
        return Copied::Before;
    }
    if let Some(rest) = below_any(path, &roots(spec, options)) {
        let covered = spec.mounts[..index].iter().filter(|mount| attaches(mount)).any(|earlier| {
            is_below(&rest, &earlier.destination) || (recursive && is_below(&earlier.destination, &rest))
        });
        return if covered { Copied::Inside(rest) } else { Copied::Before };
    }
    of_host(spec, options, path)
}

/// Decides for something of the host that lies outside the root file system.
pub(super) fn of_host(spec: &ContainerSpec, options: &CreateOptions, path: &str) -> Copied {
    let same_rights = spec.makes(NamespaceKind::Mount) && !has_user_namespace(spec);
    let copies = spec.rootfs_propagation.is_none_or(|p| p.kind != PropagationKind::Unbindable);
    // A copy of what the root file system lies in would have the container's own mounts in it.
    let around = is_below(&options.rootfs, path);
    if same_rights && copies && !around { Copied::AtTurn } else { Copied::Before }
}

impl Copied {
    pub(super) fn within(&self) -> Within {
        if matches!(self, Copied::Inside(_)) { Within::Container } else { Within::Host }
    }
}

/// A remount changes what is there; everything else covers it.
fn attaches(mount: &Mount) -> bool {
    !matches!(mount.kind, MountKind::Remount { .. } | MountKind::Missing)
}

/// The host's names of the root file system: without links, and as the definition writes it.
fn roots(spec: &ContainerSpec, options: &CreateOptions) -> [String; 2] {
    let written = match spec.root.path.starts_with('/') {
        true => spec.root.path.clone(),
        false => format!("{}/{}", options.bundle, spec.root.path),
    };
    [options.rootfs.clone(), written]
}

/// Destinations that are written with the host's path of the root file system before them, as other runtimes take them:
/// they are what is left without it.
pub(super) fn strip_destinations<'s>(
    plan: &mut Plan,
    spec: &'s ContainerSpec,
    options: &CreateOptions,
) -> Cow<'s, ContainerSpec> {
    let roots = roots(spec, options);
    let mut spec = Cow::Borrowed(spec);
    for index in 0..spec.mounts.len() {
        if let Some(rest) = below_any(&spec.mounts[index].destination, &roots) {
            plan.note(format!(
                "mounts[{index}]: the destination begins with the root file system's path; it is {rest}"
            ));
            spec.to_mut().mounts[index].destination = rest;
        }
    }
    spec
}

fn below_any(path: &str, roots: &[String; 2]) -> Option<String> {
    roots.iter().find_map(|root| below(path, root))
}

/// The rest of a path below a folder, by name alone, beginning with `/`. A path with `..` in it is below none, since
/// links decide where that leads; nor is anything below `/`, which is no bundle's root file system alone.
fn below(path: &str, folder: &str) -> Option<String> {
    let mut names = names(path)?;
    let mut outer = names_of(folder).peekable();
    outer.peek()?;
    outer.all(|name| names.next() == Some(name)).then(|| format!("/{}", names.collect::<Vec<_>>().join("/")))
}

/// Whether a path is a folder or below it, by name alone.
fn is_below(path: &str, folder: &str) -> bool {
    names(path).is_some_and(|mut names| names_of(folder).all(|name| names.next() == Some(name)))
}

/// Names of a path; `None` where one is `..`.
fn names(path: &str) -> Option<impl Iterator<Item = &str>> {
    names_of(path).all(|name| name != "..").then(|| names_of(path))
}

fn names_of(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty() && *name != ".")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn bind(source: &str, destination: &str) -> Value {
        json!({ "source": source, "destination": destination, "options": ["bind"] })
    }

    fn rbind(source: &str, destination: &str) -> Value {
        json!({ "source": source, "destination": destination, "options": ["rbind"] })
    }

    fn tmpfs(destination: &str) -> Value {
        json!({ "source": "tmpfs", "type": "tmpfs", "destination": destination })
    }

    /// Decides for the last of these mounts; the root file system is `/b/real`, written as `root`, in the bundle `/b`.
    #[track_caller]
    fn check_in(namespaces: Value, propagation: Option<&str>, mounts: &[Value], expected: Copied) {
        let mut config = serde_json::to_value(runtime_spec::example::example(false)).unwrap();
        config["root"]["path"] = json!("root");
        config["hostname"] = Value::Null;
        config["mounts"] = json!(mounts);
        config["linux"] = json!({ "namespaces": namespaces });
        if let Some(kind) = propagation {
            config["linux"]["rootfsPropagation"] = json!(kind);
        }
        let report = runtime_spec::load(&serde_json::to_vec(&config).unwrap());
        let spec = report.spec.unwrap_or_else(|| panic!("{:?}", report.findings));
        let options =
            CreateOptions { bundle: "/b".to_owned(), rootfs: "/b/real".to_owned(), ..CreateOptions::default() };
        let spec = strip_destinations(&mut Plan::default(), &spec, &options);
        let last = spec.mounts.len() - 1;
        let source = spec.mounts[last].source.clone().unwrap();
        assert_eq!(copied(&spec, &options, last, &source), expected);
    }

    #[track_caller]
    fn check(mounts: &[Value], expected: Copied) {
        check_in(json!([{ "type": "mount" }]), None, mounts, expected);
    }

    fn inside(path: &str) -> Copied {
        Copied::Inside(path.to_owned())
    }

    #[test]
    fn what_an_earlier_mount_covers_is_copied_inside() {
        check(&[tmpfs("/mnt"), bind("/b/real/mnt/x", "/y")], inside("/mnt/x"));
        check(&[tmpfs("/mnt"), bind("/b/real/mnt", "/y")], inside("/mnt"));
        check(&[tmpfs("/mnt/"), bind("/b//real/./mnt/x/", "/y")], inside("/mnt/x"));
        check(&[tmpfs("/mnt"), bind("/b/root/mnt/x", "/y")], inside("/mnt/x"));
        check(&[tmpfs("/b/real/mnt"), bind("/b/real/mnt/x", "/y")], inside("/mnt/x"));
    }

    #[test]
    fn what_no_earlier_mount_covers_is_copied_before() {
        check(&[tmpfs("/mnt"), bind("/b/real/mnt2", "/y")], Copied::Before);
        check(&[tmpfs("/mnt/x"), bind("/b/real/mnt", "/y")], Copied::Before);
        check(&[tmpfs("/mnt"), bind("/b/real/../real/mnt", "/y")], Copied::AtTurn);
        check(&[bind("/b/real/mnt", "/mnt")], Copied::Before);
        let later = [tmpfs("/m"), bind("/b/real/mnt", "/y"), tmpfs("/mnt")];
        check(&later[..2], Copied::Before);
        let remount = json!({ "destination": "/mnt", "type": "none", "options": ["remount", "ro"] });
        check(&[remount, bind("/b/real/mnt", "/y")], Copied::Before);
    }

    #[test]
    fn a_recursive_copy_has_the_earlier_mounts_below_it() {
        check(&[tmpfs("/mnt/x"), rbind("/b/real/mnt", "/y")], inside("/mnt"));
        check(&[tmpfs("/mnt/x"), rbind("/b/real", "/y")], inside("/"));
        check(&[tmpfs("/other"), rbind("/b/real/mnt", "/y")], Copied::Before);
    }

    #[test]
    fn sources_of_the_host_are_copied_in_order_where_the_child_can() {
        let mounts = [tmpfs("/mnt"), bind("/srv/data", "/y")];
        check(&mounts, Copied::AtTurn);
        check(&[rbind("/", "/host")], Copied::Before);
        check(&[rbind("/b", "/host")], Copied::Before);
        let user = json!([{ "type": "mount" }, { "type": "user" }]);
        check_in(user, None, &mounts, Copied::Before);
        check_in(json!([{ "type": "mount", "path": "/run/mnt" }]), None, &mounts, Copied::Before);
        check_in(json!([{ "type": "mount" }]), Some("unbindable"), &mounts, Copied::Before);
        check_in(json!([{ "type": "pid" }]), None, &mounts, Copied::Before);
    }

    #[test]
    fn a_joined_or_foreign_namespace_does_not_matter_inside() {
        let mounts = [tmpfs("/mnt"), bind("/b/real/mnt/x", "/y")];
        check_in(json!([{ "type": "mount", "path": "/run/mnt" }]), None, &mounts, inside("/mnt/x"));
        check_in(json!([{ "type": "mount" }, { "type": "user" }]), None, &mounts, inside("/mnt/x"));
        check_in(json!([{ "type": "pid" }]), None, &mounts, Copied::Before);
    }

    #[test]
    fn the_path_of_the_root_is_taken_from_destinations() {
        assert_eq!(below("/b/real/mnt/x", "/b/real"), Some("/mnt/x".to_owned()));
        assert_eq!(below("/b/real", "/b/real/"), Some("/".to_owned()));
        assert_eq!(below("/b/really", "/b/real"), None);
        assert_eq!(below("/b/real/../x", "/b/real"), None);
        assert_eq!(below("/mnt", "/"), None);
    }
}
