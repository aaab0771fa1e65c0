//! Pressure triggers as `events --pressure` takes them: `memory:some:150ms/1s`.

use cgroup::pressure::{Resource, Share, Trigger, TriggerError};

use super::duration::{DurationError, parse_duration};

/// Why a text is no trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PressureError {
    /// Not of the form RESOURCE:SHARE:STALL/WINDOW.
    #[error("want RESOURCE:SHARE:STALL/WINDOW, such as memory:some:150ms/1s")]
    Form,
    /// No such resource.
    #[error("the resource must be cpu, memory or io")]
    Resource,
    /// No such share.
    #[error("the share must be some or full")]
    Share,
    /// A duration that is none.
    #[error(transparent)]
    Duration(#[from] DurationError),
    /// Numbers that the kernel would refuse.
    #[error(transparent)]
    Trigger(#[from] TriggerError),
}

/// Reads a trigger.
///
/// # Errors
/// [`PressureError`].
pub fn parse_trigger(text: &str) -> Result<Trigger, PressureError> {
    let parts = text.split_once(':').and_then(|(resource, rest)| Some((resource, rest.split_once(':')?)));
    let (resource, (share, times)) = parts.ok_or(PressureError::Form)?;
    let (stall, window) = times.split_once('/').ok_or(PressureError::Form)?;
    let resources = [Resource::Cpu, Resource::Memory, Resource::Io];
    let resource = resources.into_iter().find(|r| r.name() == resource).ok_or(PressureError::Resource)?;
    let shares = [Share::Some, Share::Full];
    let share = shares.into_iter().find(|s| s.name() == share).ok_or(PressureError::Share)?;
    let trigger = Trigger { resource, share, stall: parse_duration(stall)?, window: parse_duration(window)? };
    trigger.validate()?;
    Ok(trigger)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_trigger() {
        let expected = Trigger {
            resource: Resource::Io,
            share: Share::Full,
            stall: Duration::from_micros(150),
            window: Duration::from_secs(2),
        };
        assert_eq!(parse_trigger("io:full:150us/2s"), Ok(expected));
    }

    #[test]
    fn texts_that_are_none() {
        for (text, expected) in [
            ("", PressureError::Form),
            ("io", PressureError::Form),
            ("io:some:1s", PressureError::Form),
            ("net:some:1ms/1s", PressureError::Resource),
            ("io:most:1ms/1s", PressureError::Share),
            ("io:some:1/1s", PressureError::Duration(DurationError::Unit)),
            ("io:some:2s/1s", PressureError::Trigger(TriggerError::Stall)),
            ("io:some:1ms/1m", PressureError::Trigger(TriggerError::Window)),
        ] {
            assert_eq!(parse_trigger(text), Err(expected), "{text:?}");
        }
    }
}
