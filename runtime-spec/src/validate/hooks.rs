//! Hooks.

use super::{check_absolute, items, kernel_texts, text};
use crate::finding::{Log, Path};
use crate::model::{Hook, Hooks};
use crate::oci;

const SECTION: &str = "config.md, POSIX-platform hooks";

/// The points, in the order in which they come.
pub(crate) const POINTS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Judges and lowers all hooks.
pub(super) fn lower(hooks: Option<&oci::Hooks>, at: &Path<'_>, log: &mut Log) -> Hooks {
    let Some(hooks) = hooks else { return Hooks::default() };
    let mut point = |list: &Option<Vec<oci::Hook>>, name: &str| {
        let at = at.key(name);
        items(list).iter().enumerate().map(|(index, hook)| lower_hook(hook, &at.item(index), log)).collect()
    };
    Hooks {
        prestart: point(&hooks.prestart, "prestart"),
        create_runtime: point(&hooks.create_runtime, "createRuntime"),
        create_container: point(&hooks.create_container, "createContainer"),
        start_container: point(&hooks.start_container, "startContainer"),
        poststart: point(&hooks.poststart, "poststart"),
        poststop: point(&hooks.poststop, "poststop"),
    }
}

fn lower_hook(hook: &oci::Hook, at: &Path<'_>, log: &mut Log) -> Hook {
    let path = text(&hook.path);
    match path {
        Some(path) => check_absolute(path, &at.key("path"), SECTION, log),
        None => log.error(&at.key("path"), SECTION, "is required"),
    }
    let timeout_s = hook.timeout.and_then(|seconds| {
        let at = at.key("timeout");
        match u32::try_from(seconds) {
            Ok(0) | Err(_) if seconds <= 0 => {
                log.error(&at, SECTION, format_args!("must be greater than zero, not {seconds}"));
                None
            }
            Ok(seconds) => Some(seconds),
            // More than a century: as good as none.
            Err(_) => {
                log.warn(&at, SECTION, format_args!("{seconds} is longer than {} seconds, which are used", u32::MAX));
                Some(u32::MAX)
            }
        }
    });
    Hook {
        path: path.unwrap_or_default().to_owned(),
        args: kernel_texts(&hook.args, &at.key("args"), SECTION, log),
        env: kernel_texts(&hook.env, &at.key("env"), SECTION, log),
        timeout_s,
    }
}
