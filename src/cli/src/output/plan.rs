//! `plan`: what would be done, as a list for people or as a document.

use engine::plan::Plan;
use serde_json::Value;

use super::render_json_indented;

/// Renders the plan as JSON over several lines.
///
/// # Errors
/// None that can happen: all keys are text.
pub fn render_document(plan: &Plan) -> serde_json::Result<String> {
    render_json_indented(plan, "  ").map(|text| text + "\n")
}

/// Renders the plan as numbered lists.
///
/// # Errors
/// None that can happen: all keys are text.
pub fn render_text(plan: &Plan) -> serde_json::Result<String> {
    // Through the text: a second serializer for all steps would take 30 KB of the binary.
    let document: Value = serde_json::from_str(&render_document(plan)?)?;
    let mut text = format!("plan for container {:?}\n", plan.id);
    for (title, key) in [("host side", "host"), ("child side", "child"), ("undo, last first", "undo")] {
        text += &format!("\n{title}:\n");
        for (number, step) in document[key].as_array().into_iter().flatten().enumerate() {
            text += &format!("{:>4}. {}\n", number + 1, render_step(step));
        }
    }
    if !plan.notes.is_empty() {
        text += "\nnotes:\n";
        for note in &plan.notes {
            text += &format!("   - {note}\n");
        }
    }
    Ok(text)
}

/// One step on one line: its name, its values, and where in the definition it comes from.
fn render_step(step: &Value) -> String {
    let Some(fields) = step.as_object() else { return step.to_string() };
    let name = ["step", "undo"].iter().find_map(|key| fields.get(*key)).and_then(Value::as_str).unwrap_or_default();
    let mut line = name.replace('_', " ");
    for (key, value) in fields.iter().filter(|(key, _)| !matches!(key.as_str(), "step" | "undo" | "from")) {
        line += &format!(" {key}={value}");
    }
    if let Some(from) = fields.get("from").and_then(Value::as_str) {
        line += &format!("  [{from}]");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::render_step;

    #[test]
    fn a_step_is_one_line() {
        let step = serde_json::json!({ "step": "open_rootfs", "path": "/r", "slot": 0, "from": "/root/path" });
        assert_eq!(render_step(&step), "open rootfs path=\"/r\" slot=0  [/root/path]");
    }
}
