//! What `docker save` and `podman save` write: `manifest.json`, a configuration, and a file for each layer.

use serde::Deserialize;

use crate::digest::{Digest, parse_hex};
use crate::limits::Limits;

use super::{Files, Plan, Select, SourceError, digest_of, make_plan, parse_document};

/// One image of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// Reads the documents of the image that is asked for.
pub(crate) fn read_plan(files: &dyn Files, select: &Select, limits: &Limits) -> Result<Plan, SourceError> {
    let document =
        |name: &str| files.document(name, limits.document)?.ok_or_else(|| SourceError::Missing(name.to_owned()));
    let name = "manifest.json";
    let saved = select_saved(parse_document(name, &document(name)?)?, select.reference.as_deref())?;
    let bytes = document(&saved.config)?;
    let id = digest_of(&bytes);
    if let Some(named) = parse_config_name(&saved.config).filter(|named| *named != id) {
        return Err(SourceError::Content { name: named.to_string(), found: format!("it has {id}") });
    }
    let layers = saved.layers.unwrap_or_default().into_iter().map(|file| (file, None, None)).collect();
    make_plan(parse_document(&saved.config, &bytes)?, id, layers)
}

fn select_saved(mut all: Vec<Saved>, reference: Option<&str>) -> Result<Saved, SourceError> {
    let names = |saved: &Saved| saved.repo_tags.clone().unwrap_or_default();
    let found: Vec<String> = all.iter().flat_map(names).collect();
    match reference {
        None if all.len() == 1 => Ok(all.remove(0)),
        None if all.is_empty() => Err(SourceError::Missing("image".to_owned())),
        None => Err(SourceError::Several(found)),
        Some(wanted) => {
            let named = |saved: &Saved| {
                parse_config_name(&saved.config).is_some_and(|id| id.to_string() == wanted)
                    || names(saved).iter().any(|name| is_named(name, wanted))
            };
            let image = all.into_iter().find(named);
            image.ok_or_else(|| SourceError::NoReference { wanted: wanted.to_owned(), found })
        }
    }
}

/// Whether a name is the one that is asked for: as a whole, or from a `/` on (podman writes the registry in front), with
/// the tag `latest` where none is asked for.
fn is_named(name: &str, wanted: &str) -> bool {
    let ends = |name: &str| name == wanted || name.strip_suffix(wanted).is_some_and(|front| front.ends_with('/'));
    ends(name) || name.strip_suffix(":latest").is_some_and(ends)
}

/// The hash in the name of a configuration: `HEX.json`, or `blobs/sha256/HEX` since docker 25.
fn parse_config_name(name: &str) -> Option<Digest> {
    parse_hex(name.strip_prefix("blobs/sha256/").or_else(|| name.strip_suffix(".json"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(config: &str, tags: &[&str]) -> Saved {
        Saved { config: config.into(), repo_tags: Some(tags.iter().map(|tag| (*tag).into()).collect()), layers: None }
    }

    #[test]
    fn an_image_is_found_by_its_tags() {
        let all = vec![saved("a.json", &["localhost/x:1", "x:2"]), saved("b.json", &["reg.example/y:latest"])];
        let check = |wanted: &str, expected: Option<&str>| {
            let found = select_saved(all.clone(), Some(wanted)).ok().map(|saved| saved.config);
            assert_eq!(found.as_deref(), expected, "{wanted}");
        };
        check("x:1", Some("a.json"));
        check("x:2", Some("a.json"));
        check("y", Some("b.json"));
        check("reg.example/y:latest", Some("b.json"));
        check(":1", None);
        check("z", None);
        let error = select_saved(all, None).unwrap_err().to_string();
        assert_eq!(error, "it has several images (localhost/x:1, x:2, reg.example/y:latest): one has to be named");
    }

    #[test]
    fn a_configuration_is_named_by_its_hash() {
        let hex = "ab".repeat(32);
        let expected = Some(format!("sha256:{hex}"));
        for name in [format!("{hex}.json"), format!("blobs/sha256/{hex}")] {
            assert_eq!(parse_config_name(&name).map(|id| id.to_string()), expected);
        }
        assert_eq!(parse_config_name("config.json"), None);
    }
}
