//! `check`: everything that is wrong with a bundle, at once.

use runtime_spec::{Finding, Severity};
use serde::Serialize;

use super::render_json_indented;

/// The JSON form.
#[derive(Debug, Serialize)]
struct Document<'a> {
    /// The file that was read.
    file: &'a str,
    /// Whether a container could be made from it.
    valid: bool,
    /// In the order in which they were found.
    findings: &'a [Finding],
}

/// Whether one of them is an error.
#[must_use]
pub fn has_errors(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Error)
}

/// Renders one finding a line, `file:pointer: severity: message [section]`, and a line that counts them.
#[must_use]
pub fn render_text(file: &str, findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let severity = render_severity(finding.severity);
        out += &format!("{file}:{}: {severity}: {} [{}]\n", finding.pointer, finding.message, finding.section);
    }
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    out + &format!("{file}: {}, {}\n", count(errors, "error"), count(findings.len() - errors, "warning"))
}

/// Renders one JSON object.
///
/// # Errors
/// None that can happen: all keys are text.
pub fn render_document(file: &str, findings: &[Finding]) -> serde_json::Result<String> {
    let document = Document { file, valid: !has_errors(findings), findings };
    render_json_indented(&document, "  ").map(|text| text + "\n")
}

fn render_severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Finding> {
        let finding = |severity, pointer: &str, message: &str| Finding {
            severity,
            pointer: pointer.to_owned(),
            section: "config.md, process",
            message: message.to_owned(),
        };
        vec![
            finding(Severity::Error, "/process/cwd", "process.cwd must be absolute, not \"a\""),
            finding(Severity::Warning, "/process", "process.x is not known"),
        ]
    }

    #[test]
    fn text() {
        let expected = "\
config.json:/process/cwd: error: process.cwd must be absolute, not \"a\" [config.md, process]
config.json:/process: warning: process.x is not known [config.md, process]
config.json: 1 error, 1 warning
";
        assert_eq!(render_text("config.json", &findings()), expected);
        assert_eq!(render_text("config.json", &[]), "config.json: 0 errors, 0 warnings\n");
    }

    #[test]
    fn json() {
        let text = render_document("config.json", &findings()[..1]).expect("JSON");
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["valid"], false);
        assert_eq!(value["findings"][0]["severity"], "error");
        assert_eq!(value["findings"][0]["pointer"], "/process/cwd");
        let text = render_document("config.json", &findings()[1..]).expect("JSON");
        assert!(text.contains("\"valid\": true"), "{text}");
    }
}
