//! Any bytes as a manifest: as they are, and with a last line that is right, to get behind it.

#![no_main]

use bitkv::engine::format::{Manifest, crc};
use bitkv::engine::types::Number;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    let text = [b"bitkv-manifest 1\n", bytes].concat();
    check(&[&text[..], format!("crc32c {:08x}\n", crc(None, &[&text])).as_bytes()].concat());
});

/// What decodes encodes to the same bytes, and every life owns what it is said to own.
fn check(bytes: &[u8]) {
    let Ok(manifest) = Manifest::decode(bytes) else { return };
    assert_eq!(manifest.encode().as_bytes(), bytes);
    for (epoch, number) in &manifest.epochs {
        assert_eq!(manifest.owns(*epoch, *number), manifest.owner(*number) == Some(*epoch));
    }
    assert_eq!(manifest.owner(Number::MAX), manifest.epochs.last().map(|life| life.0));
}
