//! CNI plugins, by exec, for those who have them.
//!
//! ```text
//! parse_list                 a configuration list -> NetworkList                                          pure
//! add, delete, check, gc     run the plugins of a list, in order (delete: backwards)
//! CACHE/NETWORK-CONTAINER-LINK.json    what an attachment was made with and its result: on disk before the first plugin
//!                                      runs, so that delete has all that it needs after a crash
//! ```
//! A plugin is told what to do by its environment and input (CNI specification 0.4.0 to 1.1.0, sections 2 to 4), and finds
//! the network namespace by a path. Folders of plugins and of the cache are the caller's; nothing is read from our own
//! environment.

mod cache;
mod list;
mod plugin;

use serde_json::Value;

use cache::Cache;
pub use cache::Cached;
pub use list::{ListError, NetworkList, parse_list};
pub use plugin::{Paths, PluginError};

use plugin::Command;

/// One container in one network.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Attachment {
    /// The container's id.
    pub container: String,
    /// Path of its network namespace; empty at DEL where there is none any more.
    pub netns: String,
    /// The link's name inside.
    pub link: String,
    /// Extra arguments (CNI_ARGS), as `KEY=VALUE;...`.
    #[serde(default)]
    pub args: String,
    /// What the container asks for, by capability, as `{"portMappings":[...]}`.
    #[serde(default)]
    pub capabilities: serde_json::Map<String, Value>,
}

/// What can go wrong with a CNI network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A plugin failed.
    #[error("CNI network {network:?}")]
    Plugin {
        /// The network.
        network: String,
        /// Which plugin, and why.
        #[source]
        source: PluginError,
    },
    /// A plugin failed, and so did taking the others back.
    #[error("{first}; taking it back failed too: {undo}")]
    Undo {
        /// What failed first.
        first: Box<Error>,
        /// What failed when taking it back.
        undo: Box<Error>,
    },
    /// The container has that link already.
    #[error("container {container:?} has a link {link:?} in CNI network {network:?} already")]
    Attached {
        /// The container.
        container: String,
        /// The link.
        link: String,
        /// The network.
        network: String,
    },
    /// There is nothing to check.
    #[error("container {container:?} has no link {link:?} in CNI network {network:?}")]
    NotAttached {
        /// The container.
        container: String,
        /// The link.
        link: String,
        /// The network.
        network: String,
    },
    /// A name that is none of a file.
    #[error("{what} {name:?} has characters that CNI does not allow")]
    Name {
        /// What it names.
        what: &'static str,
        /// As given.
        name: String,
    },
    /// A file of the cache.
    #[error(transparent)]
    File(#[from] crate::FileError),
}

/// Gives a container a link in a network: runs ADD of each plugin with the result of the one before. Returns the result of
/// the last. A failure takes back what was done.
///
/// # Errors
/// [`Error::Attached`], [`Error::Plugin`], [`Error::Undo`], what the kernel says.
pub fn add(paths: &Paths, list: &NetworkList, attachment: &Attachment) -> Result<Value, Error> {
    let cache = prepare(paths, list, attachment)?;
    if cache.read(attachment)?.is_some() {
        return Err(attached(list, attachment));
    }
    let plugins = paths.plugins.clone();
    let mut cached = Cached { attachment: attachment.clone(), list: list.source.clone(), plugins, result: None };
    cache.write(&cached)?;
    match run_add(paths, list, attachment) {
        Ok(result) => {
            cached.result = Some(result.clone());
            cache.write(&cached)?;
            Ok(result)
        }
        Err(first) => match remove(&cache, paths, list, &cached) {
            Ok(()) => Err(first),
            Err(undo) => Err(Error::Undo { first: Box::new(first), undo: Box::new(undo) }),
        },
    }
}

fn attached(list: &NetworkList, attachment: &Attachment) -> Error {
    let Attachment { container, link, .. } = attachment.clone();
    Error::Attached { container, link, network: list.name.clone() }
}

fn run_add(paths: &Paths, list: &NetworkList, attachment: &Attachment) -> Result<Value, Error> {
    let mut previous: Option<Value> = None;
    for plugin in &list.plugins {
        let config = list.config_of(plugin, attachment, previous.as_ref());
        let output = plugin::run(paths, Command::Add, plugin, &config, Some(attachment));
        let result = output.map_err(|source| Error::Plugin { network: list.name.clone(), source })?;
        // One that says nothing leaves the result as it was.
        previous = if result.is_null() { previous } else { Some(result) };
    }
    Ok(previous.unwrap_or_else(|| serde_json::json!({ "cniVersion": list.version })))
}

/// Takes the link back: runs DEL of each plugin, the last first, with the list and the result that ADD had. May be called
/// again, and when nothing is there (False).
///
/// # Errors
/// [`Error::Plugin`], what the kernel says; all other plugins were run then, and the cache is kept for another try.
pub fn delete(paths: &Paths, list: &NetworkList, attachment: &Attachment) -> Result<bool, Error> {
    let cache = prepare(paths, list, attachment)?;
    let Some(mut cached) = cache.read(attachment)? else { return Ok(false) };
    cached.attachment.netns.clone_from(&attachment.netns);
    remove(&cache, paths, &made_with(list, &cached), &cached).map(|()| true)
}

fn remove(cache: &Cache<'_>, paths: &Paths, list: &NetworkList, cached: &Cached) -> Result<(), Error> {
    let mut failure = None;
    for plugin in list.plugins.iter().rev() {
        let config = list.config_of(plugin, &cached.attachment, cached.result.as_ref());
        if let Err(source) = plugin::run(paths, Command::Del, plugin, &config, Some(&cached.attachment)) {
            failure = failure.or(Some(Error::Plugin { network: list.name.clone(), source }));
        }
    }
    match failure {
        Some(failure) => Err(failure),
        None => cache.remove(&cached.attachment),
    }
}

/// Asks each plugin whether the link is as ADD made it.
///
/// # Errors
/// [`Error::NotAttached`], [`Error::Plugin`] with what a plugin misses, what the kernel says.
pub fn check(paths: &Paths, list: &NetworkList, attachment: &Attachment) -> Result<(), Error> {
    let cache = prepare(paths, list, attachment)?;
    let cached = cache.read(attachment)?.filter(|cached| cached.result.is_some());
    let cached = cached.ok_or_else(|| {
        let Attachment { container, link, .. } = attachment.clone();
        Error::NotAttached { container, link, network: list.name.clone() }
    })?;
    if list.disable_check {
        return Ok(());
    }
    for plugin in &list.plugins {
        let config = list.config_of(plugin, attachment, cached.result.as_ref());
        plugin::run(paths, Command::Check, plugin, &config, Some(attachment))
            .map_err(|source| Error::Plugin { network: list.name.clone(), source })?;
    }
    Ok(())
}

/// All attachments of a cache, of every network.
///
/// # Errors
/// What the kernel says; a file that was not written by this library.
pub fn attachments(cache: &str) -> Result<Vec<Cached>, Error> {
    cache::read_all(cache)
}

/// Takes away what belongs to containers that are gone: DEL for each attachment of the cache that is not live, then GC of
/// each plugin where the list is of 1.1.0. Returns the containers.
///
/// `is_live` is asked while nobody else can work on the network: an attachment that is seen was made before, and one that is
/// made later is not touched. What is being started has to count as live.
///
/// # Errors
/// The first [`Error::Plugin`]; the others were tried.
pub fn gc(paths: &Paths, list: &NetworkList, is_live: &dyn Fn(&Attachment) -> bool) -> Result<Vec<String>, Error> {
    let cache = Cache::lock(paths, &list.name)?;
    let (mut kept, dead): (Vec<Cached>, Vec<Cached>) =
        cache.all()?.into_iter().partition(|cached| is_live(&cached.attachment));
    let (mut gone, mut failure) = (Vec::new(), None);
    for mut cached in dead {
        // The namespace may be gone, and its path another container's by now.
        cached.attachment.netns.clear();
        match remove(&cache, paths, &made_with(list, &cached), &cached) {
            Ok(()) => gone.push(cached.attachment.container),
            Err(error) => {
                failure = failure.or(Some(error));
                // It stays until its DEL succeeds, also with the plugins.
                kept.push(cached);
            }
        }
    }
    if list.has_gc() {
        let valid = kept.iter().map(|cached| {
            serde_json::json!({ "containerID": cached.attachment.container, "ifname": cached.attachment.link })
        });
        let valid = Value::Array(valid.collect());
        for plugin in &list.plugins {
            let mut config = list.plain_config(plugin);
            config.insert("cni.dev/valid-attachments".to_owned(), valid.clone());
            if let Err(source) = plugin::run(paths, Command::Gc, plugin, &config, None) {
                failure = failure.or(Some(Error::Plugin { network: list.name.clone(), source }));
            }
        }
    }
    failure.map_or(Ok(gone), Err)
}

/// The list that an attachment was made with: that of today may have other plugins.
fn made_with(list: &NetworkList, cached: &Cached) -> NetworkList {
    list::parse_list(&cached.list.to_string()).unwrap_or_else(|_| list.clone())
}

/// Versions of the specification that a plugin speaks.
///
/// # Errors
/// [`PluginError`].
pub fn versions(paths: &Paths, plugin: &str) -> Result<Vec<String>, PluginError> {
    let config = serde_json::json!({ "cniVersion": list::VERSIONS[list::VERSIONS.len() - 1] });
    let config = config.as_object().cloned().unwrap_or_default();
    let found = serde_json::Map::from_iter([("type".to_owned(), Value::from(plugin))]);
    let output = plugin::run(paths, Command::Version, &found, &config, None)?;
    let versions = output.get("supportedVersions").and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(versions.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

/// Checks names and waits until nobody else works on the network.
fn prepare<'a>(paths: &Paths, list: &'a NetworkList, attachment: &Attachment) -> Result<Cache<'a>, Error> {
    let id = &attachment.container;
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if id.is_empty() || !id.as_bytes()[0].is_ascii_alphanumeric() || !id.bytes().all(known) {
        return Err(Error::Name { what: "container", name: id.clone() });
    }
    if crate::name::validate_name(&attachment.link).is_err() {
        return Err(Error::Name { what: "link", name: attachment.link.clone() });
    }
    Cache::lock(paths, &list.name)
}
