//! The state of a container as `state` and `list` print it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::render_json_indented;

/// The state document of the runtime specification (runtime.md, state) with the fields that runc adds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StateDocument {
    /// Version of the specification that the container's definition names.
    pub oci_version: String,
    /// Name of the container.
    pub id: String,
    /// Process id of its first process on the host; 0 where there is none.
    pub pid: i32,
    /// `creating`, `created`, `running`, `stopped` or `paused`.
    pub status: String,
    /// Absolute path of the bundle.
    pub bundle: String,
    /// Absolute path of the root file system.
    pub rootfs: String,
    /// When it was made, as RFC 3339 text.
    pub created: String,
    /// Annotations of the definition.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Name, or `#` and number, of the user whose container it is. Empty in the output of `state`, as in runc.
    pub owner: String,
}

/// Renders what `state` prints.
///
/// # Errors
/// None that can happen: all keys are text.
pub fn render_state(state: &StateDocument) -> serde_json::Result<String> {
    render_json_indented(state, "  ").map(|text| text + "\n")
}

#[cfg(test)]
pub(crate) fn sample(id: &str) -> StateDocument {
    StateDocument {
        oci_version: "1.3.0".to_owned(),
        id: id.to_owned(),
        pid: 4242,
        status: "running".to_owned(),
        bundle: "/bundles/web".to_owned(),
        rootfs: "/bundles/web/rootfs".to_owned(),
        created: "2026-08-19T12:34:56.000000789Z".to_owned(),
        annotations: BTreeMap::new(),
        owner: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_the_names_that_callers_read() {
        let mut state = sample("web");
        state.annotations.insert("a.b".to_owned(), "c".to_owned());
        let expected = r#"{
  "ociVersion": "1.3.0",
  "id": "web",
  "pid": 4242,
  "status": "running",
  "bundle": "/bundles/web",
  "rootfs": "/bundles/web/rootfs",
  "created": "2026-08-19T12:34:56.000000789Z",
  "annotations": {
    "a.b": "c"
  },
  "owner": ""
}
"#;
        assert_eq!(render_state(&state).expect("JSON"), expected);
    }
}
