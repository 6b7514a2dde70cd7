//! Tests of the manifest.

use super::super::testing::{Random, each_flip, each_truncation};
use super::*;

fn example() -> Manifest {
    Manifest {
        store: StoreId(*b"0123456789abcdef"),
        partitions: 2,
        features: vec!["first".to_string(), "second".to_string()],
        options: vec![
            ("chunk-bytes".to_string(), "16384".to_string()),
            ("title".to_string(), "  two words, \u{e9}\r".to_string()),
            ("nothing".to_string(), String::new()),
        ],
        epochs: vec![
            (Epoch(1), Number(1)),
            (Epoch(2), Number(455)),
            (Epoch(4), Number(455)),
            (Epoch(5), Number(900)),
        ],
    }
}

/// Seals a text, whatever it says, and decodes it.
fn sealed(text: &str) -> Result<Manifest, Damage> {
    Manifest::decode(format!("{text}{}", crc_line(text)).as_bytes())
}

/// Replaces one thing in the example's text, seals it and decodes it.
fn bent(from: &str, to: &str) -> Result<Manifest, Damage> {
    let text = example().text();
    assert!(text.contains(from));
    sealed(&text.replacen(from, to, 1))
}

#[test]
fn what_is_encoded_decodes() {
    assert_eq!(Manifest::decode(example().encode().as_bytes()), Ok(example()));
    let mut random = Random::new(1);
    for _ in 0..200 {
        let (mut epoch, mut number) = (0, 1);
        let epochs = (0..random.below(50)).map(|_| {
            epoch += 1 + random.below(3) as u32;
            number += random.next() % 1000;
            (Epoch(epoch), Number(number))
        });
        let epochs = epochs.collect();
        let words = |random: &mut Random, count: usize| -> Vec<String> {
            (0..count).map(|index| format!("word-{index}-{:x}", random.next())).collect()
        };
        let count = random.below(5);
        let names = words(&mut random, count);
        let manifest = Manifest {
            store: random.store(),
            partitions: 1 + random.below(256) as u16,
            features: words(&mut random, count / 2),
            options: names.into_iter().map(|name| (name, words(&mut random, count).join(" "))).collect(),
            epochs,
        };
        assert_eq!(manifest.check(), Ok(()));
        assert_eq!(Manifest::decode(manifest.encode().as_bytes()), Ok(manifest));
    }
}

#[test]
fn every_flip_and_truncation_is_an_error() {
    let text = example().encode();
    each_flip(text.as_bytes(), |index, bytes| assert!(Manifest::decode(bytes).is_err(), "byte {index}"));
    each_truncation(text.as_bytes(), |bytes| assert!(Manifest::decode(bytes).is_err()));
    assert_eq!(Manifest::decode(b""), Err(Damage::TooShort));
    assert_eq!(Manifest::decode(b"bitkv-manifest 1"), Err(Damage::TooShort));
    assert_eq!(Manifest::decode(b"bitkv-mani"), Err(Damage::TooShort));
    assert_eq!(Manifest::decode(b"something else"), Err(Damage::Magic));
    assert_eq!(Manifest::decode(&vec![b'a'; MANIFEST_BYTES_MAX + 1]), Err(Damage::Length));
}

#[test]
fn a_newer_version_is_named_whatever_follows() {
    assert_eq!(Manifest::decode(b"bitkv-manifest 2\nnobody knows"), Err(Damage::Version(2)));
    assert_eq!(Manifest::decode(b"bitkv-manifest one\n"), Err(Damage::Text("version")));
    assert_eq!(Manifest::decode(b"bitkv-manifest \xff\n"), Err(Damage::Text("version")));
}

#[test]
fn bounds_are_checked() {
    assert_eq!(bent("partitions 2", "partitions 256").unwrap().partitions, 256);
    assert_eq!(bent("partitions 2", "partitions 0"), Err(Damage::Number));
    assert_eq!(bent("partitions 2", "partitions 257"), Err(Damage::Number));
    assert_eq!(bent("partitions 2", "partitions 65536"), Err(Damage::Text("partition count")));
    assert_eq!(bent("epoch 2 455", "epoch 1 455"), Err(Damage::Order));
    assert_eq!(bent("epoch 2 455", "epoch 2 456"), Err(Damage::Order));
    assert_eq!(bent("epoch 2 455", "epoch 2"), Err(Damage::Text("list of epochs")));
    assert_eq!(bent("epoch 5 900", "epoch 5 18446744073709551616"), Err(Damage::Text("list of epochs")));
    assert_eq!(bent("option title", "option chunk-bytes"), Err(Damage::Text("list of options")));
}

#[test]
fn there_is_one_way_to_write_it() {
    for (from, to) in [
        ("partitions 2", "partitions +2"),
        ("partitions 2", "partitions 02"),
        ("partitions 2", "partitions  2"),
        ("epoch 2 455\n", "epoch 2 455\r\n"),
        ("epoch 2 455\n", "epoch 2 455\n\n"),
        ("epoch 2 455\n", "epoch 02 455\n"),
        ("epoch 5 900\n", "epoch 5 900"),
        ("epoch 5 900\n", "epoch 5 900\noption late 1\n"),
        ("epoch 5 900\n", "epoch 5 900\nother 1\n"),
        ("features first", "features  first"),
        ("features first second", "features first second "),
        ("store 3031", "store +031"),
        ("store 3031", "store 303"),
        ("6566\n", "656F\n"),
        ("store", "shop"),
        ("bitkv-manifest 1", "bitkv-manifest 01"),
    ] {
        assert!(matches!(bent(from, to), Err(Damage::Text(_))), "{to}: {:?}", bent(from, to));
    }
    assert!(matches!(sealed("bitkv-manifest 1\n"), Err(Damage::Text(_))));
}

#[test]
fn what_would_break_the_lines_is_refused() {
    let with_option = |name: &str, value: &str| {
        let options = vec![(name.to_string(), value.to_string())];
        Manifest { options, ..example() }.check()
    };
    assert_eq!(with_option("name", "value with spaces"), Ok(()));
    for (name, value) in [("na\nme", ""), ("na me", ""), ("", "value"), ("name", "one\ntwo")] {
        assert_eq!(with_option(name, value), Err(Damage::Text("list of options")));
    }
    for feature in ["", "two words", "two\nlines"] {
        let features = vec![feature.to_string()];
        assert_eq!(Manifest { features, ..example() }.check(), Err(Damage::Text("list of features")));
    }
    assert_eq!(with_option("name", &"a".repeat(MANIFEST_BYTES_MAX)), Err(Damage::Length));
}

#[test]
#[should_panic(expected = "list of options")]
fn a_broken_line_is_never_written() {
    Manifest { options: vec![("name".to_string(), "one\ntwo".to_string())], ..example() }.encode();
}

#[test]
fn a_life_owns_its_numbers_and_no_others() {
    let manifest = example();
    for (epoch, number, owns) in [
        (1, 0, false),
        (1, 1, true),
        (1, 454, true),
        (1, 455, false),
        // It wrote nothing that the next life kept.
        (2, 454, false),
        (2, 455, false),
        (3, 455, false),
        (4, 455, true),
        (4, 899, true),
        (4, 900, false),
        (5, 899, false),
        (5, 900, true),
        (5, u64::MAX, true),
        (6, 900, false),
    ] {
        assert_eq!(manifest.owns(Epoch(epoch), Number(number)), owns, "life {epoch}, number {number}");
        assert_eq!(
            manifest.owner(Number(number)) == Some(Epoch(epoch)),
            owns,
            "life {epoch}, number {number}"
        );
    }
    assert_eq!(manifest.owner(Number::ZERO), None);
}

#[test]
fn options_and_features_are_found() {
    let manifest = example();
    assert_eq!(manifest.option("chunk-bytes"), Some("16384"));
    assert_eq!(manifest.option("nothing"), Some(""));
    assert_eq!(manifest.option("chunk"), None);
    assert_eq!(manifest.unknown_feature(&["second", "first", "third"]), None);
    assert_eq!(manifest.unknown_feature(&["first"]), Some("second"));
}
