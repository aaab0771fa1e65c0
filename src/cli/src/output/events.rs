//! `events`: one JSON object a line.

use cgroup::pressure::Trigger;
use cgroup::stats::Pressure;
use cgroup::stats::runc_json::Psi;
use serde::Serialize;

use super::render_json;

/// The envelope of every event.
#[derive(Debug, Serialize)]
struct Event<'a, T> {
    /// `stats`, `oom` or `pressure`.
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

/// A stall that was to be told of, and the pressure at that time.
#[derive(Debug, Serialize)]
struct Stalled {
    resource: &'static str,
    share: &'static str,
    /// Microseconds, as all times of pressure.
    stall: u128,
    window: u128,
    psi: Psi,
}

/// Renders the notice that tasks of the container stall.
///
/// # Errors
/// None that can happen: all keys are text.
pub fn render_pressure(id: &str, trigger: Trigger, pressure: Pressure) -> serde_json::Result<String> {
    let data = Stalled {
        resource: trigger.resource.name(),
        share: trigger.share.name(),
        stall: trigger.stall.as_micros(),
        window: trigger.window.as_micros(),
        psi: pressure.into(),
    };
    render_json(&Event { kind: "pressure", id, data: Some(data) })
}

#[cfg(test)]
mod tests {
    use cgroup::stats::PressureLine;

    use super::*;

    #[test]
    fn the_envelope() {
        let stats = serde_json::json!({ "pids": { "current": 2 } });
        let expected = r#"{"type":"stats","id":"web","data":{"pids":{"current":2}}}"#;
        assert_eq!(render_stats("web", stats).expect("JSON"), format!("{expected}\n"));
        let trigger = cgroup::pressure::Trigger {
            resource: cgroup::pressure::Resource::Io,
            share: cgroup::pressure::Share::Some,
            stall: std::time::Duration::from_millis(1),
            window: std::time::Duration::from_secs(1),
        };
        let pressure = Pressure { some: PressureLine { total: 7, ..PressureLine::default() }, ..Pressure::default() };
        let expected = r#"{"type":"pressure","id":"web","data":{"resource":"io","share":"some","stall":1000,"window":1000000,"psi":{"some":{"avg10":0,"avg60":0,"avg300":0,"total":7}}}}"#;
        assert_eq!(render_pressure("web", trigger, pressure).expect("JSON"), format!("{expected}\n"));
        assert_eq!(render_oom("a\"b").expect("JSON"), "{\"type\":\"oom\",\"id\":\"a\\\"b\"}\n");
    }
}
