//! Configuration lists.

use serde_json::{Map, Value};

use super::Attachment;

/// Versions of the specification that are spoken.
pub(super) const VERSIONS: [&str; 3] = ["0.4.0", "1.0.0", "1.1.0"];

/// A network as its configuration list has it.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkList {
    /// Its name.
    pub name: String,
    /// The version that plugins are spoken to in: the list's `cniVersion`, or the newest of its `cniVersions` that we know.
    pub version: String,
    /// The plugins, as they stand there.
    pub plugins: Vec<Map<String, Value>>,
    /// Whether CHECK is not to be asked.
    pub disable_check: bool,
    /// Whether GC is not to be asked.
    pub disable_gc: bool,
    /// The list itself, for the cache.
    pub source: Value,
}

/// A text that is no configuration list.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// No JSON.
    #[error("no JSON")]
    Json(#[source] serde_json::Error),
    /// A member that is missing or wrong.
    #[error("{pointer}: {reason}")]
    Member {
        /// Where.
        pointer: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A version that is not spoken.
    #[error("/cniVersion: {0:?} is not spoken; 0.4.0, 1.0.0 and 1.1.0 are")]
    Version(String),
}

/// Reads a configuration list (`*.conflist`), or the configuration of one plugin (`*.conf`), which is a list of one.
///
/// # Errors
/// [`ListError`].
pub fn parse_list(text: &str) -> Result<NetworkList, ListError> {
    let source: Value = serde_json::from_str(text).map_err(ListError::Json)?;
    let member = |pointer: &str, reason| ListError::Member { pointer: pointer.to_owned(), reason };
    let list = source.as_object().ok_or_else(|| member("", "an object is wanted"))?;
    let name = list.get("name").and_then(Value::as_str).filter(|name| is_name(name));
    let name = name.ok_or_else(|| member("/name", "a name of letters, digits, _ . and - is wanted"))?;
    let plugins = match list.get("plugins") {
        None if list.contains_key("type") => vec![list.clone()],
        None => return Err(member("/plugins", "a list of plugins is wanted")),
        Some(plugins) => {
            let plugins = plugins.as_array().filter(|plugins| !plugins.is_empty());
            let plugins = plugins.ok_or_else(|| member("/plugins", "a list of plugins is wanted"))?;
            let objects: Option<Vec<_>> = plugins.iter().map(|plugin| plugin.as_object().cloned()).collect();
            objects.ok_or_else(|| member("/plugins", "each plugin is an object"))?
        }
    };
    for (index, plugin) in plugins.iter().enumerate() {
        let kind = plugin.get("type").and_then(Value::as_str);
        // The name of a file in the plugins' folders, never a path out of them.
        if !kind.is_some_and(|kind| is_name(kind) && kind != "." && kind != "..") {
            return Err(member(&format!("/plugins/{index}/type"), "the name of a plugin is wanted"));
        }
    }
    let is_on = |key: &str| match list.get(key) {
        Some(Value::Bool(on)) => *on,
        // The specification had it as a text for a while.
        Some(Value::String(text)) => text == "true",
        _ => false,
    };
    Ok(NetworkList {
        name: name.to_owned(),
        version: choose_version(list)?,
        plugins,
        disable_check: is_on("disableCheck"),
        disable_gc: is_on("disableGC"),
        source: source.clone(),
    })
}

fn is_name(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    !name.is_empty() && name.len() <= 200 && name.bytes().all(known) && name.as_bytes()[0].is_ascii_alphanumeric()
}

fn choose_version(list: &Map<String, Value>) -> Result<String, ListError> {
    let offered = list.get("cniVersions").and_then(Value::as_array);
    let offered: Vec<&str> = offered.into_iter().flatten().filter_map(Value::as_str).collect();
    if let Some(version) = VERSIONS.iter().rev().find(|version| offered.contains(version)) {
        return Ok((*version).to_owned());
    }
    let version = list.get("cniVersion").and_then(Value::as_str).unwrap_or_default();
    if VERSIONS.contains(&version) { Ok(version.to_owned()) } else { Err(ListError::Version(version.to_owned())) }
}

/// Whether a plugin's configuration says that it can do something.
fn declares(plugin: &Map<String, Value>, capability: &str) -> bool {
    let declared = plugin.get("capabilities").and_then(|declared| declared.get(capability));
    declared.and_then(Value::as_bool).unwrap_or(false)
}

impl NetworkList {
    /// Whether one of its plugins can do what a capability of [`Attachment`] asks for.
    #[must_use]
    pub fn can(&self, capability: &str) -> bool {
        self.plugins.iter().any(|plugin| declares(plugin, capability))
    }

    /// Whether plugins know GC: since 1.1.0.
    pub(super) fn has_gc(&self) -> bool {
        self.version == "1.1.0" && !self.disable_gc
    }

    /// What a plugin reads: its own configuration with the network's name and version. Section 3 of the specification.
    pub(super) fn plain_config(&self, plugin: &Map<String, Value>) -> Map<String, Value> {
        let mut config = plugin.clone();
        config.remove("capabilities");
        config.insert("cniVersion".to_owned(), self.version.clone().into());
        config.insert("name".to_owned(), self.name.clone().into());
        config
    }

    /// The same for one attachment: with what the container asks for of what the plugin can, and the result so far.
    pub(super) fn config_of(
        &self,
        plugin: &Map<String, Value>,
        attachment: &Attachment,
        previous: Option<&Value>,
    ) -> Map<String, Value> {
        let mut config = self.plain_config(plugin);
        let can = |capability: &str| declares(plugin, capability);
        let wanted: Map<String, Value> =
            attachment.capabilities.iter().filter(|(name, _)| can(name)).map(|(k, v)| (k.clone(), v.clone())).collect();
        if !wanted.is_empty() {
            config.insert("runtimeConfig".to_owned(), Value::Object(wanted));
        }
        if let Some(previous) = previous {
            config.insert("prevResult".to_owned(), previous.clone());
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_and_what_its_plugins_read() {
        let list = parse_list(
            r#"{"cniVersion":"1.0.0","name":"lan","disableCheck":true,"plugins":[
                {"type":"bridge","bridge":"b0"},{"type":"portmap","capabilities":{"portMappings":true}}]}"#,
        )
        .unwrap();
        assert!(list.disable_check && !list.has_gc());
        let capabilities = serde_json::json!({"portMappings":[{"hostPort":80}],"bandwidth":{}});
        let attachment = Attachment {
            container: "web".to_owned(),
            netns: "/n".to_owned(),
            link: "eth0".to_owned(),
            args: String::new(),
            capabilities: capabilities.as_object().cloned().unwrap(),
        };
        let render = |index: usize, previous: Option<&Value>| {
            Value::Object(list.config_of(&list.plugins[index], &attachment, previous))
        };
        assert_eq!(
            render(0, None),
            serde_json::json!({"type":"bridge","bridge":"b0","cniVersion":"1.0.0","name":"lan"})
        );
        assert_eq!(
            render(1, Some(&serde_json::json!({"ips":[]}))),
            serde_json::json!({"type":"portmap","cniVersion":"1.0.0","name":"lan","prevResult":{"ips":[]},
                "runtimeConfig":{"portMappings":[{"hostPort":80}]}})
        );
    }

    #[test]
    fn one_plugin_is_a_list_of_one() {
        let list = parse_list(r#"{"cniVersion":"0.4.0","name":"lo","type":"loopback"}"#).unwrap();
        assert_eq!((list.plugins.len(), list.version.as_str()), (1, "0.4.0"));
    }

    #[test]
    fn the_newest_version_that_both_know() {
        let text = |versions: &str| format!(r#"{{"cniVersion":"0.4.0",{versions}"name":"x","type":"y"}}"#);
        let version = |versions: &str| parse_list(&text(versions)).unwrap().version;
        assert_eq!(version(""), "0.4.0");
        assert_eq!(version(r#""cniVersions":["1.0.0","1.1.0","9.0.0"],"#), "1.1.0");
        assert_eq!(version(r#""cniVersions":["9.0.0"],"#), "0.4.0");
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(parse_list(text).unwrap_err().to_string(), expected);
    }

    #[test]
    fn errors_say_where() {
        check("{", "no JSON");
        check("[]", ": an object is wanted");
        check(r#"{"name":"a/b"}"#, "/name: a name of letters, digits, _ . and - is wanted");
        check(r#"{"name":"a"}"#, "/plugins: a list of plugins is wanted");
        check(r#"{"name":"a","plugins":[]}"#, "/plugins: a list of plugins is wanted");
        check(r#"{"name":"a","plugins":[{}]}"#, "/plugins/0/type: the name of a plugin is wanted");
        check(r#"{"name":"a","plugins":[{"type":"../x"}]}"#, "/plugins/0/type: the name of a plugin is wanted");
        check(
            r#"{"cniVersion":"0.3.1","name":"a","type":"x"}"#,
            r#"/cniVersion: "0.3.1" is not spoken; 0.4.0, 1.0.0 and 1.1.0 are"#,
        );
    }

    proptest::proptest! {
        #[test]
        fn foreign_lists_never_panic(text in r#"\{("(name|type|plugins|cniVersion)":("[a-z0-9.]{0,6}"|\[\]|\[\{\}\]|1),?){0,5}\}"#) {
            if let Ok(list) = parse_list(&text) {
                assert!(!list.plugins.is_empty());
            }
        }
    }
}
