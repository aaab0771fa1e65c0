//! A heap for a program that lives for milliseconds.
//!
//! musl's allocator gives memory back to the kernel as soon as a group of blocks is free, so a short program that builds
//! and drops strings maps, faults in and unmaps the same pages over and over: about 180 calls, and a fifth of the time of
//! a container's start. Here small blocks are cut from one array of the program itself and go to a list of their class
//! when they are freed; nothing small is ever given back. Large blocks, and odd alignments, are musl's.
//!
//! ```text
//! class 0: 16 bytes, class 1: 32, ... class 11: 32 KiB; each freed block holds the address of the next one
//! array  |used|used|free, in a list|used|          not cut yet          |
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of the first array: more than `run` needs with the definition that `spec` writes. Pages that are not touched
/// cost nothing.
const FIRST: usize = 256 * 1024;

/// Bytes that are asked for when the array is used up.
const MORE: usize = 256 * 1024;

/// The smallest block; also the alignment of every block.
const UNIT: usize = 16;

/// Classes, each twice the size of the one before.
const CLASSES: usize = 12;

/// The allocator; a program names it with `#[global_allocator]`.
#[derive(Debug)]
pub struct Heap {
    taken: AtomicBool,
    blocks: UnsafeCell<Blocks>,
    first: UnsafeCell<First>,
}

#[derive(Debug)]
struct Blocks {
    /// By class, the block that was freed last.
    free: [*mut u8; CLASSES],
    /// Where the part begins that is not cut yet; null before the first block.
    next: *mut u8,
    left: usize,
}

#[repr(C, align(16))]
#[derive(Debug)]
struct First([u8; FIRST]);

// SAFETY: both cells are touched only between `lock` and `unlock`, by one thread at a time.
unsafe impl Sync for Heap {}

impl Heap {
    /// An empty one.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "there is one, and it is a static")]
    pub const fn new() -> Heap {
        Heap {
            taken: AtomicBool::new(false),
            blocks: UnsafeCell::new(Blocks { free: [null_mut(); CLASSES], next: null_mut(), left: 0 }),
            first: UnsafeCell::new(First([0; FIRST])),
        }
    }

    /// Runs `work` alone. In a program of one thread nobody waits; among several, for the few instructions of another. A call
    /// that gives up the processor would cost every block some instructions, also where nobody ever waits.
    fn alone<T>(&self, work: impl FnOnce(&mut Blocks) -> T) -> T {
        while self.taken.swap(true, Ordering::Acquire) {
            std::hint::spin_loop();
        }
        // SAFETY: `taken` was false, so no other reference exists until it is false again below.
        let result = work(unsafe { &mut *self.blocks.get() });
        self.taken.store(false, Ordering::Release);
        result
    }

    fn take(&self, class: usize) -> *mut u8 {
        self.alone(|blocks| {
            let block = blocks.free[class];
            if block.is_null() {
                return self.cut(blocks, UNIT << class);
            }
            // SAFETY: a block of a list is free, at least 16 bytes long, and `give` wrote the next address into it.
            blocks.free[class] = unsafe { block.cast::<*mut u8>().read() };
            block
        })
    }

    fn give(&self, block: *mut u8, class: usize) {
        self.alone(|blocks| {
            // SAFETY: the caller gives up the block, which is at least 16 bytes long and aligned to 16.
            unsafe { block.cast::<*mut u8>().write(blocks.free[class]) };
            blocks.free[class] = block;
        });
    }

    /// Cuts a new block. What is left of an array that is too short for it is lost: less than one block.
    fn cut(&self, blocks: &mut Blocks, size: usize) -> *mut u8 {
        if blocks.next.is_null() {
            (blocks.next, blocks.left) = (self.first.get().cast(), FIRST);
        }
        if blocks.left < size {
            // SAFETY: the layout has a size.
            let more = unsafe { System.alloc(Layout::new::<[u128; MORE / UNIT]>()) };
            if more.is_null() {
                return more;
            }
            (blocks.next, blocks.left) = (more, MORE);
        }
        let block = blocks.next;
        // SAFETY: `left` bytes of one array begin at `next`, and `size` is not more.
        blocks.next = unsafe { block.add(size) };
        blocks.left -= size;
        block
    }
}

/// The class whose blocks hold this layout; `None` leaves it to the system's allocator.
fn class(layout: Layout) -> Option<usize> {
    let units = layout.size().div_ceil(UNIT).next_power_of_two();
    let class = units.trailing_zeros() as usize;
    (layout.align() <= UNIT && class < CLASSES).then_some(class)
}

// SAFETY: a block of a class is as long as the class says, which is not less than the layout, is aligned to 16, and is in
// no list and in nobody else's hands until `dealloc` is called with the same layout, which names the same class.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class(layout) {
            Some(class) => self.take(class),
            // SAFETY: the caller keeps the contract of `alloc`.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match class(layout) {
            Some(class) => self.give(block, class),
            // SAFETY: without a class the block came from the system's allocator.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class(layout) else {
            // SAFETY: as in `alloc`. Fresh pages are zero already.
            return unsafe { System.alloc_zeroed(layout) };
        };
        let block = self.take(class);
        if !block.is_null() {
            // SAFETY: the block has at least `size` bytes.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn realloc(&self, block: *mut u8, old: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that `size`, rounded up to the alignment, does not overflow.
        let new = unsafe { Layout::from_size_align_unchecked(size, old.align()) };
        match (class(old), class(new)) {
            (None, None) => {
                // SAFETY: without a class the block is the system's, and stays it.
                return unsafe { System.realloc(block, old, size) };
            }
            (from, to) if from == to => return block,
            _ => {}
        }
        // SAFETY: `new` has a size, as the caller promises.
        let moved = unsafe { self.alloc(new) };
        if !moved.is_null() {
            // SAFETY: both blocks are that long, and a new block is no part of an old one.
            unsafe { std::ptr::copy_nonoverlapping(block, moved, old.size().min(size)) };
            // SAFETY: the caller gives up the old block.
            unsafe { self.dealloc(block, old) };
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn a_class_holds_its_layouts_and_the_rest_is_the_systems() {
        for (size, expected) in [(1, 0), (16, 0), (17, 1), (32, 1), (33, 2), (32 * 1024, 11)] {
            assert_eq!(class(layout(size, 8)), Some(expected), "{size}");
        }
        assert_eq!(class(layout(32 * 1024 + 1, 8)), None);
        assert_eq!(class(layout(8, 64)), None);
    }

    /// A block with one byte all over it.
    struct Filled {
        block: *mut u8,
        size: usize,
        byte: u8,
    }

    static HEAP: Heap = Heap::new();

    impl Filled {
        fn new(size: usize, byte: u8) -> Filled {
            // SAFETY: the size is not 0, and the block is as long as it says.
            let block = unsafe { HEAP.alloc(layout(size, 16)) };
            assert!(!block.is_null() && block.addr().is_multiple_of(16));
            // SAFETY: as above.
            unsafe { block.write_bytes(byte, size) };
            Filled { block, size, byte }
        }

        fn grow(&mut self, size: usize) {
            // SAFETY: the block is ours and has this layout.
            self.block = unsafe { HEAP.realloc(self.block, layout(self.size, 16), size) };
            self.check();
            // SAFETY: the block is as long as it was asked for.
            unsafe { self.block.write_bytes(self.byte, size) };
            self.size = size;
        }

        /// The bytes that were written before are still there.
        fn check(&self) {
            // SAFETY: the block is ours and its bytes were all written.
            let bytes = unsafe { std::slice::from_raw_parts(self.block, self.size) };
            assert!(bytes.iter().all(|byte| *byte == self.byte), "{} bytes of {}", self.size, self.byte);
        }

        fn give_back(self) {
            self.check();
            // SAFETY: the block is ours, has this layout, and is not used again.
            unsafe { HEAP.dealloc(self.block, layout(self.size, 16)) };
        }
    }

    #[test]
    fn blocks_come_back_keep_their_bytes_and_never_overlap() {
        let mut live: Vec<Filled> = Vec::new();
        // More than the first array holds, with sizes on both sides of every border.
        for round in 0..4_000_usize {
            let size = [1, 16, 17, 100, 1000, 5000, 40_000][round % 7];
            live.push(Filled::new(size, u8::try_from(round % 251).unwrap()));
            if round % 3 == 0 {
                let mut one = live.swap_remove((round * 7) % live.len());
                one.grow(one.size * 3);
                one.give_back();
            }
        }
        live.into_iter().for_each(Filled::give_back);
        // SAFETY: the size is not 0, and all bytes of the block are written by the call.
        let zeroed = unsafe { std::slice::from_raw_parts(HEAP.alloc_zeroed(layout(100, 8)), 100) };
        assert!(zeroed.iter().all(|byte| *byte == 0), "a block that was used before is cleared");
    }
}
