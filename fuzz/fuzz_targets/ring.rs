//! Requests over the ring, from any bytes: decoding ends with a request or an errno.
#![no_main]

use bitkv::fs::transport::ring::wire;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = wire::header(bytes) else { return };
    let behind = &bytes[wire::HEADER_BYTES..];
    let (operation, rest) = behind.split_at(behind.len().min(wire::OPERATION_BYTES_MAX));
    let _ = wire::request(header.opcode % 64, operation, rest);
});
