//! `events`: one JSON object a line.

use serde::Serialize;

use super::render_json;

/// The envelope of every event.
#[derive(Debug, Serialize)]
struct Event<'a, T> {
    /// `stats` or `oom`.
    #[serde(rename = "type")]
    kind: &'a str,
    /// The container.
    id: &'a str,
    /// What was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<T>,
}

/// Renders a report of usage.
///
/// # Errors
/// A map in `stats` has keys that are not text.
pub fn render_stats<T: Serialize>(id: &str, stats: T) -> serde_json::Result<String> {
    render_json(&Event { kind: "stats", id, data: Some(stats) })
}

/// Renders the notice that the kernel killed a process of the container for want of memory.
///
/// # Errors
/// None that can happen: all keys are text.
pub fn render_oom(id: &str) -> serde_json::Result<String> {
    render_json(&Event::<()> { kind: "oom", id, data: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope() {
        let stats = serde_json::json!({ "pids": { "current": 2 } });
        let expected = r#"{"type":"stats","id":"web","data":{"pids":{"current":2}}}"#;
        assert_eq!(render_stats("web", stats).expect("JSON"), format!("{expected}\n"));
        assert_eq!(render_oom("a\"b").expect("JSON"), "{\"type\":\"oom\",\"id\":\"a\\\"b\"}\n");
    }
}
