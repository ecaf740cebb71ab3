use super::error::GgufError;
use super::header::Cursor;

/// Elements of the longest list that is read: of vocabularies and their merges, with room.
const LONGEST_LIST: u64 = 1 << 24;
/// The type of a value that is a list.
const LIST: u32 = 9;

/// What an entry of a GGUF header says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum GgufValue {
    /// A whole number from 0 up.
    Count(u64),
    /// A whole number of a signed type.
    Integer(i64),
    /// A number; one that is stored in 32 bits is the shortest decimal that rounds to it.
    Number(f64),
    /// Yes or no.
    Flag(bool),
    /// A text; what isn't UTF-8 in it is replaced.
    Text(String),
    /// Values of one type.
    List(Vec<GgufValue>),
}

impl GgufValue {
    /// What kind of value it is, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Count(_) => "a count",
            Self::Integer(_) => "an integer",
            Self::Number(_) => "a number",
            Self::Flag(_) => "a flag",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
        }
    }

    /// The whole number from 0 up that it is.
    #[must_use]
    pub fn as_count(&self) -> Option<u64> {
        match *self {
            Self::Count(count) => Some(count),
            Self::Integer(number) => u64::try_from(number).ok(),
            _ => None,
        }
    }

    /// The number that it is, whole or not.
    #[must_use]
    pub fn as_number(&self) -> Option<f64> {
        match *self {
            Self::Count(count) => Some(count as f64),
            Self::Integer(number) => Some(number as f64),
            Self::Number(number) => Some(number),
            _ => None,
        }
    }

    /// The flag that it is.
    #[must_use]
    pub fn as_flag(&self) -> Option<bool> {
        if let Self::Flag(flag) = self { Some(*flag) } else { None }
    }

    /// The text that it is.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The values that it lists.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Self]> {
        if let Self::List(values) = self { Some(values) } else { None }
    }

    /// Reads a value with its type before it.
    pub(super) fn read(cursor: &mut Cursor, key: &str) -> Result<Self, GgufError> {
        let kind = cursor.u32(key)?;
        if kind != LIST {
            return Self::of_type(kind, cursor, key);
        }
        let (kind, count) = (cursor.u32(key)?, cursor.u64(key)?);
        if kind == LIST || count > LONGEST_LIST {
            let found = if kind == LIST { "a list of lists".to_owned() } else { format!("{count} values") };
            let expected = format!("a list of at most {LONGEST_LIST} plain values");
            return Err(cursor.malformed(key, found, expected));
        }
        (0..count).map(|_| Self::of_type(kind, cursor, key)).collect::<Result<_, _>>().map(Self::List)
    }

    fn of_type(kind: u32, cursor: &mut Cursor, key: &str) -> Result<Self, GgufError> {
        Ok(match kind {
            0 => Self::Count(u8::from_le_bytes(cursor.bytes(key)?).into()),
            1 => Self::Integer(i8::from_le_bytes(cursor.bytes(key)?).into()),
            2 => Self::Count(u16::from_le_bytes(cursor.bytes(key)?).into()),
            3 => Self::Integer(i16::from_le_bytes(cursor.bytes(key)?).into()),
            4 => Self::Count(cursor.u32(key)?.into()),
            5 => Self::Integer(i32::from_le_bytes(cursor.bytes(key)?).into()),
            6 => Self::Number(shortest(f32::from_le_bytes(cursor.bytes(key)?))),
            7 => Self::Flag(u8::from_le_bytes(cursor.bytes(key)?) != 0),
            8 => Self::Text(cursor.text(key)?),
            10 => Self::Count(cursor.u64(key)?),
            11 => Self::Integer(i64::from_le_bytes(cursor.bytes(key)?)),
            12 => Self::Number(f64::from_le_bytes(cursor.bytes(key)?)),
            other => {
                let expected = "a type from 0 to 12".to_owned();
                return Err(cursor.malformed(key, format!("type {other}"), expected));
            }
        })
    }
}

/// The shortest decimal that rounds to it: 1e-5, where widening its bits would give 9.999999747378752e-6.
fn shortest(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(f64::from(number))
}
