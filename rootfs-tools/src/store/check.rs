//! Looks whether the store keeps its promises.

use super::{Digest, Image, Layer};
use super::{Store, StoreError, list, read_record};

/// Something that should not be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// An image names a layer that is not there.
    #[error("image {image:?} names layer {layer}, which is not there")]
    LayerMissing {
        /// The image.
        image: String,
        /// The layer.
        layer: Digest,
    },
    /// An image cannot be read.
    #[error("images/{file}: {reason}")]
    Image {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// A layer cannot be read, lacks its tree, or has another's name.
    #[error("layers/{folder}: {reason}")]
    Layer {
        /// The folder.
        folder: String,
        /// Why.
        reason: String,
    },
    /// Something lies in the store that is none of its own.
    #[error("{0} does not belong here")]
    Stranger(String),
}

/// Looks at every record. Nothing is changed; what takes reading all content is not done.
///
/// # Errors
/// [`StoreError`] where a folder of the store cannot be listed.
pub fn check(store: &Store) -> Result<Vec<Finding>, StoreError> {
    let mut findings = Vec::new();
    let mut layers = Vec::new();
    for folder in list(&store.layers_folder())? {
        match Digest::parse_folder(&folder) {
            None => findings.push(Finding::Stranger(format!("layers/{folder}"))),
            Some(diff_id) => {
                layers.push(diff_id);
                findings.extend(check_layer(store, diff_id).map(|reason| Finding::Layer { folder, reason }));
            }
        }
    }
    for file in list(&store.images_folder())? {
        if !file.ends_with(".json") {
            findings.push(Finding::Stranger(format!("images/{file}")));
            continue;
        }
        match read_record::<Image>(&store.images_folder().join(&file)) {
            Ok(Some(image)) => {
                let missing = image.layers.iter().filter(|layer| !layers.contains(layer));
                findings
                    .extend(missing.map(|layer| Finding::LayerMissing { image: image.name.clone(), layer: *layer }));
            }
            Ok(None) => {}
            Err(error) => findings.push(Finding::Image { file, reason: render_chain(&error) }),
        }
    }
    Ok(findings)
}

/// What is wrong with a layer, if anything is.
fn check_layer(store: &Store, diff_id: Digest) -> Option<String> {
    let record: Result<Layer, StoreError> = store.layer(diff_id);
    match record {
        Err(error) => Some(render_chain(&error)),
        Ok(layer) if layer.diff_id != diff_id => Some(format!("its record is that of {}", layer.diff_id)),
        Ok(_) if !store.layer_root(diff_id).is_dir() => Some("it has no tree".to_owned()),
        Ok(_) => None,
    }
}

fn render_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
