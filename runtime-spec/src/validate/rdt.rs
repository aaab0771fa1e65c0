//! Intel resource director.

use super::{items, kernel_text, quote};
use crate::finding::{Log, Path};
use crate::model::IntelRdt;
use crate::oci;

const SECTION: &str = "config-linux.md, intelRdt";

/// Judges and lowers `intelRdt`.
pub(super) fn lower(rdt: &oci::IntelRdt, at: &Path<'_>, log: &mut Log) -> IntelRdt {
    let clos_id = kernel_text(&rdt.clos_id, &at.key("closID"), SECTION, log);
    if let Some(id) = &clos_id {
        // `/` alone is the default class; any other slash would leave the folder of the class.
        if id == "." || id == ".." || (id != "/" && id.contains('/')) {
            log.error(&at.key("closID"), SECTION, format_args!("{} is not a name of one folder", quote(id)));
        }
    }
    let l3 = kernel_text(&rdt.l3_cache_schema, &at.key("l3CacheSchema"), SECTION, log);
    if let Some(schema) = &l3 {
        if !schema.starts_with("L3:") {
            log.warn(&at.key("l3CacheSchema"), SECTION, format_args!("{} does not begin with L3:", quote(schema)));
        }
        if schema.contains('\n') {
            log.warn(&at.key("l3CacheSchema"), SECTION, "has a newline");
        }
    }
    let mem_bw = kernel_text(&rdt.mem_bw_schema, &at.key("memBwSchema"), SECTION, log);
    if let Some(schema) = &mem_bw {
        if !schema.starts_with("MB:") {
            log.error(&at.key("memBwSchema"), SECTION, format_args!("{} must begin with MB:", quote(schema)));
        }
        if schema.contains('\n') {
            log.error(&at.key("memBwSchema"), SECTION, "must not have a newline");
        }
    }
    let list = at.key("schemata");
    for (index, line) in items(&rdt.schemata).iter().enumerate() {
        if line.contains('\n') {
            log.error(&list.item(index), SECTION, "must not have a newline");
        }
    }
    IntelRdt {
        clos_id,
        schemata: items(&rdt.schemata).to_vec(),
        l3_cache_schema: l3,
        mem_bw_schema: mem_bw,
        enable_monitoring: rdt.enable_monitoring.unwrap_or(false),
    }
}
