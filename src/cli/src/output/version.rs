//! `--version`.

use crate::args::Program;

/// The commit that was built, or the version where it is not known (build.rs).
pub const COMMIT: &str = env!("SKEP_COMMIT");

/// The version of this program, by semver.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Renders exactly three lines: containerd's client of runc refuses any other number, and wants the words `runc version`
/// at the start of the first.
#[must_use]
pub fn render_version(program: Program) -> String {
    format!("{} version {VERSION}\ncommit: {COMMIT}\nspec: {}\n", program.name(), runtime_spec::version())
}
