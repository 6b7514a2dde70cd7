//! Objects as JSON writes them, field by field.

use std::fmt::Display;

/// An object that is being written.
#[derive(Default)]
pub(super) struct Object {
    fields: Vec<String>,
}

impl Object {
    /// A field with a number, `true`, `false`, or JSON of its own.
    pub(super) fn plain(mut self, name: &str, value: impl Display) -> Self {
        self.fields.push(format!("{}:{value}", quoted(name)));
        self
    }

    /// A field with a text.
    pub(super) fn text(self, name: &str, value: &str) -> Self {
        let value = quoted(value);
        self.plain(name, value)
    }

    /// A field with a name or path. JSON knows characters only: one that isn't text gets a second field, with its bytes in hexadecimal digits.
    pub(super) fn bytes(self, name: &str, value: &[u8]) -> Self {
        match std::str::from_utf8(value) {
            Ok(text) => self.text(name, text),
            Err(_) => {
                let digits: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
                self.text(name, &String::from_utf8_lossy(value)).text(&format!("{name}_bytes"), &digits)
            }
        }
    }

    /// The object, on one line.
    pub(super) fn line(self) -> String {
        format!("{{{}}}", self.fields.join(","))
    }
}

/// An array of things that are JSON already.
pub(super) fn array(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(","))
}

/// A text in quotation marks.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", control as u32)),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_name_holds() {
        let object = Object::default().plain("n", 7).text("a\"b", "c\\\n").bytes("name", b"\xffx");
        let expected = "{\"n\":7,\"a\\\"b\":\"c\\\\\\u000a\",\"name\":\"\u{fffd}x\",\"name_bytes\":\"ff78\"}";
        assert_eq!(object.line(), expected);
        assert_eq!(array(["1".to_string(), quoted("x")]), "[1,\"x\"]");
    }
}
