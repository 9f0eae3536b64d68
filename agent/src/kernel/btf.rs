//! Type information of the running kernel: where members of structures lie.
//!
//! Reads `struct btf_header` and `struct btf_type` of `linux/btf.h`. Any bytes at all give an answer or `None`,
//! never a panic.

use std::collections::HashMap;

/// A structure within a structure within ...: deeper than any kernel nests its own.
const MAX_DEPTH: u32 = 16;
/// Members looked at for one name, those of anonymous structures included; `task_struct` has some 300.
const MAX_MEMBERS: u32 = 100_000;
const HEADER_BYTES: usize = 24;
const TYPE_BYTES: usize = 12;

/// Values of the kind field.
const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

pub(super) struct Btf<'a> {
    bytes: &'a [u8],
    strings: &'a [u8],
    /// Where type `id` starts; 0 is `void` and starts nowhere.
    types: Vec<usize>,
    structs: HashMap<&'a [u8], u32>,
}

impl<'a> Btf<'a> {
    /// `None` when these bytes are no BTF of this machine's byte order.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        const MAGIC: u16 = 0xeb9f;
        if u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?) != MAGIC {
            return None;
        }
        let header = word(bytes, 4)? as usize;
        if header < HEADER_BYTES {
            return None;
        }
        let part = |at: usize| -> Option<std::ops::Range<usize>> {
            let start = header.checked_add(word(bytes, at)? as usize)?;
            let end = start.checked_add(word(bytes, at + 4)? as usize)?;
            (end <= bytes.len()).then_some(start..end)
        };
        let (types, strings) = (part(8)?, part(16)?);
        let mut btf = Self { bytes, strings: &bytes[strings], types: vec![0], structs: HashMap::new() };
        btf.index(types)?;
        Some(btf)
    }

    /// Byte offset of `"struct.member.member"`. Members of anonymous structures count as their parent's.
    pub(super) fn offset(&self, path: &str) -> Option<u32> {
        let mut names = path.split('.');
        let mut kind = *self.structs.get(names.next()?.as_bytes())?;
        let mut offset = 0_u32;
        for name in names {
            let mut budget = MAX_MEMBERS;
            let (at, member) = self.member(self.resolve(kind)?, name.as_bytes(), MAX_DEPTH, &mut budget)?;
            offset = offset.checked_add(at)?;
            kind = member;
        }
        Some(offset)
    }

    /// Size of a structure in bytes.
    pub(super) fn size(&self, name: &str) -> Option<u32> {
        word(self.bytes, self.start(*self.structs.get(name.as_bytes())?)? + 8)
    }

    fn index(&mut self, types: std::ops::Range<usize>) -> Option<()> {
        let mut at = types.start;
        while at < types.end {
            let id = u32::try_from(self.types.len()).ok()?;
            self.types.push(at);
            let (kind, count) = (self.kind_at(at)?, self.count_at(at)?);
            if matches!(kind, STRUCT | UNION) {
                let name = self.name(word(self.bytes, at)?)?;
                if !name.is_empty() {
                    self.structs.entry(name).or_insert(id);
                }
            }
            at = at.checked_add(TYPE_BYTES + extra_bytes(kind, count))?;
        }
        (at == types.end).then_some(())
    }

    /// Byte offset and type of a member of the structure `id`. Damaged input could lead round in circles, so
    /// depth and number of steps are bounded.
    fn member(&self, id: u32, wanted: &[u8], depth: u32, budget: &mut u32) -> Option<(u32, u32)> {
        let start = self.start(id)?;
        if !matches!(self.kind_at(start)?, STRUCT | UNION) {
            return None;
        }
        let has_bitfields = word(self.bytes, start + 4)? >> 31 == 1;
        for index in 0..self.count_at(start)? {
            *budget = budget.checked_sub(1)?;
            let at = start + TYPE_BYTES + index * 12;
            let (name, kind, offset) =
                (self.name(word(self.bytes, at)?)?, word(self.bytes, at + 4)?, word(self.bytes, at + 8)?);
            let offset = if has_bitfields { offset & 0x00ff_ffff } else { offset } / 8;
            if name == wanted {
                return Some((offset, kind));
            }
            if name.is_empty()
                && let Some(inner) = self.resolve(kind)
                && let Some(depth) = depth.checked_sub(1)
                && let Some((at, kind)) = self.member(inner, wanted, depth, budget)
            {
                return Some((offset.checked_add(at)?, kind));
            }
        }
        None
    }

    /// The type behind qualifiers and other names for it.
    fn resolve(&self, mut id: u32) -> Option<u32> {
        for _ in 0..MAX_DEPTH {
            let start = self.start(id)?;
            match self.kind_at(start)? {
                TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => id = word(self.bytes, start + 8)?,
                _ => return Some(id),
            }
        }
        None
    }

    fn start(&self, id: u32) -> Option<usize> {
        self.types.get(id as usize).copied().filter(|start| *start != 0)
    }

    fn kind_at(&self, start: usize) -> Option<u32> {
        Some(word(self.bytes, start + 4)? >> 24 & 0x1f)
    }

    fn count_at(&self, start: usize) -> Option<usize> {
        Some((word(self.bytes, start + 4)? & 0xffff) as usize)
    }

    fn name(&self, offset: u32) -> Option<&'a [u8]> {
        let tail = self.strings.get(offset as usize..)?;
        Some(&tail[..tail.iter().position(|byte| *byte == 0)?])
    }
}

/// Bytes of a type behind its common part.
fn extra_bytes(kind: u32, count: usize) -> usize {
    match kind {
        INT | VAR | DECL_TAG => 4,
        ARRAY => 12,
        STRUCT | UNION | DATASEC | ENUM64 => 12 * count,
        ENUM | FUNC_PROTO => 8 * count,
        _ => 0,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Types of a small kernel:
    ///
    /// ```c
    /// struct inner { int a; int b; };                                  // 1
    /// typedef struct inner inner_t;                                    // 2
    /// struct outer { int first; inner_t in; struct { int hidden; }; }; // 4, the anonymous one is 3
    /// ```
    fn sample() -> Vec<u8> {
        let strings = b"\0inner\0a\0b\0inner_t\0outer\0first\0in\0hidden\0";
        let name = |text: &str| {
            let mut wanted = text.as_bytes().to_vec();
            wanted.push(0);
            strings.windows(wanted.len()).position(|window| window == wanted).unwrap() as u32
        };
        let head = |name: u32, kind: u32, count: u32, size: u32| [name, kind << 24 | count, size];
        let mut words = Vec::new();
        words.extend(head(name("inner"), STRUCT, 2, 8));
        words.extend([name("a"), 0, 0, name("b"), 0, 32]);
        words.extend(head(name("inner_t"), TYPEDEF, 0, 1));
        words.extend(head(0, STRUCT, 1, 4));
        words.extend([name("hidden"), 0, 0]);
        words.extend(head(name("outer"), STRUCT, 3, 16));
        words.extend([name("first"), 0, 0, name("in"), 2, 32, 0, 3, 96]);
        let types: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();

        let mut bytes = 0xeb9f_u16.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        let (types_len, strings_len) = (types.len() as u32, strings.len() as u32);
        for word in [HEADER_BYTES as u32, 0, types_len, types_len, strings_len] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(types);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn a_path_leads_through_names_and_anonymous_members() {
        let bytes = sample();
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.offset("outer.first"), Some(0));
        assert_eq!(btf.offset("outer.in.b"), Some(8));
        assert_eq!(btf.offset("outer.hidden"), Some(12));
        assert_eq!(btf.size("inner"), Some(8));
    }

    #[test]
    fn what_is_not_there_has_no_offset() {
        let bytes = sample();
        let btf = Btf::parse(&bytes).unwrap();
        for path in ["", "outer.none", "nobody.a", "outer.first.a", "outer.in.b.c"] {
            assert_eq!(btf.offset(path), None, "{path}");
        }
    }

    #[test]
    fn a_cut_file_is_no_btf() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert!(Btf::parse(&bytes[..length]).is_none(), "{length} of {} bytes", bytes.len());
        }
    }

    #[test]
    fn a_type_that_names_itself_ends() {
        let mut bytes = sample();
        // The typedef becomes one of itself.
        let typedef = HEADER_BYTES + TYPE_BYTES + 2 * 12;
        bytes[typedef + 8..typedef + 12].copy_from_slice(&2_u32.to_ne_bytes());
        assert_eq!(Btf::parse(&bytes).unwrap().offset("outer.in.b"), None);
    }

    #[test]
    fn a_structure_full_of_itself_ends() {
        let mut bytes = sample();
        // Both members of `inner` become anonymous and of type `inner`.
        for member in 0..2 {
            let at = HEADER_BYTES + TYPE_BYTES + member * 12;
            bytes[at..at + 4].copy_from_slice(&0_u32.to_ne_bytes());
            bytes[at + 4..at + 8].copy_from_slice(&1_u32.to_ne_bytes());
        }
        assert_eq!(Btf::parse(&bytes).unwrap().offset("inner.none"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            if let Some(btf) = Btf::parse(&bytes) {
                btf.offset("a.b");
            }
        }

        #[test]
        fn no_damage_makes_it_panic(damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
            let mut bytes = sample();
            for (at, value) in damage {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Some(btf) = Btf::parse(&bytes) {
                for path in ["outer.first", "outer.in.b", "outer.hidden", "inner.b"] {
                    btf.offset(path);
                }
                btf.size("outer");
            }
        }
    }
}
