//! `net.cidr_*`: networks and addresses, IPv4 and IPv6. An IPv4 address that is written as an IPv6 one
//! (`::ffff:10.0.0.1`) is the IPv4 address, and so is a network of them.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use regorus::Value;

use super::{
    Exceeded,
    args::{Answer, Failure, elements, exactly, text},
};

/// The most addresses that `net.cidr_expand` lists: those of a `/16` of IPv4.
pub(super) const EXPANDED: u32 = 1 << 16;

/// The most pairs that `net.cidr_contains_matches` looks at.
pub(super) const PAIRS: usize = 1 << 20;

pub(super) fn is_valid(args: &[Value]) -> Answer {
    let [cidr] = exactly(args)?;
    Ok(Value::Bool(text(cidr).and_then(Network::parse).is_ok()))
}

/// `net.cidr_contains` and `net.cidr_overlap`: whether all of an address or a network is in a network.
pub(super) fn contains(args: &[Value]) -> Answer {
    let [outer, inner] = exactly(args)?;
    Ok(Value::Bool(is_in(outer, inner)?))
}

fn is_in(outer: &Value, inner: &Value) -> Result<bool, Failure> {
    let (outer, inner) = (Network::parse(text(outer)?)?, text(inner)?);
    match address(inner) {
        Some(address) => Ok(outer.contains(address)),
        None => Ok(outer.contains_all(Network::parse(inner)?)),
    }
}

pub(super) fn intersects(args: &[Value]) -> Answer {
    let [a, b] = exactly(args)?;
    let (a, b) = (Network::parse(text(a)?)?, Network::parse(text(b)?)?);
    Ok(Value::Bool(a.contains(b.first) || b.contains(a.first)))
}

/// Every address of a network, as a set.
pub(super) fn expand(args: &[Value]) -> Answer {
    let [cidr] = exactly(args)?;
    let network = Network::parse(text(cidr)?)?;
    let (first, last) = network.range();
    if last - first >= EXPANDED.into() {
        return Err(Failure::Exceeded(Exceeded::Addresses));
    }
    let addresses = (first..=last).map(|bits| Value::from(from_bits(bits).to_string()));
    Ok(Value::from(addresses.collect::<BTreeSet<_>>()))
}

/// Which of some networks contain which of some others, as a set of pairs: for an array the index, for an object the key,
/// otherwise the text itself. An element that is an array stands for its first element.
pub(super) fn contains_matches(args: &[Value]) -> Answer {
    let [outer, inner] = exactly(args)?;
    let (outer, inner) = (named(outer)?, named(inner)?);
    if outer.len().saturating_mul(inner.len()) > PAIRS {
        return Err(Failure::Exceeded(Exceeded::Addresses));
    }
    let mut pairs = BTreeSet::new();
    for (outer_name, outer) in &outer {
        for (inner_name, inner) in &inner {
            if is_in(outer, inner)? {
                pairs.insert(Value::from(vec![outer_name.clone(), inner_name.clone()]));
            }
        }
    }
    Ok(Value::from(pairs))
}

/// What is compared, each with the name that the answer has for it.
fn named(value: &Value) -> Result<Vec<(Value, &Value)>, Failure> {
    let pair = |(name, element)| cidr_of(element).map(|cidr| (name, cidr));
    match value {
        Value::String(_) => Ok(vec![(value.clone(), value)]),
        Value::Array(array) => {
            array.iter().enumerate().map(|(n, element)| pair((Value::from(n), element))).collect()
        }
        Value::Set(set) => set.iter().map(|element| pair((element.clone(), element))).collect(),
        Value::Object(object) => object.iter().map(|(key, element)| pair((key.clone(), element))).collect(),
        _ => Ok(Vec::new()),
    }
}

fn cidr_of(element: &Value) -> Result<&Value, Failure> {
    match element {
        Value::String(_) => Ok(element),
        Value::Array(array) => array.first().ok_or(Failure::Error),
        _ => Err(Failure::Error),
    }
}

/// The fewest networks with the same addresses, as a set. An IPv4 address alone stands for its class's network.
pub(super) fn merge(args: &[Value]) -> Answer {
    let [networks] = exactly(args)?;
    let mut ranges = elements(networks)?.into_iter().map(Range::parse).collect::<Result<Vec<_>, _>>()?;
    ranges.sort_by_key(|range| (range.last, range.first));
    for at in (1..ranges.len()).rev() {
        if before(ranges[at].first) <= ranges[at - 1].last {
            let upper = ranges.remove(at);
            let first = upper.first.min(ranges[at - 1].first);
            ranges[at - 1] = Range { first, last: upper.last, alone: None };
        }
    }
    let merged = ranges.into_iter().flat_map(Range::networks).map(Value::from);
    Ok(Value::from(merged.collect::<BTreeSet<_>>()))
}

/// Addresses in a row, in IPv6's numbering.
struct Range {
    first: u128,
    last: u128,
    /// The network as it was given, while it is that alone.
    alone: Option<String>,
}

impl Range {
    fn parse(value: &Value) -> Result<Self, Failure> {
        let given = text(value)?;
        let (network, shown) = match address(given) {
            None => {
                let network = Network::parse(given)?;
                (network, network.to_string())
            }
            Some(IpAddr::V4(v4)) => {
                let length = match v4.octets()[0] {
                    0..0x80 => 8,
                    0x80..0xc0 => 16,
                    _ => 24,
                };
                (Network::new(v4.into(), length), format!("{v4}/{length}"))
            }
            Some(IpAddr::V6(_)) => return Err(Failure::Error),
        };
        let (first, last) = network.range();
        Ok(Range { first, last, alone: Some(shown) })
    }

    fn networks(self) -> Vec<String> {
        if let Some(alone) = self.alone {
            return vec![alone];
        }
        let (mut networks, mut first) = (Vec::new(), self.first);
        loop {
            let size = largest(first, self.last);
            let whole_length = 128 - size;
            let address = from_bits(first);
            let length = if address.is_ipv4() { whole_length - 96 } else { whole_length };
            networks.push(format!("{address}/{length}"));
            match first.checked_add(1_u128.checked_shl(size).unwrap_or(0)) {
                Some(next) if size < 128 && next <= self.last => first = next,
                _ => return networks,
            }
        }
    }
}

/// How many bits the largest network has that starts at `first` and ends by `last`.
fn largest(first: u128, last: u128) -> u32 {
    let aligned = first.trailing_zeros();
    (0..=aligned).rev().find(|&size| first | host_mask(size) <= last).unwrap_or(0)
}

/// The address before, if it is of the same kind.
fn before(address: u128) -> u128 {
    if address == 0 || address == bits(Ipv4Addr::UNSPECIFIED.into()) { address } else { address - 1 }
}

/// A network, its host bits zero.
#[derive(Clone, Copy, Debug)]
struct Network {
    first: IpAddr,
    length: u32,
}

impl Network {
    fn new(address: IpAddr, length: u32) -> Self {
        let size = if address.is_ipv4() { 32 } else { 128 } - length;
        Network { first: from_bits(bits(address) & !host_mask(size)), length }
    }

    fn parse(cidr: &str) -> Result<Self, Failure> {
        let (address, length) = cidr.split_once('/').ok_or(Failure::Error)?;
        let address = address.parse::<IpAddr>().map_err(|_| Failure::Error)?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Failure::Error);
        }
        let length = length.parse::<u32>().ok().filter(|&length| length <= whole).ok_or(Failure::Error)?;
        // A network of IPv4 addresses that are written as IPv6 ones.
        match address {
            IpAddr::V6(v6) if length >= 96 && v6.to_ipv4_mapped().is_some() => {
                Ok(Network::new(address.to_canonical(), length - 96))
            }
            _ => Ok(Network::plain(address, length)),
        }
    }

    /// IPv6 stays IPv6, even where the address without its host bits could be taken for an IPv4 one.
    fn plain(address: IpAddr, length: u32) -> Self {
        match address {
            IpAddr::V4(_) => Network::new(address, length),
            IpAddr::V6(v6) => {
                let first = Ipv6Addr::from_bits(v6.to_bits() & !host_mask(128 - length));
                Network { first: first.into(), length }
            }
        }
    }

    fn size(self) -> u32 {
        if self.first.is_ipv4() { 32 - self.length } else { 128 - self.length }
    }

    /// First and last address, in IPv6's numbering.
    fn range(self) -> (u128, u128) {
        let first = bits(self.first);
        (first, first | host_mask(self.size()))
    }

    fn contains(self, address: IpAddr) -> bool {
        let (first, last) = self.range();
        self.first.is_ipv4() == address.is_ipv4() && (first..=last).contains(&bits(address))
    }

    fn contains_all(self, inner: Network) -> bool {
        let ((first, last), (inner_first, inner_last)) = (self.range(), inner.range());
        self.first.is_ipv4() == inner.first.is_ipv4() && first <= inner_first && inner_last <= last
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}

/// An address without a zone.
fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn host_mask(size: u32) -> u128 {
    1_u128.checked_shl(size).map_or(u128::MAX, |bit| bit - 1)
}

/// An address in IPv6's numbering, where IPv4 has its place.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn from_bits(bits: u128) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(bits)).to_canonical()
}
