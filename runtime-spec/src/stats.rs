//! What a container uses, out of the report of `events --stats`.

use serde::Serialize;
use serde_json::Value;

/// What a container uses; `None` where its host does not count it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Processor time in nanoseconds.
    pub cpu: Option<u64>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Most bytes of memory at once.
    pub memory_peak: Option<u64>,
    /// Bytes that the kernel keeps for it.
    pub kernel_memory: Option<u64>,
    /// Bytes of swap.
    pub swap: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Bytes read from and written to block devices.
    pub io: Option<u64>,
}

/// Reads the report, which has the same form for both versions of cgroups but for some files.
#[must_use]
pub fn parse_usage(report: &Value) -> Usage {
    let data = &report["data"];
    let memory = &data["memory"];
    let bytes = |of: &str| memory[of]["usage"].as_u64();
    let moved = data["blkio"]["ioServiceBytesRecursive"].as_array().map(|entries| {
        let moves = |entry: &&Value| {
            let operation = entry["op"].as_str().unwrap_or_default();
            ["read", "write"].iter().any(|name| operation.eq_ignore_ascii_case(name))
        };
        entries.iter().filter(moves).filter_map(|entry| entry["value"].as_u64()).sum()
    });
    // Swap of cgroup v1 is counted with memory.
    let swap = match &memory["raw"]["total_swap"] {
        Value::Number(swap) => swap.as_u64(),
        _ => bytes("swap"),
    };
    Usage {
        cpu: data["cpu"]["usage"]["total"].as_u64(),
        memory: bytes("usage"),
        memory_peak: memory["usage"]["max"].as_u64(),
        kernel_memory: bytes("kernel").or(memory["raw"]["kernel"].as_u64()),
        swap,
        pids: data["pids"]["current"].as_u64(),
        io: moved,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_and_writes_are_added_and_nothing_else() {
        let entry = |op: &str, value: u64| json!({ "major": 8, "minor": 0, "op": op, "value": value });
        let entries = [entry("Read", 10), entry("Write", 5), entry("Sync", 7), entry("Total", 22)];
        let usage = parse_usage(&json!({ "data": {
            "cpu": { "usage": { "total": 3 } },
            "memory": { "usage": { "usage": 4, "max": 5 }, "raw": { "kernel": 6 } },
            "blkio": { "ioServiceBytesRecursive": entries },
        } }));
        let found = (usage.cpu, usage.memory, usage.memory_peak, usage.kernel_memory);
        assert_eq!(found, (Some(3), Some(4), Some(5), Some(6)));
        assert_eq!((usage.io, usage.pids), (Some(15), None));
    }

    #[test]
    fn figures_of_both_versions_are_found() {
        let io = json!([{"op": "Read", "value": 4}, {"op": "Write"}, {"op": "Total", "value": 9}]);
        let v1 = json!({ "data": {"cpu": {"usage": {"total": 5}}, "blkio": {"ioServiceBytesRecursive": io},
            "memory": {"usage": {"usage": 7}, "kernel": {"usage": 8}, "raw": {"total_swap": 0}}} });
        let expected = Usage {
            cpu: Some(5),
            io: Some(4),
            memory: Some(7),
            kernel_memory: Some(8),
            swap: Some(0),
            ..Usage::default()
        };
        assert_eq!(parse_usage(&v1), expected);
        assert_eq!(parse_usage(&json!({})), Usage::default());
    }
}
