//! What came under one name, in the order in which the first stream got it; and whether a stream may get it now.

use std::{collections::VecDeque, rc::Rc};

use anyhow::{Result, bail};

use crate::sds::{Answer, Requests};

/// So many contents are remembered: who is further behind has missed some.
const REMEMBERED: usize = 8;

/// How closely streams are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Watch {
    /// Each stream gets each content once, and one version is one content for all.
    Each,
    /// Each stream gets the newest in the end. A server may number versions by stream, send one again, and skip one.
    Newest,
}

#[derive(Debug)]
pub(super) struct Versions {
    pub(super) name: String,
    watch: Watch,
    /// Contents that were forgotten; those that are left follow.
    forgotten: usize,
    seen: VecDeque<(Vec<u8>, Vec<u8>)>,
    /// The last ACK, and version and nonce in it: mostly the next stream's is the same.
    acked: (Vec<u8>, Vec<u8>),
    ack: Rc<[u8]>,
    /// Which content, counted from 1, every stream is to get now.
    pub(super) expected: usize,
}

impl Versions {
    pub(super) fn new(name: String, watch: Watch) -> Self {
        let (seen, acked) = (VecDeque::new(), Default::default());
        Self { name, watch, forgotten: 0, seen, acked, ack: Rc::default(), expected: 1 }
    }

    /// How many contents there were.
    pub(super) fn count(&self) -> usize {
        self.forgotten + self.seen.len()
    }

    /// The newest version and its resource, as an `Any`.
    pub(super) fn newest(&self) -> Option<(&[u8], &[u8])> {
        self.seen.back().map(|(version, resource)| (&version[..], &resource[..]))
    }

    /// Of the last answer.
    pub(super) fn nonce(&self) -> &[u8] {
        &self.acked.1
    }

    /// Notes an answer to a stream that had `had` contents before. Gives how many it has now, and its ACK.
    pub(super) fn take(
        &mut self,
        answer: &Answer<'_>,
        had: usize,
        requests: &Requests,
    ) -> Result<(usize, Rc<[u8]>)> {
        let has = match self.watch {
            Watch::Each => self.place_of_each(answer, had)?,
            Watch::Newest => self.place_of_newest(answer, had)?,
        };
        if (&*self.acked.0, &*self.acked.1) != (answer.version, answer.nonce) {
            self.ack = requests.ack(&self.name, answer.version, answer.nonce)?;
            self.acked = (answer.version.to_vec(), answer.nonce.to_vec());
        }
        Ok((has, Rc::clone(&self.ack)))
    }

    fn place_of_each(&mut self, answer: &Answer<'_>, had: usize) -> Result<usize> {
        let place = self.seen.iter().rposition(|(version, _)| version == answer.version);
        match place.map(|place| (self.forgotten + place, &self.seen[place].1)) {
            Some((_, resource)) if resource != answer.resource => {
                bail!("another secret under the same version than the streams before");
            }
            Some((place, _)) if place < had => bail!("a version that it had already"),
            Some((place, _)) if place > had => bail!("missed {} versions", place - had),
            Some((place, _)) => Ok(place + 1),
            None if had < self.count() => bail!("missed {} versions", self.count() - had),
            None => Ok(self.note(answer)),
        }
    }

    fn place_of_newest(&mut self, answer: &Answer<'_>, had: usize) -> Result<usize> {
        let place = self.seen.iter().rposition(|(_, resource)| resource == answer.resource);
        match place.map(|place| self.forgotten + place + 1) {
            Some(has) if has < had => bail!("an older content than it had already"),
            Some(has) => Ok(has),
            None => Ok(self.note(answer)),
        }
    }

    fn note(&mut self, answer: &Answer<'_>) -> usize {
        if self.seen.len() == REMEMBERED {
            self.seen.pop_front();
            self.forgotten += 1;
        }
        self.seen.push_back((answer.version.to_vec(), answer.resource.to_vec()));
        self.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sds::AckShape;

    fn answer<'a>(version: &'a str, resource: &'a str) -> Answer<'a> {
        Answer { version: version.as_bytes(), nonce: b"1", resource: resource.as_bytes() }
    }

    fn watching(watch: Watch) -> impl FnMut(&Answer<'_>, usize) -> Result<usize> {
        let mut versions = Versions::new("default".into(), watch);
        move |answer, had| versions.take(answer, had, &Requests::new(AckShape::Small)).map(|(has, _)| has)
    }

    #[test]
    fn each_stream_gets_each_version_once() {
        let mut take = watching(Watch::Each);
        assert_eq!(take(&answer("a", "1"), 0).unwrap(), 1);
        assert_eq!(take(&answer("a", "1"), 0).unwrap(), 1);
        assert_eq!(take(&answer("b", "2"), 1).unwrap(), 2);
        // A slow stream still gets the one that the others have behind them.
        assert_eq!(take(&answer("a", "1"), 0).unwrap(), 1);
        assert!(take(&answer("a", "1"), 1).is_err(), "twice");
        assert!(take(&answer("a", "1"), 2).is_err(), "back");
        assert!(take(&answer("b", "2"), 0).is_err(), "missed one that others got");
        assert!(take(&answer("c", "3"), 0).is_err(), "missed two");
    }

    #[test]
    fn one_version_has_one_content() {
        let mut take = watching(Watch::Each);
        take(&answer("a", "1"), 0).unwrap();
        assert!(take(&answer("a", "2"), 0).is_err());
    }

    #[test]
    fn what_numbers_its_versions_by_stream_is_watched_by_content() {
        let mut take = watching(Watch::Newest);
        assert_eq!(take(&answer("1", "x"), 0).unwrap(), 1);
        assert_eq!(take(&answer("7", "x"), 0).unwrap(), 1);
        assert_eq!(take(&answer("8", "x"), 1).unwrap(), 1, "once more");
        assert_eq!(take(&answer("2", "y"), 1).unwrap(), 2);
        assert_eq!(take(&answer("9", "z"), 1).unwrap(), 3, "one was skipped");
        assert!(take(&answer("3", "x"), 2).is_err(), "back");
    }

    #[test]
    fn what_was_forgotten_is_not_taken_for_new() {
        let mut take = watching(Watch::Each);
        for number in 0..REMEMBERED + 3 {
            let text = number.to_string();
            assert_eq!(take(&answer(&text, &text), number).unwrap(), number + 1);
        }
        assert!(take(&answer("0", "0"), 0).is_err());
    }

    #[test]
    fn an_ack_names_what_it_acknowledges() {
        let requests = Requests::new(AckShape::Small);
        let mut versions = Versions::new("default".into(), Watch::Each);
        for (version, nonce, had) in [("a", "7", 0), ("b", "8", 1), ("c", "8", 2)] {
            let answer = Answer { nonce: nonce.as_bytes(), ..answer(version, version) };
            let (_, ack) = versions.take(&answer, had, &requests).unwrap();
            assert_eq!(ack, requests.ack("default", version.as_bytes(), nonce.as_bytes()).unwrap());
        }
    }
}
