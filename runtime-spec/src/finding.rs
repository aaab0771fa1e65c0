//! What a definition is told about itself: findings, and where in the document they are.

use std::fmt;

/// How bad a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The definition is used all the same.
    Warning,
    /// The definition is refused.
    Error,
}

/// One thing that is wrong or odd in a definition.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// Whether the definition is refused because of it.
    pub severity: Severity,
    /// Where: a JSON pointer (RFC 6901) into the document that was read. Empty for the whole document.
    pub pointer: String,
    /// The file and section of the specification that says so, such as `config-linux.md, namespaces`.
    pub section: &'static str,
    /// Field, value and reason, in one line.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A place in a document: a list on the stack that becomes text only when there is something to say.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Path<'a> {
    /// The document.
    Root,
    /// A value of an object.
    Key(&'a Path<'a>, &'a str),
    /// A value of an array.
    Item(&'a Path<'a>, usize),
}

impl<'a> Path<'a> {
    /// The value that an object has under this name.
    pub(crate) fn key(&'a self, name: &'a str) -> Path<'a> {
        Path::Key(self, name)
    }

    /// The value that an array has at this index.
    pub(crate) fn item(&'a self, index: usize) -> Path<'a> {
        Path::Item(self, index)
    }

    /// The place as an RFC 6901 pointer: `/mounts/0/options`.
    pub(crate) fn pointer(&self) -> String {
        match self {
            Path::Root => String::new(),
            Path::Key(parent, name) => format!("{}/{}", parent.pointer(), name.replace('~', "~0").replace('/', "~1")),
            Path::Item(parent, index) => format!("{}/{index}", parent.pointer()),
        }
    }

    /// The place as people write it: `mounts[0].options`.
    fn dotted(&self) -> String {
        match self {
            Path::Root => String::new(),
            Path::Key(Path::Root, name) => (*name).to_string(),
            // A name with a dot of its own, such as a kernel parameter, would blur the border.
            Path::Key(parent, name) if name.contains(['.', '/']) => format!("{}[{name:?}]", parent.dotted()),
            Path::Key(parent, name) => format!("{}.{name}", parent.dotted()),
            Path::Item(parent, index) => format!("{}[{index}]", parent.dotted()),
        }
    }
}

/// Collects findings.
#[derive(Debug, Default)]
pub(crate) struct Log {
    findings: Vec<Finding>,
    errors: usize,
    dropped: usize,
    broken_at: Option<String>,
}

impl Log {
    /// More findings than a person reads; the rest is counted, so that a hostile document cannot fill the memory.
    const MAX: usize = 256;

    /// Records an error. The message goes on where the name of the place ends: `must be absolute, not "a"`.
    pub(crate) fn error(&mut self, at: &Path<'_>, section: &'static str, message: impl fmt::Display) {
        self.errors += 1;
        self.push(Severity::Error, at, section, &message);
    }

    /// Records a warning. The message goes on where the name of the place ends.
    pub(crate) fn warn(&mut self, at: &Path<'_>, section: &'static str, message: impl fmt::Display) {
        self.push(Severity::Warning, at, section, &message);
    }

    fn push(&mut self, severity: Severity, at: &Path<'_>, section: &'static str, message: &dyn fmt::Display) {
        if self.findings.len() >= Self::MAX {
            self.dropped += 1;
            return;
        }
        let pointer = at.pointer();
        if severity == Severity::Error && self.covered(&pointer) {
            return;
        }
        let name = at.dotted();
        let name = if name.is_empty() { "the document" } else { &name };
        self.findings.push(Finding { severity, pointer, section, message: format!("{name} {message}") });
    }

    /// Whether an error at this very place, or at one that holds it, was recorded: a value of the wrong type is read
    /// as absent, and the complaint that it is absent would say the same thing twice.
    fn covered(&self, pointer: &str) -> bool {
        self.findings.iter().any(|f| {
            f.severity == Severity::Error
                && f.section == crate::oci::SECTION
                && pointer.strip_prefix(f.pointer.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Remembers where the reader stood when the text broke off. The first call counts, which is the deepest place.
    pub(crate) fn broke(&mut self, at: &Path<'_>) {
        if self.broken_at.is_none() {
            self.broken_at = Some(at.pointer());
        }
    }

    /// Records that the text is not JSON.
    pub(crate) fn not_json(&mut self, section: &'static str, reason: &dyn fmt::Display) {
        self.errors += 1;
        let pointer = self.broken_at.take().unwrap_or_default();
        let message = format!("the document is not valid JSON: {reason}");
        self.findings.push(Finding { severity: Severity::Error, pointer, section, message });
    }

    /// Whether any error was recorded, shown or not.
    pub(crate) fn failed(&self) -> bool {
        self.errors > 0
    }

    /// The findings, in the order in which they were made.
    pub(crate) fn into_findings(mut self) -> Vec<Finding> {
        if self.dropped > 0 {
            let dropped = self.dropped;
            let severity = if self.failed() { Severity::Error } else { Severity::Warning };
            let message = format!("the document has {dropped} more findings that are not shown");
            self.findings.push(Finding {
                severity,
                pointer: String::new(),
                section: "config.md, valid values",
                message,
            });
        }
        self.findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_escape_and_names_stay_readable() {
        let sysctl = Path::Root.key("linux");
        let sysctl = sysctl.key("sysctl");
        let key = sysctl.key("net/a~b.c");
        assert_eq!(key.pointer(), "/linux/sysctl/net~1a~0b.c");
        assert_eq!(key.dotted(), r#"linux.sysctl["net/a~b.c"]"#);
        let mounts = Path::Root.key("mounts");
        let mount = mounts.item(3);
        let options = mount.key("options");
        assert_eq!((options.pointer().as_str(), options.dotted().as_str()), ("/mounts/3/options", "mounts[3].options"));
    }

    #[test]
    fn a_flood_of_findings_is_counted_and_still_refuses() {
        let mut log = Log::default();
        for _ in 0..Log::MAX {
            log.warn(&Path::Root, "x", "is odd");
        }
        log.error(&Path::Root, "x", "is wrong");
        assert!(log.failed());
        let findings = log.into_findings();
        assert_eq!(findings.len(), Log::MAX + 1);
        assert_eq!(findings[Log::MAX].severity, Severity::Error);
        assert!(findings[Log::MAX].message.contains("1 more"));
    }
}
