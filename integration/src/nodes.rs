//! Device nodes of a definition, which the same case looks at with and without a user namespace.

use serde_json::json;

use crate::{Bundle, Sandbox};

/// Asserts that a character device, a block device and a FIFO have the type, number, mode and owner of the definition.
///
/// # Panics
/// When one of them has not.
#[track_caller]
pub fn are_made_as_written(sb: &Sandbox, b: Bundle) {
    let b = b.set("/linux/devices", json!([
        { "path": "/dev/deep/er/char", "type": "c", "major": 1, "minor": 11, "fileMode": 0o640, "uid": 5, "gid": 6 },
        { "path": "/dev/block", "type": "b", "major": 7, "minor": 3, "fileMode": 0o600 },
        { "path": "/dev/fifo", "type": "p", "fileMode": 0o622, "uid": 0, "gid": 7 }
    ]));
    let b = b.sh("stat -c '%t:%T %a %u:%g %F' /dev/deep/er/char /dev/block /dev/fifo");
    let expected = "1:b 640 5:6 character special file\n7:3 600 0:0 block special file\n0:0 622 0:7 fifo";
    assert_eq!(sb.run(&b).ok(), expected);
}
