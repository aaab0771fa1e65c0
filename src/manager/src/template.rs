//! Templates: root file systems that containers share, in versions.
//!
//! ```text
//! templates/NAME/current                  link to versions/V, replaced by a rename
//! templates/NAME/versions/V/rootfs        the files; a lower layer, which containers only read
//!                           template.toml as it was written
//!                           version.json  what a container of it gets, with that of its base
//!                           hooks         programs of the hooks
//!                          /.V.new        being built: removed at the next command if nobody works on it
//! locks/.templates                        shared: a version is taken into use; exclusive: one is taken away
//! locks/.template.NAME                    who builds
//! ```
//!
//! A version never changes. A container takes the current one at its start, and keeps it until it ends.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::bundle::read_lower;
use crate::changes;
use crate::definition::{Definition, From, Limits, Process, Volume, parse_cpus, parse_volume};
use crate::ops::remove_tree;
use crate::places::{Lock, Places, remove_if_there, validate_name};
use crate::run::Manager;
use crate::size::parse_size;
use crate::validate::validate_memory;

/// Name of the source's document, which a version keeps.
pub const SOURCE: &str = "template.toml";
/// Name of the document of a version.
pub const VERSION: &str = "version.json";
/// File of a version that is being built: the id of the container that runs its scripts.
pub const BUILDER: &str = "builder";
/// Lock of versions in use.
const LOCK: &str = ".templates";

/// What `template.toml` says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The template's name.
    pub name: String,
    /// What it is made from: a path, relative ones from the folder of the document, an image or a template.
    pub base: String,
    /// What the scripts can reach.
    #[serde(default)]
    pub network: BuildNetwork,
    /// What a container of it gets unless told otherwise.
    #[serde(default)]
    pub defaults: Defaults,
    /// Programs of the host that run at moments of a container's life. A relative path is one in the folder `hooks`.
    #[serde(default)]
    pub hooks: Hooks,
}

/// What scripts can reach at build time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BuildNetwork {
    /// Nothing.
    #[default]
    None,
    /// What the host reaches.
    Host,
}

/// What a container gets unless told otherwise.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Defaults {
    /// Program and arguments.
    pub command: Vec<String>,
    /// The program of a container that is a whole system, where there is no command.
    pub init: Option<String>,
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// Working folder.
    pub workdir: Option<String>,
    /// `USER[:GROUP]`.
    pub user: Option<String>,
    /// Name inside, in which `{name}` is the container's.
    pub hostname: Option<String>,
    /// Limits.
    pub limits: LimitTexts,
    /// `SOURCE:DESTINATION[:ro]`.
    pub volumes: Vec<String>,
    /// Signal that asks it to end.
    pub stop_signal: Option<String>,
}

/// Limits as people write them.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitTexts {
    /// Such as `512M`.
    pub memory: Option<String>,
    /// Such as `0.5`.
    pub cpus: Option<String>,
    /// Tasks.
    pub pids: Option<i64>,
}

/// Programs at moments of a container's life. Spec: runtime-spec, config.md, "POSIX-platform Hooks".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hooks {
    /// On the host, before its root is its own.
    pub create_runtime: Vec<PathBuf>,
    /// In its namespaces, before its root is its own.
    pub create_container: Vec<PathBuf>,
    /// Inside, before its program begins.
    pub start_container: Vec<PathBuf>,
    /// On the host, when its program has begun.
    pub poststart: Vec<PathBuf>,
    /// On the host, when it is gone.
    pub poststop: Vec<PathBuf>,
}

impl Hooks {
    fn all(&self) -> [(&'static str, &[PathBuf]); 5] {
        [
            ("createRuntime", &self.create_runtime),
            ("createContainer", &self.create_container),
            ("startContainer", &self.start_container),
            ("poststart", &self.poststart),
            ("poststop", &self.poststop),
        ]
    }
}

/// A version, as it is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Version of the document.
    pub schema: u32,
    /// When it was built, seconds since 1970.
    pub created: u64,
    /// What it was built from: a path, `image:NAME` or `template:NAME:VERSION`.
    pub base: String,
    /// Names of the scripts that ran.
    pub scripts: Vec<String>,
    /// What a container of it runs.
    pub process: Process,
    /// The first program of a whole system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    /// Name inside, in which `{name}` is the container's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Limits.
    #[serde(default)]
    pub limits: Limits,
    /// Folders and files of the host.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// Signal that asks a container to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Programs at moments of a container's life.
    #[serde(default)]
    pub hooks: Hooks,
}

/// Reads `template.toml`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_source(text: &str) -> Result<Source> {
    let source: Source = toml::from_str(text)?;
    validate_name("template", &source.name)?;
    Ok(source)
}

/// What a version will be, from its source and that of its base.
///
/// # Errors
/// A value of the source makes no sense.
pub fn plan_version(source: &Source, base: &Version, created: u64) -> Result<Version> {
    let defaults = &source.defaults;
    let wrong = |what: &'static str| move |said: String| anyhow::anyhow!("{what}: {said}");
    let mut version = Version {
        schema: Definition::SCHEMA,
        created,
        base: source.base.clone(),
        scripts: Vec::new(),
        hooks: source.hooks.clone(),
        ..base.clone()
    };
    let init: Vec<String> = defaults.init.iter().cloned().collect();
    for command in [&init, &defaults.command] {
        if !command.is_empty() {
            version.process.args.clone_from(command);
        }
    }
    version.init = defaults.init.clone().or(version.init);
    for (key, value) in &defaults.env {
        version.process.env.retain(|entry| entry.split('=').next() != Some(key));
        version.process.env.push(format!("{key}={value}"));
    }
    if let Some(workdir) = &defaults.workdir {
        if !workdir.starts_with('/') {
            bail!("defaults.workdir {workdir:?} must be an absolute path");
        }
        version.process.cwd.clone_from(workdir);
    }
    let or = |new: &Option<String>, old: Option<String>| new.clone().or(old);
    version.process.user = or(&defaults.user, version.process.user);
    version.hostname = or(&defaults.hostname, version.hostname);
    version.stop_signal = or(&defaults.stop_signal, version.stop_signal);
    let limits = &defaults.limits;
    if let Some(text) = &limits.memory {
        version.limits.memory =
            Some(parse_size(text).and_then(validate_memory).map_err(wrong("defaults.limits.memory"))?);
    }
    if let Some(text) = &limits.cpus {
        version.limits.millicpus = Some(parse_cpus(text).map_err(wrong("defaults.limits.cpus"))?);
    }
    version.limits.pids = limits.pids.or(version.limits.pids);
    for text in &defaults.volumes {
        let volume = parse_volume(text).map_err(wrong("defaults.volumes"))?;
        version.volumes.retain(|known| known.destination != volume.destination);
        version.volumes.push(volume);
    }
    Ok(version)
}

/// The folder of a version.
#[must_use]
pub fn folder(places: &Places, name: &str, version: &str) -> PathBuf {
    places.templates().join(name).join("versions").join(version)
}

/// The current version's name; `None` where there is no such template.
///
/// # Errors
/// The link cannot be read.
pub fn current(places: &Places, name: &str) -> Result<Option<String>> {
    let link = places.templates().join(name).join("current");
    match fs::read_link(&link) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        other => {
            let target = other.with_context(|| format!("cannot read {}", link.display()))?;
            Ok(target.file_name().and_then(|name| name.to_str()).map(str::to_owned))
        }
    }
}

/// What a container of a base gets unless told otherwise: of a template what its current version says, else nothing.
///
/// # Errors
/// The version cannot be read.
pub fn read_defaults(places: &Places, from: &From) -> Result<Version> {
    let From::Template { name } = from else { return Ok(Version::default()) };
    let version = current(places, name)?.with_context(|| format!("template {name:?} has no current version"))?;
    read(places, name, &version)
}

/// Reads what a version says.
///
/// # Errors
/// There is none; it cannot be read.
pub fn read(places: &Places, name: &str, version: &str) -> Result<Version> {
    let path = folder(places, name, version).join(VERSION);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("template {name:?} has no version {version:?}"),
        other => other.with_context(|| format!("cannot read {}", path.display()))?,
    };
    serde_json::from_slice(&bytes).with_context(|| format!("cannot use {}", path.display()))
}

/// Renders the hooks of a container's next run; `None` where its base has none.
///
/// # Errors
/// The version cannot be read.
pub fn read_hooks(places: &Places, from: &From) -> Result<Option<Value>> {
    let From::Template { name } = from else { return Ok(None) };
    let Some(version) = current(places, name)? else { return Ok(None) };
    let hooks = read(places, name, &version)?.hooks;
    let own = folder(places, name, &version).join("hooks");
    Ok((hooks != Hooks::default()).then(|| render_hooks(&hooks, &own)))
}

fn render_hooks(hooks: &Hooks, own: &Path) -> Value {
    let mut rendered = json!({});
    for (moment, programs) in hooks.all() {
        if !programs.is_empty() {
            // An absolute path replaces the folder.
            rendered[moment] = programs.iter().map(|path| json!({ "path": own.join(path) })).collect();
        }
    }
    rendered
}

/// Held while a container of a template starts, so that its version is not taken away in between.
///
/// # Errors
/// What the kernel says.
pub fn lock_in_use(places: &Places, from: &From) -> Result<Option<Lock>> {
    match from {
        From::Template { .. } => places.lock_own_shared(LOCK).map(Some),
        _ => Ok(None),
    }
}

/// The templates in order.
///
/// # Errors
/// What the kernel says.
pub fn names(places: &Places) -> Result<Vec<String>> {
    changes::names(&places.templates())
}

/// The versions of a template, the oldest first.
///
/// # Errors
/// One of them cannot be read.
pub fn versions(places: &Places, name: &str) -> Result<Vec<(String, Version)>> {
    let mut found = Vec::new();
    for version in changes::names(&places.templates().join(name).join("versions"))? {
        if !version.starts_with('.') {
            let record = read(places, name, &version)?;
            // It is written once; a second, which the record has, is long enough for several.
            let path = folder(places, name, &version).join(VERSION);
            let written = fs::metadata(&path).and_then(|meta| meta.modified());
            found.push((written.with_context(|| format!("cannot look at {}", path.display()))?, version, record));
        }
    }
    found.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    Ok(found.into_iter().map(|(_, version, record)| (version, record)).collect())
}

fn number(version: &str) -> Option<u64> {
    version.parse().ok()
}

/// The number above all that are names of versions.
#[must_use]
pub fn plan_number(versions: &[(String, Version)]) -> String {
    versions.iter().filter_map(|(name, _)| number(name)).max().map_or(1, |last| last.saturating_add(1)).to_string()
}

/// Makes a version the current one.
///
/// # Errors
/// There is no such version; what the kernel says.
pub fn switch(places: &Places, name: &str, version: &str) -> Result<()> {
    let _lock = places.lock_own(LOCK)?;
    validate_name("template", name)?;
    validate_name("version", version)?;
    read(places, name, version)?;
    let folder = places.templates().join(name);
    let next = folder.join(".current.new");
    remove_if_there(&next)?;
    symlink(Path::new("versions").join(version), &next)
        .and_then(|()| fs::rename(&next, folder.join("current")))
        .with_context(|| format!("cannot switch template {name:?}"))
}

/// The versions that neither are current nor have a running container, but for the newest `keep` of each template. They
/// are taken away unless this is a dry run. Returns `NAME:VERSION`.
///
/// # Errors
/// What cannot be read; then nothing is taken away.
pub fn gc(manager: &Manager, keep: usize, dry_run: bool) -> Result<Vec<String>> {
    let places = &manager.places;
    let names = names(places)?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let _lock = places.lock_own(LOCK)?;
    let used = read_used(manager)?;
    let mut found = Vec::new();
    for name in names {
        let current = current(places, &name)?;
        let unused = |version: &String| {
            let folder = folder(places, &name, version);
            Some(version) != current.as_ref() && !used.iter().any(|layer| layer.starts_with(&folder))
        };
        let all = versions(places, &name)?.into_iter().map(|(version, _)| version);
        let candidates: Vec<String> = all.filter(unused).collect();
        let count = candidates.len().saturating_sub(keep);
        found.extend(candidates.into_iter().take(count).map(|version| (name.clone(), version)));
    }
    for (name, version) in found.iter().filter(|_| !dry_run) {
        changes::discard(places, &folder(places, name, version))?;
    }
    Ok(found.into_iter().map(|(name, version)| format!("{name}:{version}")).collect())
}

/// Takes away a version, or a template with all of them.
///
/// # Errors
/// It is in use, or not there; what the kernel says.
pub fn remove(manager: &Manager, name: &str, version: Option<&str>) -> Result<()> {
    let places = &manager.places;
    validate_name("template", name)?;
    let _building = places.lock_own(&build_lock(name))?;
    let _lock = places.lock_own(LOCK)?;
    let Some(version) = version else {
        let folder = places.templates().join(name);
        if !folder.is_dir() {
            bail!("there is no template {name:?}");
        }
        for container in Definition::names(places)? {
            let of_it = |definition: &Definition| definition.from == From::Template { name: name.to_owned() };
            if Definition::read(places, &container)?.is_some_and(|definition| of_it(&definition)) {
                bail!("template {name:?} is what container {container:?} is made from");
            }
        }
        return changes::discard(places, &folder);
    };
    validate_name("version", version)?;
    read(places, name, version)?;
    if current(places, name)?.as_deref() == Some(version) {
        bail!("version {version:?} of template {name:?} is the current one");
    }
    let folder = folder(places, name, version);
    if read_used(manager)?.iter().any(|layer| layer.starts_with(&folder)) {
        bail!("a running container uses version {version:?} of template {name:?}");
    }
    changes::discard(places, &folder)
}

/// The layers that running containers have, the links in their paths resolved as their start resolved them.
///
/// # Errors
/// What the runtime says; a config.json cannot be read.
pub fn read_used(manager: &Manager) -> Result<Vec<PathBuf>> {
    let mut used = Vec::new();
    for state in manager.runtime.list()?.iter().filter(|state| state.status.is_alive()) {
        if let Some(layers) = read_lower(&manager.places.container(&state.id))? {
            used.extend(layers);
        }
    }
    Ok(used)
}

/// Name of the lock of whoever builds a template.
#[must_use]
pub fn build_lock(name: &str) -> String {
    format!(".template.{name}")
}

/// Takes away versions whose building was interrupted, with the container that ran their scripts.
///
/// # Errors
/// What the kernel or the runtime says.
pub fn recover(manager: &Manager) -> Result<()> {
    let places = &manager.places;
    let names = match names(places) {
        // An ordinary user may not look.
        Err(error)
            if error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::PermissionDenied) =>
        {
            return Ok(());
        }
        other => other?,
    };
    for name in names {
        let versions = places.templates().join(&name).join("versions");
        let left: Vec<String> = changes::names(&versions)?.into_iter().filter(|name| name.starts_with('.')).collect();
        if left.is_empty() {
            continue;
        }
        if let Some(_lock) = places.try_lock_own(&build_lock(&name))? {
            for left in left {
                undo_build(manager, &versions.join(left))?;
            }
        }
    }
    Ok(())
}

/// Takes away a version that is being built.
///
/// # Errors
/// What the kernel or the runtime says.
pub fn undo_build(manager: &Manager, unfinished: &Path) -> Result<()> {
    if let Ok(builder) = fs::read_to_string(unfinished.join(BUILDER))
        && manager.runtime.state(&builder)?.is_some()
    {
        manager.runtime.delete(&builder)?;
    }
    remove_tree(unfinished)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
        name = "php"
        base = "image:debian"
        network = "host"
        [defaults]
        init = "/sbin/init"
        command = ["php-fpm", "-F"]
        env = { PHP = "8" }
        workdir = "/srv"
        user = "www"
        hostname = "{name}.example.org"
        limits = { memory = "512M", cpus = "0.5", pids = 100 }
        volumes = ["/srv/www:/www:ro"]
        stop_signal = "QUIT"
        [hooks]
        poststart = ["announce", "/usr/bin/log"]
    "#;

    #[test]
    fn a_source_says_what_its_containers_get() {
        let source = parse_source(SOURCE).unwrap();
        assert_eq!(source.network, BuildNetwork::Host);
        let version = plan_version(&source, &Version::default(), 7).unwrap();
        assert_eq!(version.process.args, ["php-fpm", "-F"]);
        assert_eq!(version.process.env, ["PHP=8"]);
        assert_eq!(
            version.limits,
            Limits { memory: Some(512 << 20), millicpus: Some(500), pids: Some(100), disk: None }
        );
        assert!(version.volumes[0].read_only);
        let hooks = render_hooks(&version.hooks, Path::new("/t/hooks"));
        assert_eq!(hooks, json!({ "poststart": [{ "path": "/t/hooks/announce" }, { "path": "/usr/bin/log" }] }));
    }

    #[test]
    fn a_source_adds_to_what_its_base_says() {
        let base = plan_version(&parse_source(SOURCE).unwrap(), &Version::default(), 1).unwrap();
        let text = "name = \"x\"\nbase = \"php\"\n[defaults]\nenv = { PHP = \"9\", B = \"c\" }\nlimits = { pids = 5 }";
        let version = plan_version(&parse_source(text).unwrap(), &base, 2).unwrap();
        assert_eq!(version.process.env, ["B=c", "PHP=9"]);
        assert_eq!(version.process.args, base.process.args);
        assert_eq!(version.limits, Limits { pids: Some(5), ..base.limits });
        assert_eq!((version.created, version.base.as_str()), (2, "php"));
        assert_eq!(version.hooks, Hooks::default());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "base = \"x\"",
            "name = \"../x\"\nbase = \"x\"",
            "name = \"x\"\nbase = \"x\"\ncolour = 1",
            "name = \"x\"\nbase = \"x\"\n[defaults]\nlimits = { memory = 5 }",
        ] {
            parse_source(text).unwrap_err();
        }
        for defaults in ["workdir = \"srv\"", "volumes = [\"a\"]", "limits = { memory = \"many\" }"] {
            let source = parse_source(&format!("name = \"x\"\nbase = \"x\"\n[defaults]\n{defaults}")).unwrap();
            plan_version(&source, &Version::default(), 1).unwrap_err();
        }
    }

    #[test]
    fn numbers_go_on_above_the_greatest() {
        let named = |name: &str| (name.to_owned(), Version::default());
        assert_eq!(plan_number(&[]), "1");
        assert_eq!(plan_number(&[named("9"), named("10"), named("8.3")]), "11");
    }
}
