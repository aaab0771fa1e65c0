//! The layers of a root file system in an annotation (docs/overlay.md).

use super::{check_absolute, items, text};
use crate::finding::{Log, Path};
use crate::model::{ContainerSpec, NamespaceKind};
use crate::oci;
use crate::overlay::{ANNOTATION, LOWER_MAX, Overlay, Upper};

const SECTION: &str = "docs/overlay.md, fields";

/// Reads, judges and lowers the layers, where there are some. The namespaces have to be known.
pub(super) fn lower(spec: &ContainerSpec, at: &Path<'_>, log: &mut Log) -> Option<Overlay> {
    let annotation = spec.annotations.get(ANNOTATION)?;
    let at = &at.key(ANNOTATION);
    let written: oci::Overlay = oci::read_embedded(annotation, at, log)?;
    let lower = items(&written.lower);
    let lower_at = &at.key("lower");
    if lower.is_empty() || lower.len() > LOWER_MAX {
        log.error(lower_at, SECTION, format_args!("must have 1 to {LOWER_MAX} entries, not {}", lower.len()));
    }
    for (index, path) in lower.iter().enumerate() {
        check_absolute(path, &lower_at.item(index), SECTION, log);
    }
    let hide = items(&written.hide);
    let hide_at = &at.key("hide");
    for (index, path) in hide.iter().enumerate() {
        let at = &hide_at.item(index);
        check_absolute(path, at, SECTION, log);
        if path.trim_matches('/').is_empty() || path.split('/').any(|part| part == ".." || part == ".") {
            log.error(at, SECTION, "must be a path below / without \".\" and \"..\"");
        }
    }
    if spec.namespace(NamespaceKind::Mount).is_none() {
        log.error(at, SECTION, "needs a namespace of type \"mount\"");
    }
    let idmap = written.idmap.unwrap_or(false);
    if idmap && spec.namespace(NamespaceKind::User).is_none() {
        log.error(&at.key("idmap"), SECTION, "needs a namespace of type \"user\"");
    }
    Some(Overlay {
        lower: lower.to_vec(),
        upper: upper(&written, at, log),
        hide: hide.to_vec(),
        idmap,
        user_xattr: written.user_xattr.unwrap_or(false),
        volatile: written.volatile.unwrap_or(false),
    })
}

fn upper(written: &oci::Overlay, at: &Path<'_>, log: &mut Log) -> Upper {
    for (key, path) in [("upper", &written.upper), ("work", &written.work)] {
        if let Some(path) = path {
            check_absolute(path, &at.key(key), SECTION, log);
        }
    }
    match (text(&written.upper), text(&written.work), written.memory) {
        (None, None, None) => Upper::None,
        (None, None, Some(bytes)) => Upper::Memory { bytes },
        (Some(upper), Some(work), None) if folder(upper) != folder(work) || upper == work => {
            log.error(&at.key("work"), SECTION, "must be in the same folder as \"upper\", by another name");
            Upper::None
        }
        (Some(upper), Some(work), None) => Upper::Folder { upper: upper.to_owned(), work: work.to_owned() },
        (_, _, Some(_)) => {
            log.error(&at.key("memory"), SECTION, "cannot stand beside \"upper\" and \"work\"");
            Upper::None
        }
        _ => {
            log.error(at, SECTION, "must have \"upper\" and \"work\", or neither");
            Upper::None
        }
    }
}

/// What a path is in.
fn folder(path: &str) -> Option<&str> {
    path.trim_end_matches('/').rsplit_once('/').map(|(folder, _)| folder)
}
