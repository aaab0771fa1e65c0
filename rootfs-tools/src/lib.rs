//! Makes root file systems.
//!
//! It owns what lies in a root file system before a container starts. It never mounts into one and never enters one.

mod busybox;
#[cfg(feature = "import")]
mod compress;
#[cfg(feature = "import")]
mod copy;
mod digest;
#[cfg(feature = "import")]
mod export;
#[cfg(feature = "import")]
mod extract;
#[cfg(feature = "import")]
mod import;
#[cfg(feature = "import")]
mod limits;
#[cfg(feature = "import")]
mod progress;
#[cfg(feature = "registry")]
pub mod registry;
mod remove;
#[cfg(feature = "import")]
mod source;
#[cfg(feature = "import")]
mod stack;
pub mod store;
#[cfg(feature = "import")]
mod tar;

pub use busybox::{Error, busybox};
#[cfg(feature = "import")]
pub use copy::copy_stack;
pub use digest::{Digest, DigestError};
#[cfg(feature = "import")]
pub use export::write_stack;
#[cfg(feature = "import")]
pub use extract::{ExtractError, Refusal};
#[cfg(feature = "import")]
pub use import::{Bootstrap, ImportError, Installer, Source, import};
#[cfg(feature = "import")]
pub use limits::{LimitError, Limits};
#[cfg(feature = "import")]
pub use progress::{Progress, Silent};
pub use remove::{remove_at, remove_tree};
#[cfg(feature = "import")]
pub use source::{
    Platform, Select, SourceError,
    folder::{Marks, TreeError, write_tree},
};
#[cfg(feature = "import")]
pub use stack::{Folder, Found, Stack};
#[cfg(feature = "import")]
pub use tar::TarError;
