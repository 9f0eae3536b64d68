use std::{fs, os::unix::fs::PermissionsExt, time::UNIX_EPOCH};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn the_authority_is_the_same_after_a_restart() {
    let dir = state_dir();
    let first = open(&dir, start()).unwrap();
    let (id, roots) = (first.signing().unwrap().id(), first.roots());
    drop(first);
    let second = open(&dir, start() + DAY).unwrap();
    assert_eq!((second.signing().unwrap().id(), second.roots()), (id, roots));
}

#[test]
fn another_trust_domain_is_refused_and_named() {
    let dir = state_dir();
    drop(open(&dir, start()).unwrap());
    let problem = Embedded::open(dir.path(), &"other.org".parse().unwrap(), YEAR, start()).unwrap_err();
    assert_eq!(problem.code, "E0207");
    assert!(problem.to_string().contains("trust_domain = \"example.org\""), "{problem}");
}

#[test]
fn no_authority_is_made_while_the_clock_is_not_set() {
    let dir = state_dir();
    assert_eq!(open(&dir, UNIX_EPOCH + DAY).unwrap_err().code, "E0208");
    open(&dir, start()).unwrap();
}

#[test]
fn a_successor_is_published_at_half_life_and_signs_in_the_last_sixth() {
    let dir = state_dir();
    let mut ca = open(&dir, start()).unwrap();
    let first = ca.signing().unwrap().id();

    ca.tick(start() + YEAR / 2 - DAY).unwrap();
    assert_eq!(ca.roots().len(), 1);
    ca.tick(start() + YEAR / 2 + DAY).unwrap();
    assert_eq!((ca.roots().len(), ca.signing().unwrap().id(), ca.has_successor()), (2, first, true));

    ca.tick(start() + YEAR * 5 / 6 + DAY).unwrap();
    let second = ca.signing().unwrap().id();
    assert_ne!(second, first);
    assert_eq!(ca.signers(), [first, second]);

    ca.tick(start() + YEAR + DAY / 2).unwrap();
    assert_eq!(ca.signers(), [first, second], "the old root stays until after its end");
    ca.tick(start() + YEAR + 2 * DAY).unwrap();
    assert_eq!(ca.signers()[0], second);
    drop(ca);
    let again = open(&dir, start() + YEAR + 2 * DAY).unwrap();
    assert_eq!(again.signing().unwrap().id(), second);
}

#[test]
fn a_short_life_takes_no_more_authorities_than_a_long_one() {
    let dir = state_dir();
    let life = Duration::from_secs(60);
    let mut ca = Embedded::open(dir.path(), &"example.org".parse().unwrap(), life, start()).unwrap();
    let mut seen: Vec<_> = ca.signers();
    for beat in 1..=480 {
        // As often as the agent looks.
        let now = start() + Duration::from_millis(1250) * beat;
        ca.tick(now).unwrap();
        assert!(ca.signing().unwrap().validity().not_after > now);
        assert!(ca.roots().len() <= 4, "{} roots at beat {beat}", ca.roots().len());
        seen.extend(ca.signers());
    }
    seen.sort();
    seen.dedup();
    assert!((17..=24).contains(&seen.len()), "{} authorities in ten lives", seen.len());
}

#[test]
fn an_agent_that_slept_past_the_end_of_its_authority_gets_a_new_one() {
    let dir = state_dir();
    let mut ca = open(&dir, start()).unwrap();
    let first = ca.signing().unwrap().id();
    let now = start() + 3 * YEAR;
    ca.tick(now).unwrap();
    assert_ne!(ca.signing().unwrap().id(), first);
    assert!(ca.signing().unwrap().validity().not_after > now);
}

#[test]
fn a_clock_that_was_ahead_and_is_corrected_finds_the_old_authority_again() {
    let dir = state_dir();
    let mut ca = open(&dir, start()).unwrap();
    let first = ca.signing().unwrap().id();
    ca.tick(start() + YEAR).unwrap();
    assert_ne!(ca.signing().unwrap().id(), first);
    ca.tick(start() + DAY).unwrap();
    assert_eq!(ca.signing().unwrap().id(), first);
    assert!(ca.clock_behind(start() + DAY).unwrap() > 300 * DAY);
}

#[test]
fn no_step_counts_before_it_is_durable() {
    let dir = state_dir();
    let mut ca = open(&dir, start()).unwrap();
    let roots = ca.roots();
    ca.log.fail_after(0);
    for _ in 0..2 {
        assert_eq!(ca.tick(start() + YEAR / 2 + DAY).unwrap_err().code, "E0204");
        assert_eq!(ca.roots(), roots);
    }
    ca.log.fail_after(usize::MAX);
    assert!(ca.tick(start() + YEAR / 2 + DAY).unwrap());
    let roots = ca.roots();
    assert_eq!(roots.len(), 2, "what is due is done once the disk has room");
    drop(ca);
    assert_eq!(open(&dir, start()).unwrap().roots(), roots);
}

#[test]
fn a_root_that_is_durable_is_told_of_though_a_later_step_failed() {
    let dir = state_dir();
    let mut ca = open(&dir, start()).unwrap();
    let now = start() + YEAR / 2 + DAY;
    ca.log.fail_after(2);
    assert_eq!(ca.tick(now).unwrap_err().code, "E0204", "the mark of time does not fit");
    assert_eq!(ca.roots().len(), 2);
    ca.log.fail_after(usize::MAX);
    assert!(ca.tick(now).unwrap(), "the root is new to those who are told");
    assert!(!ca.tick(now).unwrap());
}

#[test]
fn a_log_without_its_first_authority_is_never_started_over() {
    let dir = state_dir();
    drop(open(&dir, start()).unwrap());
    let file = dir.path().join("state.log");
    let whole = fs::read(&file).unwrap();
    let published_from = whole.len() - (16 + 32 + 36) - (16 + 40 + 36);
    for len in 0..whole.len() {
        fs::write(&file, &whole[..len]).unwrap();
        let opened = open(&dir, start());
        if len < published_from + 92 {
            assert_eq!(opened.unwrap_err().code, "E0205", "cut at {len}");
            assert_eq!(fs::read(&file).unwrap(), whole[..len], "the log is left as it is");
        } else {
            let mut ca = opened.unwrap();
            ca.tick(start()).unwrap();
            assert_eq!(ca.signing().unwrap().id(), SignerId::of(&ca.roots()[0]));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_flipped_bit_never_brings_another_key(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let dir = state_dir();
        let first = open(&dir, start()).unwrap();
        let id = first.signing().unwrap().id();
        drop(first);
        let file = dir.path().join("state.log");
        let mut bytes = fs::read(&file).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        fs::write(&file, &bytes).unwrap();
        match open(&dir, start()) {
            Err(problem) => prop_assert!(["E0205", "E0206"].contains(&problem.code)),
            Ok(mut ca) => {
                ca.tick(start()).unwrap();
                prop_assert_eq!(ca.signing().unwrap().id(), id);
                prop_assert_eq!(ca.roots().len(), 1);
            }
        }
    }

    #[test]
    fn whatever_the_clock_does_something_valid_signs_and_nothing_valid_leaves_the_bundle(
        days in proptest::collection::vec(0..1200_u32, 1..12),
    ) {
        let dir = state_dir();
        let mut ca = open(&dir, start()).unwrap();
        for day in days {
            let now = start() + DAY * day;
            let before: Vec<_> = ca.authorities.list.iter().map(|ca| (ca.id, ca.validity)).collect();
            ca.tick(now).unwrap();
            let validity = ca.signing().unwrap().validity();
            prop_assert!(validity.not_before <= now && now < validity.not_after);
            for (id, validity) in before {
                prop_assert!(validity.not_after <= now || ca.signers().contains(&id));
            }
            prop_assert!(ca.authorities.next_step(now).is_none(), "a tick leaves nothing undone");
        }
        let roots = ca.roots();
        drop(ca);
        prop_assert_eq!(open(&dir, start()).unwrap().roots(), roots);
    }
}

fn open(dir: &TempDir, now: SystemTime) -> Result<Embedded, Problem> {
    Embedded::open(dir.path(), &"example.org".parse().unwrap(), YEAR, now)
}

/// 2027-01-15.
fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn state_dir() -> TempDir {
    tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o700)).tempdir().unwrap()
}
