//! The layers of a root file system, as the text of an annotation has them (docs/overlay.md). A name that is not known is
//! an error here: a layer that nobody reads would be missing.

object! {
    /// The whole text.
    Overlay(closed) {
        "lower" lower: Vec<String>,
        "upper" upper: String,
        "work" work: String,
        "memory" memory: u64,
        "hide" hide: Vec<String>,
        "idmap" idmap: bool,
        "userXattr" user_xattr: bool,
        "volatile" volatile: bool,
    }
}
