//! The allocator of a guest: a small arena within the memory that a module starts with, and growth where that is not enough.
//!
//! The usual allocator for Wasm grows the memory for its very first allocation. Growing makes the host change mappings, and
//! shrinking back for the next instance makes it do so again, which costs more than a small function's whole work.
#![allow(unsafe_code, reason = "an allocator hands out raw memory")]

use core::{alloc::Layout, mem::MaybeUninit};
use talc::{
    base::{Talc, binning::Binning},
    cell::TalcSyncCell,
    source::Source,
    wasm::WasmBinning,
};

/// What most calls never exceed. Pages that nobody touches cost nothing.
const ARENA: usize = 256 * 1024;
const PAGE: usize = 64 * 1024;

static mut MEMORY: [MaybeUninit<u8>; ARENA] = [MaybeUninit::uninit(); ARENA];

#[global_allocator]
static ALLOCATOR: TalcSyncCell<ArenaThenGrowth, WasmBinning> = TalcSyncCell::new_wasm(ArenaThenGrowth { arena: true });

/// Makes sure that calls start with as much free memory in one piece as the arena has, however much an initializer took of it.
pub(crate) fn replenish() {
    drop(core::hint::black_box(Vec::<u8>::with_capacity(ARENA)));
}

/// Where the allocator gets memory.
#[derive(Debug)]
struct ArenaThenGrowth {
    /// Whether the arena is still to be had.
    arena: bool,
}

// SAFETY: `acquire` allocates nothing itself.
unsafe impl Source for ArenaThenGrowth {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        if core::mem::take(&mut talc.source.arena) {
            // SAFETY: nobody else ever touches the arena, and it is claimed once.
            unsafe { talc.claim((&raw mut MEMORY).cast(), ARENA) };
            return Ok(());
        }
        // Room for the allocation, its alignment and the allocator's own notes.
        let bytes = layout.size().checked_add(layout.align() + PAGE).ok_or(())?;
        let pages = bytes / PAGE;
        let before = core::arch::wasm32::memory_grow::<0>(pages);
        if before == usize::MAX {
            return Err(());
        }
        // SAFETY: these pages are new, so they are nobody's.
        unsafe { talc.claim((before * PAGE) as *mut u8, pages * PAGE) }.map(drop).ok_or(())
    }
}
