//! What is known of the oracle: where runc 1.1 and crun 1.8 fail a case that skep must pass, and why.
//!
//! The cases hold no branch on the runtime. [`case`] looks the test up in [`DEVIATIONS`] and turns the expectation
//! around: a deviation that does not show any more fails the test, so the list stays true.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::requires::{Need, skip_without};
use crate::runtime::{Kind, Runtime};
use crate::sandbox::Sandbox;

/// What a runtime makes of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// It passes.
    Pass,
    /// It fails.
    Fail,
    /// Now this and now that: a race, or a matter of timing.
    Either,
}

/// A case that an oracle does not simply pass.
#[derive(Debug, Clone, Copy)]
pub struct Deviation {
    /// `file::test`, the name that the test runner prints.
    pub test: &'static str,
    /// What runc 1.1 makes of it.
    pub runc: Expect,
    /// What crun 1.8 makes of it.
    pub crun: Expect,
    /// What the oracle does instead, or lacks.
    pub why: &'static str,
}

impl Deviation {
    fn expect(&self, kind: Kind) -> Expect {
        match kind {
            Kind::Skep => Expect::Pass,
            Kind::Runc => self.runc,
            Kind::Crun => self.crun,
            Kind::Other => Expect::Either,
        }
    }
}

/// Every known deviation. Sorted by file.
pub const DEVIATIONS: &[Deviation] = &[];

thread_local! {
    static SKIPPED: Cell<bool> = const { Cell::new(false) };
}

/// Notes that the running case was skipped, so that its early return is not taken for a pass.
pub(crate) fn note_skip() {
    SKIPPED.set(true);
}

/// Runs one case in a sandbox of its own, and holds its result against what is expected of the runtime under test.
///
/// # Panics
/// When the case fails where it must pass, or passes where a deviation is listed.
#[track_caller]
pub fn case<F: FnOnce(&Sandbox)>(body: F) {
    if skip_without(&[Need::Root]) {
        return;
    }
    let name = test_name::<F>();
    let found = DEVIATIONS.iter().find(|d| d.test == name);
    let expect = found.map_or(Expect::Pass, |d| d.expect(Runtime::under_test().kind));
    let sandbox = Sandbox::new();
    if expect == Expect::Pass {
        body(&sandbox);
        return;
    }
    sandbox.tolerate_leftovers();
    SKIPPED.set(false);
    let passed = catch_unwind(AssertUnwindSafe(|| body(&sandbox))).is_ok();
    let why = found.map_or("", |d| d.why);
    assert!(
        expect == Expect::Either || !passed || SKIPPED.get(),
        "{name} passes, but it is listed as a deviation: {why}"
    );
}

/// `file::test` of the function whose closure has the type `F`: the compiler names it `file::test::{{closure}}`.
fn test_name<F>() -> &'static str {
    std::any::type_name::<F>().split("::{{closure}}").next().unwrap_or_default()
}
