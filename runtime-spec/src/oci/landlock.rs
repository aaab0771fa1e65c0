//! Landlock rules, as the text of an annotation has them (docs/landlock.md). A name that is not known is an error here: a
//! rule that nobody reads would look like one that holds.

object! {
    /// The whole text.
    Landlock(closed) {
        "ruleset" ruleset: LandlockRuleset,
        "rules" rules: LandlockRules,
        "bestEffort" best_effort: bool,
    }

    /// What is denied unless a rule grants it.
    LandlockRuleset(closed) {
        "handledAccessFS" handled_access_fs: Vec<String>,
        "handledAccessNet" handled_access_net: Vec<String>,
        "scoped" scoped: Vec<String>,
    }

    /// What is granted.
    LandlockRules(closed) {
        "pathBeneath" path_beneath: Vec<LandlockPaths>,
        "netPort" net_port: Vec<LandlockPorts>,
    }

    /// Rights at and below paths.
    LandlockPaths(closed) {
        "allowedAccess" allowed_access: Vec<String>,
        "paths" paths: Vec<String>,
    }

    /// Rights to ports.
    LandlockPorts(closed) {
        "allowedAccess" allowed_access: Vec<String>,
        "ports" ports: Vec<u16>,
    }
}
