//! Block I/O limits.

use super::super::{items, required};
use crate::finding::{Log, Path};
use crate::model::{BlockIo, ThrottleDevice, WeightDevice};
use crate::oci;

const SECTION: &str = "config-linux.md, block IO";

/// Bounds for a weight. The scheduler bfq takes 1 to 1000; the documented range of the interface begins at 10.
const WEIGHT_MIN: u16 = 10;
const WEIGHT_MAX: u16 = 1000;

/// Judges and lowers `blockIO`.
pub(super) fn lower(block_io: &oci::BlockIo, at: &Path<'_>, log: &mut Log) -> BlockIo {
    let devices_at = at.key("weightDevice");
    BlockIo {
        weight: weight(block_io.weight, &at.key("weight"), log),
        leaf_weight: weight(block_io.leaf_weight, &at.key("leafWeight"), log),
        weight_device: items(&block_io.weight_device)
            .iter()
            .enumerate()
            .map(|(index, entry)| weight_device(entry, &devices_at.item(index), log))
            .collect(),
        throttle_read_bps: throttle(&block_io.throttle_read_bps, &at.key("throttleReadBpsDevice"), log),
        throttle_write_bps: throttle(&block_io.throttle_write_bps, &at.key("throttleWriteBpsDevice"), log),
        throttle_read_iops: throttle(&block_io.throttle_read_iops, &at.key("throttleReadIOPSDevice"), log),
        throttle_write_iops: throttle(&block_io.throttle_write_iops, &at.key("throttleWriteIOPSDevice"), log),
    }
}

/// A weight; 0 is not set.
fn weight(value: Option<u16>, at: &Path<'_>, log: &mut Log) -> Option<u16> {
    let value = value.filter(|value| *value != 0)?;
    if value > WEIGHT_MAX {
        log.error(at, SECTION, format_args!("must be from {WEIGHT_MIN} to {WEIGHT_MAX}, not {value}"));
    } else if value < WEIGHT_MIN {
        log.warn(at, SECTION, format_args!("{value} is below {WEIGHT_MIN}; {WEIGHT_MIN} is used"));
    }
    Some(value.max(WEIGHT_MIN))
}

fn weight_device(entry: &oci::WeightDevice, at: &Path<'_>, log: &mut Log) -> WeightDevice {
    if entry.weight.is_none() && entry.leaf_weight.is_none() {
        log.error(at, SECTION, "must have weight or leafWeight");
    }
    WeightDevice {
        major: device_number(entry.major, &at.key("major"), log),
        minor: device_number(entry.minor, &at.key("minor"), log),
        weight: weight(entry.weight, &at.key("weight"), log),
        leaf_weight: weight(entry.leaf_weight, &at.key("leafWeight"), log),
    }
}

fn throttle(list: &Option<Vec<oci::ThrottleDevice>>, at: &Path<'_>, log: &mut Log) -> Vec<ThrottleDevice> {
    items(list)
        .iter()
        .enumerate()
        .map(|(index, entry)| {
            let at = at.item(index);
            ThrottleDevice {
                major: device_number(entry.major, &at.key("major"), log),
                minor: device_number(entry.minor, &at.key("minor"), log),
                rate: required(entry.rate, &at.key("rate"), SECTION, log),
            }
        })
        .collect()
}

fn device_number(value: Option<i64>, at: &Path<'_>, log: &mut Log) -> u32 {
    let value = required(value, at, SECTION, log);
    u32::try_from(value).unwrap_or_else(|_| {
        log.error(at, SECTION, format_args!("must be a device number, not {value}"));
        0
    })
}
