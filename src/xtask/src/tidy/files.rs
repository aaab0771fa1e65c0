//! Rules about file names and lengths.

use super::Finding;

/// Names that say nothing about what a file owns, so that everything ends up in it.
const GRAB_BAGS: [&str; 8] =
    ["utils.rs", "util.rs", "helpers.rs", "helper.rs", "common.rs", "misc.rs", "shared.rs", "stuff.rs"];

/// Past this a file likely has a second noun in it.
const LONG: usize = 600;

/// Past this it must be split, or stand in [`MAY_BE_LONG`].
const TOO_LONG: usize = 900;

/// Files that may be longer than [`TOO_LONG`]: path, lines, and why splitting would not help the reader.
const MAY_BE_LONG: [(&str, usize, &str); 0] = [];

/// A file is named by its noun or verb.
pub(super) fn check_name(path: &str) -> Vec<Finding> {
    let name = path.rsplit('/').next().unwrap_or(path);
    if GRAB_BAGS.contains(&name) {
        return vec![Finding::new(path, 0, "a grab-bag name: call it by the noun or verb that it owns")];
    }
    Vec::new()
}

/// Files past [`TOO_LONG`] lines, and as the second list those past [`LONG`].
pub(super) fn check_length(path: &str, text: &str) -> (Vec<Finding>, Vec<Finding>) {
    check_length_against(path, text.lines().count(), &MAY_BE_LONG)
}

fn check_length_against(path: &str, lines: usize, allowed: &[(&str, usize, &str)]) -> (Vec<Finding>, Vec<Finding>) {
    let exception = allowed.iter().find(|(allowed, _, _)| *allowed == path);
    let limit = exception.map_or(TOO_LONG, |(_, limit, _)| *limit);
    let finding = |limit| vec![Finding::new(path, 0, format!("{lines} lines, the limit is {limit}"))];
    match lines {
        lines if lines > limit => (finding(limit), Vec::new()),
        lines if lines > LONG && exception.is_none() => (Vec::new(), finding(LONG)),
        _ => (Vec::new(), Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grab_bag_is_found() {
        assert_eq!(check_name("src/engine/src/utils.rs").len(), 1);
        assert_eq!(check_name("src/engine/src/common.rs").len(), 1);
        assert_eq!(check_name("src/engine/src/mountinfo.rs"), []);
        assert_eq!(check_name("src/engine/src/os_utils.rs.txt"), []);
    }

    #[test]
    fn a_long_file_is_a_note_and_a_too_long_one_an_error() {
        let count = |lines| {
            let (errors, notes) = check_length_against("a.rs", lines, &[]);
            (errors.len(), notes.len())
        };
        assert_eq!(count(600), (0, 0));
        assert_eq!(count(601), (0, 1));
        assert_eq!(count(900), (0, 1));
        assert_eq!(count(901), (1, 0));
    }

    #[test]
    fn an_exception_has_a_limit_of_its_own() {
        let table = [("a.rs", 2000, "one table")];
        assert_eq!(check_length_against("a.rs", 2000, &table), (vec![], vec![]));
        assert_eq!(check_length_against("a.rs", 2001, &table).0.len(), 1);
        assert_eq!(check_length_against("b.rs", 2000, &table).0.len(), 1);
    }
}
