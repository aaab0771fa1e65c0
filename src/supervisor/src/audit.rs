//! Who did what to which service, when and why. Data alone.

use serde::{Deserialize, Serialize};

/// One line of the audit log, which is also an event of `/v1/events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Number of the entry: later ones have higher numbers, of which some may be left out.
    pub revision: u64,
    /// Milliseconds since 1970.
    pub at: u64,
    /// `uid N` of who called, or `skepd` for what it decided itself.
    pub who: String,
    /// The service.
    pub service: String,
    /// The replica, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub replica: Option<u32>,
    /// What was done or has happened.
    pub what: String,
    /// Why.
    pub why: String,
}
