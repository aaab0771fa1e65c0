//! Device programs on real groups: ours is exchanged, those of others stay. The unified hierarchy has them also where the
//! controllers are elsewhere.

#![allow(clippy::unwrap_used)]

mod common;

use std::os::fd::AsFd;

use cgroup::group::{DeviceProgram, Own, Placed};
use cgroup::{Error, GroupPath};
use common::Fixture;

/// `r0 = verdict; exit`: 1 lets every access pass, 0 refuses all.
fn verdict(allow: bool) -> Vec<u8> {
    let number = i32::from(allow).to_ne_bytes();
    let mut bytes = vec![0xb4, 0, 0, 0];
    bytes.extend(number);
    bytes.extend([0x95, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}

fn program(allow: bool) -> DeviceProgram {
    DeviceProgram::load(&verdict(allow)).unwrap()
}

/// Ids of what is attached, in order.
fn attached(fixture: &Fixture) -> Vec<u32> {
    sys::bpf::query_device_programs(fixture.group.unified().unwrap()).unwrap().ids
}

/// Whether a task of the group can open the null device.
fn opens(fixture: &Fixture) -> bool {
    fixture.shell("exec 3</dev/null").wait().unwrap().success()
}

macro_rules! fixture {
    () => {{
        needs_v1_root!();
        let fixture = Fixture::choose(GroupPath::is_unified);
        if fixture.places.is_empty() {
            println!("skipped: no unified hierarchy");
            return;
        }
        fixture
    }};
}

#[test]
fn the_own_program_is_exchanged() {
    let fixture = fixture!();
    let (first, second) = (program(true), program(false));
    assert_eq!(fixture.group.put_device_program(&first, Own::Leftovers).unwrap(), Placed::Added { others: 0 });
    assert!(opens(&fixture));
    let placed = fixture.group.put_device_program(&second, Own::Ids(&[first.id(), second.id()])).unwrap();
    assert_eq!(placed, Placed::Exchanged);
    assert_eq!(attached(&fixture), [second.id()]);
    assert!(!opens(&fixture));
    fixture.group.put_device_program(&first, Own::Ids(&[second.id()])).unwrap();
    assert!(opens(&fixture));
}

#[test]
fn the_program_of_another_stays() {
    let fixture = fixture!();
    let (theirs, ours, next) = (program(true), program(true), program(false));
    let dir = fixture.group.unified().unwrap();
    let fd = sys::bpf::program_by_id(theirs.id()).unwrap();
    sys::bpf::attach_device_program(dir, fd.as_fd(), None).unwrap();
    assert_eq!(fixture.group.put_device_program(&ours, Own::Ids(&[])).unwrap(), Placed::Added { others: 1 });
    assert_eq!(fixture.group.put_device_program(&next, Own::Ids(&[ours.id()])).unwrap(), Placed::Exchanged);
    assert_eq!(attached(&fixture), [theirs.id(), next.id()]);
    assert!(!opens(&fixture));
}

#[test]
fn a_program_that_was_taken_off_is_put_on_again() {
    let fixture = fixture!();
    let (first, second) = (program(true), program(false));
    fixture.group.put_device_program(&first, Own::Leftovers).unwrap();
    let fd = sys::bpf::program_by_id(first.id()).unwrap();
    sys::bpf::detach_device_program(fixture.group.unified().unwrap(), fd.as_fd()).unwrap();
    let placed = fixture.group.put_device_program(&second, Own::Ids(&[first.id()])).unwrap();
    assert_eq!((placed, attached(&fixture)), (Placed::Added { others: 0 }, vec![second.id()]));
}

/// A runtime was killed between attaching the new one and detaching the old one.
#[test]
fn two_of_the_own_become_one() {
    let fixture = fixture!();
    let (first, second, third) = (program(true), program(true), program(true));
    let dir = fixture.group.unified().unwrap();
    for id in [first.id(), second.id()] {
        let fd = sys::bpf::program_by_id(id).unwrap();
        sys::bpf::attach_device_program(dir, fd.as_fd(), None).unwrap();
    }
    fixture.group.put_device_program(&third, Own::Ids(&[first.id(), second.id()])).unwrap();
    assert_eq!(attached(&fixture), [third.id()]);
}

#[test]
fn what_an_earlier_container_left_is_exchanged_at_creation() {
    let fixture = fixture!();
    let (left, new) = (program(false), program(true));
    fixture.group.put_device_program(&left, Own::Leftovers).unwrap();
    assert_eq!(fixture.group.put_device_program(&new, Own::Leftovers).unwrap(), Placed::Exchanged);
    assert!(opens(&fixture));
}

#[test]
fn a_group_without_a_unified_member_says_so() {
    needs_v1_root!();
    let fixture = Fixture::choose(|place| place.has("pids") && !place.is_unified());
    let error = fixture.group.put_device_program(&program(true), Own::Leftovers).unwrap_err();
    assert!(matches!(error, Error::NoGroup { .. }), "{error}");
}
