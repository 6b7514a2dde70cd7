//! Pax records as they stand in an archive. The crate that reads archives takes them apart at line ends, and so loses values that hold one (attributes
//! may hold anything); so what it reads to find an entry is kept here, and taken apart by the lengths that the records say.

use std::cell::RefCell;
use std::io::{self, Read};
use std::rc::Rc;
use tar::{EntryType, Header};

const BLOCK_BYTES: usize = 512;
/// Headers and records of one entry are no longer; who reads more of them is led around.
const HEARD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What was read since it was begun to listen.
#[derive(Default)]
struct Heard {
    listening: bool,
    position: usize,
    bytes: Vec<u8>,
}

/// Passes an archive on, and keeps what is read while somebody listens.
pub(super) struct Tape<R> {
    from: R,
    heard: Rc<RefCell<Heard>>,
}

/// The other end of a tape.
pub(super) struct Listener {
    heard: Rc<RefCell<Heard>>,
}

impl<R: Read> Tape<R> {
    pub(super) fn new(from: R) -> (Self, Listener) {
        let heard = Rc::new(RefCell::new(Heard { listening: true, ..Heard::default() }));
        (Tape { from, heard: heard.clone() }, Listener { heard })
    }
}

impl<R: Read> Read for Tape<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        let mut heard = self.heard.borrow_mut();
        if heard.listening {
            if heard.bytes.len() + count > HEARD_BYTES_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the records before an entry are too long",
                ));
            }
            heard.bytes.extend_from_slice(&buffer[..count]);
        }
        // Only where in a block it is matters.
        heard.position = (heard.position + count) % BLOCK_BYTES;
        Ok(count)
    }
}

impl Listener {
    /// From now on what is read belongs to the next entry.
    pub(super) fn listen(&self) {
        let mut heard = self.heard.borrow_mut();
        heard.listening = true;
        heard.bytes.clear();
    }

    /// An entry was found: the pax records before it.
    ///
    /// # Errors
    /// If they aren't what they should be.
    pub(super) fn records(&self) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut heard = self.heard.borrow_mut();
        heard.listening = false;
        // What is left of the block that was being read is the end of the entry before.
        let length = heard.bytes.len();
        let rest = (length + BLOCK_BYTES - heard.position) % BLOCK_BYTES;
        let bytes = std::mem::take(&mut heard.bytes);
        take_apart(&bytes[rest.min(length)..])
    }
}

/// The records out of headers and what belongs to them.
fn take_apart(mut bytes: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut records = Vec::new();
    while let Some((block, behind)) = bytes.split_at_checked(BLOCK_BYTES) {
        let header = Header::from_byte_slice(block);
        let kind = header.entry_type();
        let before_an_entry = [EntryType::XHeader, EntryType::GNULongName, EntryType::GNULongLink];
        if !before_an_entry.contains(&kind) {
            // The entry itself; or zeros, where archives end.
            break;
        }
        let size = header.entry_size()? as usize;
        let payload = behind.get(..size).ok_or_else(malformed)?;
        if kind == EntryType::XHeader {
            parse(payload, &mut records)?;
        }
        bytes = behind.get(size.next_multiple_of(BLOCK_BYTES)..).unwrap_or(&[]);
    }
    Ok(records)
}

/// Records are `LENGTH KEY=VALUE` and a line end, the length counting all of that.
fn parse(mut payload: &[u8], records: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    while payload.first().is_some_and(|byte| *byte != 0) {
        let blank = payload.iter().position(|byte| *byte == b' ').ok_or_else(malformed)?;
        let length = std::str::from_utf8(&payload[..blank]).ok().and_then(|text| text.parse::<usize>().ok());
        let record = length.and_then(|length| payload.get(blank + 1..length)).ok_or_else(malformed)?;
        let record = record.strip_suffix(b"\n").ok_or_else(malformed)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(malformed)?;
        let key = String::from_utf8_lossy(&record[..equals]).into_owned();
        records.push((key, record[equals + 1..].to_vec()));
        payload = &payload[length.unwrap_or(payload.len())..];
    }
    Ok(())
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its pax records are malformed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(payload: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut records = Vec::new();
        parse(payload, &mut records).map(|()| records)
    }

    #[test]
    fn a_value_may_hold_anything() {
        let payload = b"11 path=ab\n10 x=\na\n=\n\n7 y=z=\n".to_vec();
        let mut expected = vec![("path".to_string(), b"ab".to_vec())];
        expected.push(("x".to_string(), b"\na\n=\n".to_vec()));
        expected.push(("y".to_string(), b"z=".to_vec()));
        assert_eq!(parsed(&payload).unwrap(), expected);
        for wrong in [&b"99 path=ab\n"[..], b"path=ab\n", b"10 path=ab\n", b"5 pat\n", b"0 a=b\n", b"3 a=b\n"]
        {
            assert!(parsed(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
    }

    #[test]
    fn each_entry_gets_its_own_records() {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, value) in [("one", &b"a\nb"[..]), ("two", b"\n")] {
            builder.append_pax_extensions([("SCHILY.xattr.user.x", value)]).unwrap();
            let mut header = Header::new_ustar();
            header.set_path(name).unwrap();
            header.set_size(700);
            header.set_cksum();
            builder.append(&header, &[7; 700][..]).unwrap();
        }
        let bytes = builder.into_inner().unwrap();
        let (tape, listener) = Tape::new(&bytes[..]);
        let mut archive = tar::Archive::new(tape);
        let mut values = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            values.extend(listener.records().unwrap().into_iter().map(|(_, value)| value));
            io::copy(&mut entry, &mut io::sink()).unwrap();
            listener.listen();
        }
        assert_eq!(values, [b"a\nb".to_vec(), b"\n".to_vec()]);
    }
}
