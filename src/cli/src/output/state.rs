//! `state`: the state document of one container.

use runtime_spec::state::State;

use super::render_json_indented;

/// Renders what `state` prints.
///
/// # Errors
/// None that can happen: all keys are text.
pub fn render_state(state: &State) -> serde_json::Result<String> {
    render_json_indented(state, "  ").map(|text| text + "\n")
}

#[cfg(test)]
pub(crate) fn sample(id: &str) -> State {
    State {
        oci_version: "1.3.0".to_owned(),
        id: id.to_owned(),
        pid: Some(4242),
        status: runtime_spec::state::Status::Running,
        bundle: "/bundles/web".to_owned(),
        rootfs: Some("/bundles/web/rootfs".to_owned()),
        created: Some("2026-08-19T12:34:56.000000789Z".to_owned()),
        annotations: std::collections::BTreeMap::new(),
        owner: Some(String::new()),
        oom_kills: None,
        usage: None,
        process_start: None,
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
        state.oom_kills = Some(2);
        let expected = expected.replace("\"owner\": \"\"", "\"owner\": \"\",\n  \"oomKills\": 2");
        assert_eq!(render_state(&state).expect("JSON"), expected);
    }
}
