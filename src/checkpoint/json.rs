//! The JSON of headers and indexes, read so that nothing is lost: objects keep the order and the repetition
//! of their keys, which a map would silently resolve to the last.

use std::{cell::RefCell, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, MapAccess, Visitor},
};

use super::problem::Problem;

/// A text of JSON with null for the numbers that Python writes and JSON does not have: NaN and both infinities.
pub(crate) fn with_nulls(text: &str) -> String {
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if character == '"' {
            let mut escaped = false;
            let inside = |c: char| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            };
            let end = rest[1..].find(inside).map_or(rest.len(), |end| end + 2);
            whole.push_str(&rest[..end]);
            rest = &rest[end..];
            continue;
        }
        let word = ["NaN", "-Infinity", "Infinity"].into_iter().find(|word| rest.starts_with(word));
        let (text, length) =
            word.map_or((&rest[..character.len_utf8()], character.len_utf8()), |word| ("null", word.len()));
        whole.push_str(text);
        rest = &rest[length..];
    }
    whole
}

/// A JSON object as the list of its entries.
pub(crate) struct Entries<V>(pub(crate) Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Entries<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Object<V> {
            type Value = Entries<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Object(PhantomData))
    }
}

/// One tensor as a header describes it, before anything is checked.
#[derive(Deserialize)]
pub(crate) struct RawTensor {
    pub(crate) dtype: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) data_offsets: [u64; 2],
}

/// A header before anything is checked.
#[derive(Default)]
pub(crate) struct RawHeader {
    pub(crate) metadata: Vec<(String, String)>,
    pub(crate) tensors: Vec<(String, RawTensor)>,
}

/// Reads a header's text; the error says where, and which tensor is described there.
pub(crate) fn parse_header(text: &str) -> Result<RawHeader, Problem> {
    // The name is noted before its description is read, for the error to have it.
    let current = RefCell::new(None);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let parsed = HeaderSeed { current: &current }.deserialize(&mut deserializer);
    parsed.and_then(|header| deserializer.end().map(|()| header)).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Problem::Json { line, column, tensor: current.take(), reason: reason(&error) }
    })
}

/// Strips the position, which is reported apart, from a parser's message.
pub(crate) fn reason(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rfind(" at line ") {
        Some(end) => message[..end].to_owned(),
        None => message,
    }
}

struct HeaderSeed<'a> {
    current: &'a RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for HeaderSeed<'_> {
    type Value = RawHeader;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawHeader, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeaderSeed<'_> {
    type Value = RawHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a description of each tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
        let mut header = RawHeader::default();
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA_KEY {
                let metadata: Option<Entries<String>> = map.next_value()?;
                header.metadata.extend(metadata.map(|entries| entries.0).unwrap_or_default());
            } else {
                self.current.replace(Some(name.clone()));
                let tensor = map.next_value()?;
                self.current.replace(None);
                header.tensors.push((name, tensor));
            }
        }
        Ok(header)
    }
}

/// The key of a header under which its metadata lie; no tensor has this name.
pub(crate) const METADATA_KEY: &str = "__metadata__";

/// An index as it is in the file; sizes and whatever else tools add there are not relied upon.
#[derive(Deserialize)]
pub(crate) struct RawIndex {
    pub(crate) weight_map: Entries<String>,
}

#[cfg(test)]
mod tests {
    use super::with_nulls;

    #[test]
    fn only_numbers_become_null() {
        let text = r#"{"a": [NaN, -Infinity, Infinity, 1], "NaN": "\"NaN\\", "b": -1}"#;
        let expected = r#"{"a": [null, null, null, 1], "NaN": "\"NaN\\", "b": -1}"#;
        assert_eq!(with_nulls(text), expected);
        assert_eq!(with_nulls("\"open"), "\"open");
    }
}
