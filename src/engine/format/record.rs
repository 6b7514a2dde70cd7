//! Record.
/// Length of a record in bytes.
pub fn encoded_length(key: usize, value: usize) -> usize {
    20 + key + value
}
