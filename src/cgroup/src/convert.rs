//! Values that mean one thing in v1, which the definition is written for, and another in v2.

/// Range of v1 `cpu.shares`: `MIN_SHARES` and `MAX_SHARES` of kernel/sched/sched.h.
pub const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;

/// The `cpu.weight` that stands for a number of CPU shares; 0 stays 0, which is "not set".
///
/// Shares are 2..=262144 with 1024 as default, weights 1..=10000 with 100 as default. The quadratic in log2 of the shares
/// meets all three points (the older linear formula turned the default of 1024 into 39):
/// `weight = ceil(10 ^ ((l*l + 125*l) / 612 - 7/34))` with `l = log2(shares)`.
///
/// Source: crun 1.23, runc 1.4 (`ConvertCPUSharesToCgroupV2Value` of opencontainers/cgroups 0.0.3, commit fd95216).
#[must_use]
pub fn shares_to_weight(shares: u64) -> u64 {
    match shares {
        0 => 0,
        1..=2 => 1,
        3..=262_143 => {
            #[expect(clippy::cast_precision_loss, reason = "at most 18 bits")]
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1..=10000")]
            let weight = 10_f64.powf(exponent).ceil() as u64;
            weight
        }
        _ => 10_000,
    }
}

/// The `io.weight` (1..=10000, default 100) that stands for a block I/O weight (10..=1000); 0 stays 0, "not set".
///
/// Linear: `1 + (weight - 10) * 9999 / 990`. Source: crun's crun.1 "cgroup v2" and runc's `ConvertBlkIOToIOWeightValue`.
/// `io.bfq.weight` has the definition's own range and takes the weight as it is.
#[must_use]
pub fn blkio_to_io_weight(weight: u16) -> u64 {
    if weight == 0 { 0 } else { 1 + u64::from(weight.saturating_sub(10)) * 9999 / 990 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_meet_minimum_default_and_maximum() {
        let table = [
            (0, 0),
            (1, 1),
            (2, 1),
            (10, 4),
            (100, 17),
            (1024, 100),
            (3333, 256),
            (262_143, 10_000),
            (500_000, 10_000),
        ];
        for (shares, weight) in table {
            assert_eq!(shares_to_weight(shares), weight, "{shares}");
        }
    }

    #[test]
    fn weights_never_fall() {
        assert!((2..262_144).step_by(7).is_sorted_by_key(shares_to_weight));
    }

    #[test]
    fn io_weights() {
        for (weight, expected) in [(0, 0), (10, 1), (100, 910), (750, 7475), (1000, 10_000)] {
            assert_eq!(blkio_to_io_weight(weight), expected, "{weight}");
        }
    }
}
