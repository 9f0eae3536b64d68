//! Type information of the object: names that the kernel accepts, and the layout of the shared records.

use std::{ops::Range, str};

use anyhow::{Context, Result, bail, ensure};
use vouch_abi::{LAYOUTS, StructLayout};

const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FUNC_PROTO: u32 = 13;
const DATASEC: u32 = 15;
const ENUM64: u32 = 19;

/// Replaces, in names of types and members, every character that the kernel refuses.
///
/// Rust says `UnsafeCell<T>` where the kernel wants a C identifier. The length stays, so nothing moves.
pub(super) fn make_names_acceptable(object: &mut [u8]) -> Result<()> {
    let btf = Btf::find(object)?;
    let mut names = Vec::new();
    for kind in btf.types(object)? {
        // A data section is named like the section, dots included.
        if kind.kind != DATASEC {
            names.push(kind.name);
        }
        names.extend(kind.members(object)?.into_iter().map(|member| member.name));
    }
    for name in names {
        let text = btf.name_bytes(object, name)?;
        for byte in &mut object[text] {
            if !(byte.is_ascii_alphanumeric() || *byte == b'_' || *byte == b'.') {
                *byte = b'_';
            }
        }
    }
    Ok(())
}

/// Fails when a shared struct in the object is not laid out as `vouch-abi` lays it out here.
///
/// The compiler describes only what maps, globals and signatures mention, so a struct may be absent; those that
/// are in a map must be there. Their sizes are asserted in `vouch-abi` for both sides.
pub(super) fn compare_layouts(object: &[u8]) -> Result<()> {
    const IN_A_MAP: &str = "ConnectRecord";
    let btf = Btf::find(object)?;
    let mut found = false;
    for kind in btf.types(object)?.iter().filter(|kind| kind.kind == STRUCT) {
        let name = btf.name(object, kind.name)?;
        let Some(layout) = LAYOUTS.iter().find(|layout| layout.name == name) else { continue };
        found |= name == IN_A_MAP;
        compare(&btf, object, kind, layout)?;
    }
    ensure!(found, "the object's BTF does not describe {IN_A_MAP}");
    Ok(())
}

fn compare(btf: &Btf, object: &[u8], kind: &Kind, layout: &StructLayout) -> Result<()> {
    ensure!(
        kind.size as usize == layout.size,
        "{} has {} bytes in the object and {} here",
        layout.name,
        kind.size,
        layout.size
    );
    let members = kind.members(object)?;
    ensure!(members.len() == layout.members.len(), "{} has other members in the object", layout.name);
    for member in members {
        let name = btf.name(object, member.name)?;
        let offset = member.bit_offset / 8;
        if !layout.members.contains(&(name, offset as usize)) {
            bail!("{}.{name} is at byte {offset} in the object and elsewhere here", layout.name);
        }
    }
    Ok(())
}

/// Where the parts of `.BTF` lie in the object.
struct Btf {
    types: Range<usize>,
    strings: usize,
}

struct Kind {
    name: u32,
    kind: u32,
    size: u32,
    count: usize,
    /// Of the first member.
    at: usize,
}

struct Member {
    name: u32,
    bit_offset: u32,
}

impl Btf {
    fn find(object: &[u8]) -> Result<Self> {
        let start = section(object, ".BTF")?;
        ensure!(number::<2>(object, start)? == 0xeb9f, "the object's BTF has another byte order");
        let part = |field: usize| number::<4>(object, start + field);
        let body = start + part(4)?;
        let types = body + part(8)?;
        Ok(Self { types: types..types + part(12)?, strings: body + part(16)? })
    }

    fn types(&self, object: &[u8]) -> Result<Vec<Kind>> {
        let mut at = self.types.start;
        let mut types = Vec::new();
        while at < self.types.end {
            let word = |index: usize| number::<4>(object, at + 4 * index);
            let info = word(1)? as u32;
            let kind = Kind {
                name: word(0)? as u32,
                kind: info >> 24 & 0x1f,
                size: word(2)? as u32,
                count: (info & 0xffff) as usize,
                at: at + 12,
            };
            at = kind.at + kind.extra_bytes();
            types.push(kind);
        }
        Ok(types)
    }

    fn name_bytes(&self, object: &[u8], name: u32) -> Result<Range<usize>> {
        let start = self.strings + name as usize;
        let tail = object.get(start..).context("a BTF name lies outside of the object")?;
        let length = tail.iter().position(|byte| *byte == 0).context("a BTF name has no end")?;
        Ok(start..start + length)
    }

    fn name<'a>(&self, object: &'a [u8], name: u32) -> Result<&'a str> {
        Ok(str::from_utf8(&object[self.name_bytes(object, name)?])?)
    }
}

impl Kind {
    /// Bytes behind the common part: see `struct btf_type` in `linux/btf.h`.
    fn extra_bytes(&self) -> usize {
        const INT: u32 = 1;
        const ARRAY: u32 = 3;
        const VAR: u32 = 14;
        const DECL_TAG: u32 = 17;
        match self.kind {
            INT | VAR | DECL_TAG => 4,
            ARRAY => 12,
            STRUCT | UNION | DATASEC | ENUM64 => 12 * self.count,
            ENUM | FUNC_PROTO => 8 * self.count,
            _ => 0,
        }
    }

    fn members(&self, object: &[u8]) -> Result<Vec<Member>> {
        let width = match self.kind {
            STRUCT | UNION | ENUM64 => 12,
            ENUM | FUNC_PROTO => 8,
            _ => return Ok(Vec::new()),
        };
        (0..self.count)
            .map(|index| {
                let at = self.at + index * width;
                // The last word is an offset in structs and unions alone, and nobody asks for it elsewhere.
                let bit_offset = number::<4>(object, at + width - 4)? as u32;
                Ok(Member { name: number::<4>(object, at)? as u32, bit_offset })
            })
            .collect()
    }
}

/// File offset of a section of a 64-bit little-endian ELF file.
fn section(object: &[u8], wanted: &str) -> Result<usize> {
    const HEADER: usize = 64;
    let (headers, count, names) =
        (number::<8>(object, 0x28)?, number::<2>(object, 0x3c)?, number::<2>(object, 0x3e)?);
    let field = |index: usize, offset: usize| headers + HEADER * index + offset;
    let names = number::<8>(object, field(names, 24))?;
    for index in 0..count {
        let name = names + number::<4>(object, field(index, 0))?;
        let bytes = object.get(name..).context("a section name lies outside of the object")?;
        if bytes.starts_with(wanted.as_bytes()) && bytes.get(wanted.len()) == Some(&0) {
            return number::<8>(object, field(index, 24));
        }
    }
    bail!("the object has no section {wanted}")
}

/// A little-endian number of `N` bytes.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<usize> {
    let end = at.checked_add(N).context("an offset in the object overflows")?;
    let bytes = bytes.get(at..end).context("the object is shorter than it says")?;
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(bytes);
    Ok(u64::from_le_bytes(wide) as usize)
}
