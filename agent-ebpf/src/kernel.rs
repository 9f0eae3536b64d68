//! Reading the kernel's structures.

use core::{
    mem::MaybeUninit,
    ptr::{read_volatile, write_volatile},
};

use zerocopy::FromBytes;

/// The frozen offset of that name in `vouch_abi::Offsets`.
///
/// The volatile read keeps the compiler from folding in the zeros that stand in the object.
macro_rules! offset {
    ($name:ident) => {{
        // SAFETY: the field of a static.
        let offset = unsafe { core::ptr::read_volatile(&raw const crate::maps::OFFSETS.$name) };
        u64::from(offset)
    }};
}
pub(crate) use offset;

/// The frozen value of that name in `vouch_abi::Features`.
macro_rules! kernel_has {
    ($name:ident) => {{
        // SAFETY: the field of a static.
        unsafe { core::ptr::read_volatile(&raw const crate::maps::FEATURES.$name) }
    }};
}
pub(crate) use kernel_has;

/// The field at `offset` of the structure at `base`, a pointer whose type the verifier knows.
///
/// The verifier checks offset and type of each such load; a pointer that is bad at run time reads as zero. So a
/// null check is needed for what a zero means, never for safety.
#[inline(always)]
pub fn field<T: Copy>(base: u64, offset: u64) -> T {
    // SAFETY: see above; the kernel refuses the program otherwise.
    unsafe { read_volatile((base + offset) as *const T) }
}

/// Clears a record word by word: `write_bytes` would become a loop over bytes that the verifier gives up on.
///
/// # Safety
/// `record` is valid for writes and aligned to 8 bytes. The size of `T` is a multiple of 8.
#[inline(always)]
pub unsafe fn clear<T>(record: *mut T) {
    const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() == 8) };
    let mut at = 0;
    while at < size_of::<T>() / 8 {
        // SAFETY: within `record`, as the caller promised.
        unsafe { write_volatile(record.cast::<u64>().add(at), 0) };
        at += 1;
    }
}

/// Copies a record word by word, as [`clear`] clears it.
///
/// # Safety
/// Both are valid and aligned to 8 bytes. The size of `T` is a multiple of 8.
#[inline(always)]
pub unsafe fn copy<T>(from: *const T, to: *mut T) {
    const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() == 8) };
    let mut at = 0;
    while at < size_of::<T>() / 8 {
        // SAFETY: within both, as the caller promised.
        unsafe { write_volatile(to.cast::<u64>().add(at), read_volatile(from.cast::<u64>().add(at))) };
        at += 1;
    }
}

/// A record of zeros in `memory`.
#[inline(always)]
pub fn cleared<T: FromBytes>(memory: &mut MaybeUninit<T>) -> &mut T {
    // SAFETY: `clear` writes every word of it, and zeros make a value of the type.
    unsafe {
        clear(memory.as_mut_ptr());
        memory.assume_init_mut()
    }
}
