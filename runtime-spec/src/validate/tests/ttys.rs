//! Terminals besides the console.

use super::*;
use crate::ttys::{ANNOTATION, Ttys};

const AT: &str = "/annotations/io.skep.ttys";

#[test]
fn more_terminals_need_a_console() {
    assert_eq!(patched(&json!({})).spec.unwrap().ttys, None);
    let four = json!({"annotations": {ANNOTATION: "tty:4"}, "process": {"terminal": true}});
    assert_eq!(patched(&four).spec.unwrap().ttys, Some(Ttys { count: 4, named: true }));
    check(
        json!({"annotations": {ANNOTATION: "tty:64"}, "process": {"terminal": false}}),
        &[
            (Error, AT, "needs a process with a terminal"),
            (Error, AT, "must be \"tty:\" or \"pts:\" and 1 to 63, not \"tty:64\""),
        ],
    );
}
