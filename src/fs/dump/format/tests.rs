use super::*;

const HEADER: Header =
    Header { chunk_bytes: 16_384, counter_end: 77, store: [9; 16], made_ns: -1, partitions: 2 };

fn dump(records: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, &HEADER).unwrap();
    for (key, value) in records {
        writer.put(key, value).unwrap();
    }
    assert_eq!(writer.finish().unwrap(), records.len() as u64);
    bytes
}

fn load(bytes: &[u8]) -> Result<Records, String> {
    let (mut reader, header) = Reader::new(bytes)?;
    assert_eq!(header, HEADER);
    let mut records = Vec::new();
    while let Some(block) = reader.next()? {
        records.extend(block);
    }
    Ok(records)
}

/// If this fails, the format has changed: dumps that people have kept can't be loaded any more. It needs another version then.
#[test]
fn a_dump_is_what_it_always_was() {
    let bytes = dump(&[(b"key", b"value"), (b"k", b"")]);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = "4249544b56444d50010000000040000 04d0000000000000009090909090909090909090909090909ffffffffffffffff02000000000000000000000\
        0";
    assert!(hex.starts_with(&expected.replace(' ', "")), "{hex}");
    assert_eq!(bytes.len(), HEADER_BYTES + 8 + 8 + 8 + 8 + 1 + 16);
    let body = b"\x03\0\0\0\x05\0\0\0keyvalue\x01\0\0\0\0\0\0\0k";
    assert_eq!(&bytes[64..68], (body.len() as u32).to_le_bytes());
    assert_eq!(&bytes[72..72 + body.len()], body);
    assert_eq!(&bytes[72 + body.len()..72 + body.len() + 4], [0; 4]);
    assert_eq!(&bytes[bytes.len() - 8..], 2u64.to_le_bytes());
    assert_eq!(crc32c::crc32c(&bytes), GOLDEN);
}

const GOLDEN: u32 = 0xc3b8_f1e1;

#[test]
fn large_values_and_many_blocks() {
    let large = vec![7; 16 << 20];
    let small = vec![1; 600_000];
    let records: [(&[u8], &[u8]); 5] =
        [(b"a", &small), (b"b", &small), (b"c", &large), (b"d", b""), (b"e", &small)];
    let loaded = load(&dump(&records)).unwrap();
    let expected: Records = records.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    assert!(loaded == expected);
    assert_eq!(load(&dump(&[])), Ok(Vec::new()));
}

#[test]
fn no_byte_can_change_and_none_can_be_missing() {
    let value = vec![3; 700_000];
    let bytes = dump(&[(b"a", b"x"), (b"b", &value), (b"c", &value)]);
    let places = (0..200).chain((200..bytes.len()).step_by(49_999)).chain(bytes.len() - 40..bytes.len());
    for place in places {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x10;
        let read = std::panic::catch_unwind(|| load(&damaged));
        // The header is compared by `load`; that it differs is seen, too.
        assert!(!matches!(read, Ok(Ok(_))), "at {place}");
    }
    for length in (0..200).chain((200..bytes.len()).step_by(49_999)) {
        assert!(load(&bytes[..length]).is_err(), "cut to {length}");
    }
    assert!(load(&[&bytes[..], b"x"].concat()).unwrap_err().contains("follows"));
}

#[test]
fn blocks_cannot_be_exchanged_or_lost() {
    let value = vec![3; 700_000];
    let bytes = dump(&[(b"a", &value), (b"b", &value), (b"c", &value)]);
    let block = 8 + 8 + 1 + 700_000;
    let part = |number: usize| &bytes[64 + number * block..64 + (number + 1) * block];
    let end = &bytes[64 + 3 * block..];
    let joined = |parts: &[&[u8]]| [&[&bytes[..64]], parts, &[end]].concat().concat();
    assert!(load(&joined(&[part(0), part(1), part(2)])).is_ok());
    for wrong in
        [&[part(1), part(0), part(2)][..], &[part(0), part(1)], &[part(0), part(0), part(1), part(2)]]
    {
        assert!(load(&joined(wrong)).is_err());
    }
}

#[test]
fn what_is_no_dump_is_refused_with_a_reason() {
    let newer = {
        let mut bytes = HEADER.encode();
        bytes[8] = 2;
        bytes
    };
    assert!(load(&newer).unwrap_err().contains("version 2"));
    assert!(load(&[b'x'; 100]).unwrap_err().contains("no dump"));
    assert!(load(b"short").unwrap_err().contains("incomplete"));
}
