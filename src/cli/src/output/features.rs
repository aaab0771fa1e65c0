//! `features`: what this build supports.

use runtime_spec::features::features;

use super::render_json_indented;
use super::version::{COMMIT, VERSION};

/// Renders the features document. It tells about the program alone, so that it is the same on every host.
///
/// # Errors
/// None that can happen: all keys are text.
pub fn render_features() -> serde_json::Result<String> {
    let mut document = features();
    let about = [("io.skep.version", VERSION), ("io.skep.commit", COMMIT), ("io.skep.checkpoint.enabled", "true")];
    document.annotations.extend(about.map(|(key, value)| (key.to_owned(), value.to_owned())));
    render_json_indented(&document, "    ").map(|text| text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_engines_look_for_is_there() {
        let document: serde_json::Value = serde_json::from_str(&render_features().expect("JSON")).expect("JSON");
        let has = |pointer: &str, word: &str| {
            let list = document.pointer(pointer).and_then(serde_json::Value::as_array).expect("a list");
            assert!(list.iter().any(|entry| entry == word), "{pointer} lacks {word}");
        };
        assert_eq!(document["ociVersionMax"], "1.3.0");
        has("/mountOptions", "rro");
        has("/linux/namespaces", "user");
        assert_eq!(document["linux"]["mountExtensions"]["idmap"]["enabled"], true);
        assert_eq!(document["annotations"]["io.skep.version"], VERSION);
    }
}
