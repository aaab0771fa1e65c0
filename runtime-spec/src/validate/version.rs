//! The version of the specification that a definition names.

use super::quote;
use crate::finding::{Log, Path};

const SECTION: &str = "config.md, specification version";

/// Judges `ociVersion`: Semantic Versioning 2.0.0, major version 1. Later minor versions are compatible and warn.
pub(super) fn check(version: Option<&str>, at: &Path<'_>, log: &mut Log) {
    let Some(text) = version else {
        log.error(at, SECTION, "is required");
        return;
    };
    let newest = (crate::VERSION.0, crate::VERSION.1);
    match parse(text) {
        None => log.error(at, SECTION, format_args!("must be a semantic version such as 1.2.0, not {}", quote(text))),
        Some((1, minor, _)) if (1, minor) > newest => log.warn(
            at,
            SECTION,
            format_args!("{text} is newer than {}.{}; fields that came later are ignored", newest.0, newest.1),
        ),
        Some((1, _, _)) => {}
        Some((major, _, _)) => {
            log.error(at, SECTION, format_args!("{text} has major version {major}; only 1 is supported"));
        }
    }
}

/// Splits a version into its three numbers. `None` where the grammar of semver.org 2.0.0 is not kept.
fn parse(text: &str) -> Option<(u64, u64, u64)> {
    let (text, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, pre) = text.split_once('-').map_or((text, None), |(core, pre)| (core, Some(pre)));
    let identifiers_ok = |part: &str, zeros: bool| {
        part.split('.').all(|id| {
            !id.is_empty()
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && (zeros || !has_leading_zero(id))
        })
    };
    if build.is_some_and(|part| !identifiers_ok(part, true)) || pre.is_some_and(|part| !identifiers_ok(part, false)) {
        return None;
    }
    let mut numbers = core.split('.').map(number);
    let version = (numbers.next()??, numbers.next()??, numbers.next()??);
    numbers.next().is_none().then_some(version)
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits && !has_leading_zero(text) { text.parse().ok() } else { None }
}

fn has_leading_zero(text: &str) -> bool {
    text.len() > 1 && text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn semver_grammar() {
        for good in ["1.0.0", "1.0.2-dev", "1.3.0+dev", "0.1.0", "1.0.0-rc.1+b.01", "1.2.3----a.0", "10.20.30"] {
            assert!(parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "1",
            "1.0",
            "1.0.0.0",
            "v1.0.0",
            "1.0.01",
            "1.0.-1",
            "1.0.0-",
            "1.0.0+",
            "1.0.0-01",
            "1.0.0-a..b",
            "1.0. 0",
            "1.0.0-ä",
            "+1.0.0",
            "99999999999999999999.0.0",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
