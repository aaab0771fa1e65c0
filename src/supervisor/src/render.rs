//! A service as JSON for programs, and as a tree for people. Pure.

use serde_json::{Value, json};

use crate::definition::Topology;
use crate::runtime::container;
use crate::state::{Ms, Phase, Replica, Service, State, Target};

/// What a service is in all, in a word.
#[must_use]
pub fn overall(state: &State, service: &Service) -> &'static str {
    let has = |is: fn(&Phase) -> bool| service.replicas.values().any(|replica| is(&replica.phase));
    let running = service.ready();
    if has(|phase| matches!(phase, Phase::Failed { .. } | Phase::Stuck { .. })) {
        return if service.is_available() && running > 0 { "warn" } else { "failed" };
    }
    match (state.is_wanted(service), service.is_live()) {
        (true, _) if running >= service.scale => "up",
        (true, _) if service.is_available() && running > 0 => "warn",
        (true, _) => "down",
        (false, true) => "stopping",
        (false, false) => "stopped",
    }
}

/// One service with its replicas. Names of fields are not changed, only added to.
#[must_use]
pub fn service_json(state: &State, service: &Service, now: Ms) -> Value {
    let definition = &service.definition;
    let replicas: Vec<Value> =
        service.replicas.iter().map(|(index, replica)| replica_json(&definition.name, *index, replica, now)).collect();
    let kind = if definition.topology == Topology::Failover { "failover" } else { "flex" };
    let (min, _, max) = definition.topology.bounds();
    json!({
        "name": definition.name,
        "labels": definition.labels,
        "overall": overall(state, service),
        "available": service.is_available() && service.ready() > 0,
        "target": if service.target == Target::Started { "started" } else { "stopped" },
        "frozen": service.frozen,
        "generation": service.generation,
        "topology": kind,
        "scale": service.scale,
        "min": min,
        "max": max,
        "ready": service.ready(),
        "unit": definition.unit.word(),
        "depends": definition.depends,
        "why": state.why(service),
        "replicas": replicas,
    })
}

fn replica_json(name: &str, index: u32, replica: &Replica, now: Ms) -> Value {
    let mut json = json!({
        "index": index,
        "container": container(name, index),
        "phase": replica.phase.word(),
        "ready": replica.ready,
        "restarts": replica.restarts.len(),
        "last": replica.last,
    });
    match &replica.phase {
        Phase::Running { pid, since } => {
            json["pid"] = json!(pid);
            json["for_ms"] = json!(now.saturating_sub(*since));
        }
        Phase::Waiting { until } => json["in_ms"] = json!(until.saturating_sub(now)),
        Phase::Failed { why } | Phase::Stuck { why } => json["why"] = json!(why),
        _ => {}
    }
    json
}

/// The letter of a replica: `O` it does its work, `~` it runs and is not ready, `/` on its way, `X` down, `!` failed.
fn letter(replica: &Value) -> char {
    match (replica["phase"].as_str().unwrap_or_default(), replica["ready"] == true) {
        ("running", true) => 'O',
        ("running", false) => '~',
        ("starting" | "stopping" | "waiting", _) => '/',
        ("failed" | "stuck", _) => '!',
        _ => 'X',
    }
}

/// A service as a tree, from its JSON.
#[must_use]
pub fn render_tree(service: &Value) -> String {
    let text = |key: &str| service[key].as_str().unwrap_or_default().to_owned();
    let mut tree =
        format!("{}  {}{}\n", text("name"), text("overall"), if service["frozen"] == true { ", frozen" } else { "" });
    let available = if service["available"] == true { "up" } else { "down" };
    tree += &format!(
        "|- avail  {available}: {} of {} ready, {}, target {}\n",
        service["ready"],
        service["scale"],
        text("topology"),
        text("target")
    );
    let depends: Vec<&str> = list(&service["depends"]).iter().filter_map(Value::as_str).collect();
    if !depends.is_empty() {
        tree += &format!("|- after  {}\n", depends.join(", "));
    }
    tree += &format!("`- {}\n", text("unit"));
    let replicas = list(&service["replicas"]);
    for (number, replica) in replicas.iter().enumerate() {
        let branch = if number + 1 == replicas.len() { "`-" } else { "|-" };
        tree += &format!("   {branch} {}  {}\n", letter(replica), render_replica(replica));
    }
    tree
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn render_replica(replica: &Value) -> String {
    let mut text = format!("{}  {}", word(&replica["container"]), word(&replica["phase"]));
    if let Some(pid) = replica["pid"].as_u64() {
        text += &format!("  pid {pid}, for {} s", replica["for_ms"].as_u64().unwrap_or(0) / 1000);
    }
    if let Some(ms) = replica["in_ms"].as_u64() {
        text += &format!("  again in {ms} ms");
    }
    if let Some(why) = replica["why"].as_str() {
        text += &format!("  {why}");
    } else if let Some(last) = replica["last"].as_str() {
        text += &format!("  (last: {last})");
    }
    text
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A table of services, from their JSON.
#[must_use]
pub fn render_table(services: &[Value]) -> String {
    let mut rows = vec![["NAME", "OVERALL", "READY", "TARGET", "FROZEN"].map(str::to_owned)];
    rows.extend(services.iter().map(|service| {
        let ready = format!("{}/{}", service["ready"], service["scale"]);
        let frozen = if service["frozen"] == true { "yes" } else { "-" };
        let text = |key: &str| word(&service[key]).to_owned();
        [text("name"), text("overall"), ready, text("target"), frozen.to_owned()]
    }));
    let widths: Vec<usize> = (0..5).map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    let line = |row: &[String; 5]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}
