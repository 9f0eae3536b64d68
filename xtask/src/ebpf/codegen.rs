//! Bitcode becomes a BPF object, by LLVM's C interface in a shared library that is opened by path.

#![expect(unsafe_code, reason = "calls into libLLVM, which has only a C interface")]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    mem,
    os::unix::ffi::OsStrExt,
    path::Path,
    ptr::null_mut,
    slice,
};

use anyhow::{Context, Result, bail, ensure};

type Pointer = *mut c_void;

/// Of the instruction sets that BPF has had, the one that every kernel we run on knows.
const CPU: &CStr = c"v2";
const TRIPLE: &CStr = c"bpfel";
/// `LLVMCodeGenLevelAggressive`
const OPTIMIZE: c_int = 3;
/// `LLVMRelocDefault`, `LLVMCodeModelDefault`
const DEFAULT: c_int = 0;
/// `LLVMObjectFile`
const OBJECT_FILE: c_int = 1;

/// The object that the library at `libllvm` makes of the bitcode at `bitcode`.
///
/// What LLVM allocates is left to the end of the process: this is a build step, not a service.
pub(super) fn object(libllvm: &Path, bitcode: &Path) -> Result<Vec<u8>> {
    let library = Library::open(libllvm)?;
    for name in [
        c"LLVMInitializeBPFTargetInfo",
        c"LLVMInitializeBPFTarget",
        c"LLVMInitializeBPFTargetMC",
        c"LLVMInitializeBPFAsmPrinter",
    ] {
        // SAFETY: of this type in every LLVM that has the BPF back end; they only register it.
        unsafe { library.symbol::<unsafe extern "C" fn()>(name)?() };
    }
    let module = library.parse(bitcode)?;
    library.emit(module)
}

struct Library(Pointer);

impl Library {
    fn open(path: &Path) -> Result<Self> {
        let name = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: loads a library whose initializers do no more than register options.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
        ensure!(!handle.is_null(), "{} cannot be loaded", path.display());
        Ok(Self(handle))
    }

    /// # Safety
    /// `F` is a function pointer of the type that the symbol has.
    unsafe fn symbol<F: Copy>(&self, name: &CStr) -> Result<F> {
        const { assert!(size_of::<F>() == size_of::<Pointer>()) };
        // SAFETY: the handle is open for as long as we run.
        let address = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        ensure!(!address.is_null(), "libLLVM has no {}", name.to_string_lossy());
        // SAFETY: an address of that type, as the caller promised; of the same size, as asserted.
        Ok(unsafe { mem::transmute_copy::<Pointer, F>(&address) })
    }

    fn parse(&self, bitcode: &Path) -> Result<Pointer> {
        type Create = unsafe extern "C" fn() -> Pointer;
        type Read = unsafe extern "C" fn(*const c_char, *mut Pointer, *mut *mut c_char) -> c_int;
        type Parse = unsafe extern "C" fn(Pointer, Pointer, *mut Pointer) -> c_int;
        let path = CString::new(bitcode.as_os_str().as_bytes())?;
        let (mut buffer, mut module, mut message) = (null_mut(), null_mut(), null_mut());
        // SAFETY: the types are those of LLVM-C (Core.h, BitReader.h); each result is checked before it is used.
        unsafe {
            let context = self.symbol::<Create>(c"LLVMContextCreate")?();
            let read = self.symbol::<Read>(c"LLVMCreateMemoryBufferWithContentsOfFile")?;
            if read(path.as_ptr(), &mut buffer, &mut message) != 0 {
                bail!("{} cannot be read: {}", bitcode.display(), text(message));
            }
            let parse = self.symbol::<Parse>(c"LLVMParseBitcodeInContext2")?;
            ensure!(parse(context, buffer, &mut module) == 0, "{} is not bitcode", bitcode.display());
        }
        Ok(module)
    }

    fn emit(&self, module: Pointer) -> Result<Vec<u8>> {
        type Find = unsafe extern "C" fn(*const c_char, *mut Pointer, *mut *mut c_char) -> c_int;
        type Machine = unsafe extern "C" fn(
            Pointer,
            *const c_char,
            *const c_char,
            *const c_char,
            c_int,
            c_int,
            c_int,
        ) -> Pointer;
        type Emit = unsafe extern "C" fn(Pointer, Pointer, c_int, *mut *mut c_char, *mut Pointer) -> c_int;
        type Start = unsafe extern "C" fn(Pointer) -> *const u8;
        type Size = unsafe extern "C" fn(Pointer) -> usize;
        let (mut target, mut buffer, mut message) = (null_mut(), null_mut(), null_mut());
        // SAFETY: the types are those of LLVM-C (TargetMachine.h, Core.h); each result is checked before it is
        // used, and the buffer is copied while it lives.
        unsafe {
            let find = self.symbol::<Find>(c"LLVMGetTargetFromTriple")?;
            if find(TRIPLE.as_ptr(), &mut target, &mut message) != 0 {
                bail!("libLLVM has no BPF back end: {}", text(message));
            }
            let machine = self.symbol::<Machine>(c"LLVMCreateTargetMachine")?;
            let machine =
                machine(target, TRIPLE.as_ptr(), CPU.as_ptr(), c"".as_ptr(), OPTIMIZE, DEFAULT, DEFAULT);
            ensure!(!machine.is_null(), "libLLVM makes no BPF target machine");
            let emit = self.symbol::<Emit>(c"LLVMTargetMachineEmitToMemoryBuffer")?;
            if emit(machine, module, OBJECT_FILE, &mut message, &mut buffer) != 0 {
                bail!("libLLVM emits no object: {}", text(message));
            }
            let start = self.symbol::<Start>(c"LLVMGetBufferStart")?(buffer);
            let size = self.symbol::<Size>(c"LLVMGetBufferSize")?(buffer);
            Some(slice::from_raw_parts(start, size).to_vec())
                .filter(|o| !o.is_empty())
                .context("an empty object")
        }
    }
}

/// # Safety
/// `message` is null or a C string.
unsafe fn text(message: *mut c_char) -> String {
    if message.is_null() {
        return "no reason given".to_owned();
    }
    // SAFETY: as the caller promised.
    unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned()
}
