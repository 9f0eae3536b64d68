//! Plain `cargo test` asks the seeds everything, and shows that each way to be wrong is seen.

use std::panic::catch_unwind;

use vouch::authz::xfcc::Fault;

use super::*;

fn seed(name: &str) -> String {
    let seeds = seeds::all().into_iter();
    let header = seeds.filter(|(known, _)| *known == name).map(|(_, input)| input).next().unwrap();
    String::from_utf8(header).unwrap()
}

#[test]
fn every_seed_keeps_the_rules() {
    for (name, input) in seeds::all() {
        println!("{name}");
        check(&input);
    }
    check(b"URI=\xff");
}

#[test]
fn the_seeds_end_in_every_way_that_a_header_can() {
    for (name, outcome) in [
        ("empty", Ok(0)),
        ("uri", Ok(1)),
        ("everything", Ok(1)),
        ("hops", Ok(2)),
        ("equals", Ok(1)),
        ("backslashes", Ok(1)),
        ("elements-most", Ok(256)),
        ("pairs-most", Ok(1)),
        ("too-long", Err(Fault::TooLong)),
        ("elements-too-many", Err(Fault::TooManyElements)),
        ("pairs-too-many", Err(Fault::TooManyPairs)),
        ("no-key", Err(Fault::NoKey)),
        ("unknown-key", Err(Fault::UnknownKey)),
        ("repeated-key", Err(Fault::RepeatedKey)),
        ("stray-quote", Err(Fault::StrayQuote)),
        ("no-end-quote", Err(Fault::NoEndQuote)),
        ("behind-quote", Err(Fault::BehindQuote)),
        ("unclear-quote", Err(Fault::UnclearQuote)),
    ] {
        let parsed = xfcc::parse(&seed(name));
        assert_eq!(parsed.map(|elements| elements.len()).map_err(|error| error.fault), outcome, "{name}");
    }
}

#[test]
fn the_reference_sees_what_a_parser_gets_wrong() {
    type Wrong = fn(&mut Vec<Element>);
    let faults: [(&str, &str, Wrong); 5] = [
        ("hops", "a hop is missing", |elements| drop(elements.remove(0))),
        ("hops", "hops have changed places", |elements| elements.swap(0, 1)),
        ("everything", "a name is missing", |elements| drop(elements[0].uri.pop())),
        ("everything", "a quote is still escaped", |elements| {
            elements[0].subject = Some(r#"O=a,C=\"b\""#.into());
        }),
        ("uri", "a name stands under another key", |elements| elements[0].dns = elements[0].uri.split_off(0)),
    ];
    for (name, fault, put_in) in faults {
        let header = seed(name);
        let mut outcome = xfcc::parse(&header);
        reference::judge(&header, &outcome);
        put_in(outcome.as_mut().unwrap());
        assert!(catch_unwind(|| reference::judge(&header, &outcome)).is_err(), "{fault}");
    }
    let refused = Err(Error { at: 0, fault: Fault::NoKey });
    assert!(catch_unwind(|| reference::judge(&seed("uri"), &refused)).is_err(), "what is right is refused");
    let taken = Ok(vec![Element::default()]);
    assert!(
        catch_unwind(|| reference::judge(&seed("unclear-quote"), &taken)).is_err(),
        "what is wrong is taken"
    );
}
