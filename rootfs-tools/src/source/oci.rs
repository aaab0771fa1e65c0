//! OCI image layouts: `oci-layout`, `index.json`, `blobs/sha256/…`.
//!
//! OCI image-spec 1.1: image-layout.md, image-index.md, manifest.md.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::digest::Digest;
use crate::limits::Limits;

use super::{Files, Plan, Platform, Select, SourceError, digest_of, make_plan, parse_document};

/// Indexes that may be nested. One is usual, two are seen.
const NESTED: usize = 4;

/// A document that names another. Hashes are read when they are used: an index may name what we have no use for.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(crate) platform: Option<Platform>,
}

/// A manifest or an index: they are told by what they have.
#[derive(Debug, Deserialize)]
pub(crate) struct Document {
    pub(crate) manifests: Option<Vec<Descriptor>>,
    pub(crate) config: Option<Descriptor>,
    pub(crate) layers: Option<Vec<Descriptor>>,
}

/// Reads the documents of the image that is asked for.
pub(crate) fn read_plan(files: &dyn Files, select: &Select, limits: &Limits) -> Result<Plan, SourceError> {
    let name = "index.json";
    let bytes = files.document(name, limits.document)?.ok_or_else(|| SourceError::Missing(name.to_owned()))?;
    let index: Document = parse_document(name, &bytes)?;
    let named = select_named(index.manifests.unwrap_or_default(), select.reference.as_deref())?;
    let read = |descriptor: &Descriptor| read_blob(files, descriptor, limits.document);
    let (config, layers) = resolve(named, select.platform.as_ref(), &read)?;
    let layers = layers.iter().map(parse_layer).collect::<Result<Vec<_>, _>>()?;
    let layers = layers.into_iter().map(|(digest, size)| (blob_name(digest), Some(digest), Some(size))).collect();
    let (bytes, id) = (read(&config)?, config.digest.parse()?);
    make_plan(parse_document(&config.digest, &bytes)?, id, layers)
}

/// Follows indexes to one manifest, and returns what it names: the configuration and the layers.
pub(crate) fn resolve(
    mut candidates: Vec<Descriptor>,
    platform: Option<&Platform>,
    read: &dyn Fn(&Descriptor) -> Result<Vec<u8>, SourceError>,
) -> Result<(Descriptor, Vec<Descriptor>), SourceError> {
    for _ in 0..NESTED {
        let chosen = select_platform(candidates, platform)?;
        let document: Document = parse_document(&chosen.digest, &read(&chosen)?)?;
        match document {
            Document { manifests: Some(manifests), .. } => candidates = manifests,
            Document { config: Some(config), layers, .. } => return Ok((config, layers.unwrap_or_default())),
            _ => return Err(SourceError::Unsupported(format!("{} is neither manifest nor index", chosen.digest))),
        }
    }
    Err(SourceError::Unsupported(format!("its indexes are nested more than {NESTED} times")))
}

/// Those with the name that is asked for: a whole name, its tag alone, or a digest.
fn select_named(all: Vec<Descriptor>, reference: Option<&str>) -> Result<Vec<Descriptor>, SourceError> {
    let Some(wanted) = reference else { return Ok(all) };
    let (named, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|descriptor| {
        let names = names_of(descriptor);
        descriptor.digest == wanted
            || names.contains(&wanted)
            || names.iter().any(|name| name.rsplit_once(':').is_some_and(|(_, tag)| tag == wanted))
    });
    if named.is_empty() {
        let found = others.iter().map(shown).collect();
        return Err(SourceError::NoReference { wanted: wanted.to_owned(), found });
    }
    Ok(named)
}

/// The one for the machine. What has no platform is for any; what is for an unknown one is no image (a signature, a
/// statement on how it was built).
pub(crate) fn select_platform(all: Vec<Descriptor>, platform: Option<&Platform>) -> Result<Descriptor, SourceError> {
    let wanted = platform.cloned().unwrap_or_else(Platform::host);
    let fits = |descriptor: &&Descriptor| match &descriptor.platform {
        None => true,
        Some(offered) => wanted.accepts(offered) || offered.os.is_empty() && offered.architecture.is_empty(),
    };
    let chosen: Vec<&Descriptor> = all.iter().filter(fits).collect();
    match chosen.as_slice() {
        [one] => Ok((*one).clone()),
        [] => {
            let found = all.iter().filter_map(|descriptor| descriptor.platform.as_ref()).map(ToString::to_string);
            Err(SourceError::NoPlatform { wanted: wanted.to_string(), found: found.collect() })
        }
        [first, others @ ..] => {
            // The same manifest under several names, or variants of one processor: then the first is the general one.
            let same = others.iter().all(|other| other.digest == first.digest);
            let variants = chosen.iter().all(|one| one.platform.is_some());
            if same || variants {
                Ok((*first).clone())
            } else {
                Err(SourceError::Several(chosen.iter().map(|one| shown(one)).collect()))
            }
        }
    }
}

/// Hash and length of a layer that can be unpacked.
pub(crate) fn parse_layer(descriptor: &Descriptor) -> Result<(Digest, u64), SourceError> {
    let kind = &descriptor.media_type;
    if kind.contains("encrypted") || !(kind.is_empty() || kind.contains("tar")) {
        return Err(SourceError::Unsupported(format!("layer {} is of type {kind:?}, no archive", descriptor.digest)));
    }
    Ok((descriptor.digest.parse()?, descriptor.size))
}

pub(crate) fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Reads a document, and compares its length and hash with what names it.
fn read_blob(files: &dyn Files, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, SourceError> {
    let digest: Digest = descriptor.digest.parse()?;
    let name = blob_name(digest);
    let bytes = files.document(&name, limit)?.ok_or_else(|| SourceError::Missing(name.clone()))?;
    verify(&name, &bytes, descriptor.size, digest)?;
    Ok(bytes)
}

pub(crate) fn verify(name: &str, bytes: &[u8], size: u64, digest: Digest) -> Result<(), SourceError> {
    let name = name.to_owned();
    if bytes.len() as u64 != size {
        return Err(SourceError::Content { name, found: format!("{} bytes instead of {size}", bytes.len()) });
    }
    match digest_of(bytes) {
        found if found != digest => Err(SourceError::Content { name, found: format!("it has {found}") }),
        _ => Ok(()),
    }
}

/// Names that tools give an image in an index: those of OCI, and containerd's whole one.
fn names_of(descriptor: &Descriptor) -> Vec<&str> {
    let keys = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];
    let annotations = descriptor.annotations.as_ref();
    keys.iter().filter_map(|key| annotations?.get(*key)).map(String::as_str).collect()
}

fn shown(descriptor: &Descriptor) -> String {
    names_of(descriptor).first().map_or_else(|| descriptor.digest.clone(), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(name: Option<&str>, platform: Option<(&str, &str, Option<&str>)>, digit: char) -> Descriptor {
        Descriptor {
            media_type: String::new(),
            digest: format!("sha256:{}", digit.to_string().repeat(64)),
            size: 1,
            annotations: name.map(|name| [("org.opencontainers.image.ref.name".to_owned(), name.to_owned())].into()),
            platform: platform.map(|(os, architecture, variant)| Platform {
                os: os.into(),
                architecture: architecture.into(),
                variant: variant.map(Into::into),
            }),
        }
    }

    #[test]
    fn an_image_is_found_by_name_tag_or_digest() {
        let all = vec![descriptor(Some("reg.example/a:1"), None, 'a'), descriptor(Some("2"), None, 'b')];
        let check = |wanted: &str, expected: Option<char>| {
            let found =
                select_named(all.clone(), Some(wanted)).ok().map(|found| found[0].digest.chars().last().unwrap());
            assert_eq!(found, expected, "{wanted}");
        };
        check("reg.example/a:1", Some('a'));
        check("1", Some('a'));
        check("2", Some('b'));
        check(&format!("sha256:{}", "b".repeat(64)), Some('b'));
        check("3", None);
        let error = select_named(all, Some("3")).unwrap_err().to_string();
        assert_eq!(error, "there is no image \"3\" in it (reg.example/a:1, 2)");
    }

    #[test]
    fn the_machine_decides_between_manifests() {
        let arm = Platform { os: "linux".into(), architecture: "arm".into(), variant: Some("v7".into()) };
        let all = vec![
            descriptor(None, Some(("linux", "amd64", None)), 'a'),
            descriptor(None, Some(("linux", "arm", Some("v6"))), 'b'),
            descriptor(None, Some(("linux", "arm", Some("v7"))), 'c'),
            descriptor(None, Some(("unknown", "unknown", None)), 'd'),
        ];
        let chosen = |platform: &Platform| select_platform(all.clone(), Some(platform)).map(|d| d.digest);
        assert!(chosen(&arm).unwrap().ends_with('c'));
        assert!(chosen(&Platform { variant: None, ..arm.clone() }).unwrap().ends_with('b'));
        let error = chosen(&Platform { architecture: "s390x".into(), ..arm }).unwrap_err().to_string();
        assert!(error.starts_with("it has no image for linux/s390x/v7 (linux/amd64, linux/arm/v6"), "{error}");
        let several = vec![descriptor(Some("x"), None, 'a'), descriptor(Some("y"), None, 'b')];
        assert_eq!(
            select_platform(several, None).unwrap_err().to_string(),
            "it has several images (x, y): one has to be named"
        );
    }

    #[test]
    fn a_layer_that_is_no_archive_is_refused() {
        let mut layer = descriptor(None, None, 'a');
        layer.media_type = "application/vnd.oci.image.layer.v1.tar+gzip".into();
        assert!(parse_layer(&layer).is_ok());
        layer.media_type = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted".into();
        assert!(parse_layer(&layer).is_err());
        layer.media_type = "application/vnd.in-toto+json".into();
        assert!(parse_layer(&layer).is_err());
    }
}
