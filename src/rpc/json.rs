//! JSON of which little is needed: read once, into fields that borrow from the text.
//!
//! A call has a hundred values and more, of which a dozen are used. The others are not built, but read as strictly:
//! whether a body is JSON, and the error for one that is not, do not depend on the reader. (serde's own `IgnoredAny`
//! accepts what serde_json's `Value` does not: halves of surrogate pairs, numbers beyond all bounds, any depth.)
//!
//! Of keys that occur twice in an object the last counts, as in Python's `json`.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A value, of which nothing is built but numbers, texts, and of objects what `T` takes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json<'a, T = Nothing> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean,
    /// A number.
    Number(Number),
    /// A string, borrowed where nothing in it is escaped.
    Text(Cow<'a, str>),
    /// A list, and whether there is something in it.
    List {
        /// Whether it has no elements.
        is_empty: bool,
    },
    /// An object.
    Object(T),
}

impl<T> Json<'_, T> {
    /// What sort of JSON it is, in words, for errors that must not show the value.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List { .. } => "a list",
            Self::Object(_) => "an object",
        }
    }

    /// The text, if it is one.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// What is taken of an object.
pub(super) trait Fields<'a>: Default {
    /// Takes the value of `key` out of `values`, or [`skip`]s it. Always one of them.
    fn take<A: MapAccess<'a>>(&mut self, key: &str, values: &mut A) -> Result<(), A::Error>;
}

/// Takes nothing of an object.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Nothing;

impl<'a> Fields<'a> for Nothing {
    fn take<A: MapAccess<'a>>(&mut self, _: &str, values: &mut A) -> Result<(), A::Error> {
        skip(values)
    }
}

impl<'a> Fields<'a> for Map<String, Value> {
    fn take<A: MapAccess<'a>>(&mut self, key: &str, values: &mut A) -> Result<(), A::Error> {
        self.insert(key.to_owned(), values.next_value()?);
        Ok(())
    }
}

/// An object that may be wrapped as a versioned one (`oslo_versionedobjects/base.py`).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wrapped<'a, T> {
    own: T,
    data: Option<Json<'a, T>>,
}

impl<T> Wrapped<'_, T> {
    /// Looks through the wrapper; if there is no object in it, says what there is.
    pub(super) fn fields(&self) -> Result<&T, &'static str> {
        match &self.data {
            None => Ok(&self.own),
            Some(Json::Object(inner)) => Ok(inner),
            Some(other) => Err(other.kind()),
        }
    }
}

impl<T: Default> Default for Wrapped<'_, T> {
    fn default() -> Self {
        Self {
            own: T::default(),
            data: None,
        }
    }
}

impl<'a, T: Fields<'a>> Fields<'a> for Wrapped<'a, T> {
    fn take<A: MapAccess<'a>>(&mut self, key: &str, values: &mut A) -> Result<(), A::Error> {
        if key == "versioned_object.data" {
            self.data = Some(values.next_value()?);
            Ok(())
        } else {
            self.own.take(key, values)
        }
    }
}

/// Passes over the value of a key.
pub(super) fn skip<'a, A: MapAccess<'a>>(values: &mut A) -> Result<(), A::Error> {
    values.next_value().map(|Skipped| ())
}

/// A value that is read and not kept.
struct Skipped;

impl<'de> Deserialize<'de> for Skipped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SkippedVisitor)
    }
}

struct SkippedVisitor;

impl<'de> Visitor<'de> for SkippedVisitor {
    type Value = Skipped;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Skipped, E> {
        Ok(Skipped)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Skipped, E> {
        Ok(Skipped)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Skipped, E> {
        Ok(Skipped)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Skipped, E> {
        Ok(Skipped)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Skipped, E> {
        Ok(Skipped)
    }

    fn visit_str<E>(self, _: &str) -> Result<Skipped, E> {
        Ok(Skipped)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Skipped, A::Error> {
        while let Some(Skipped) = list.next_element()? {}
        Ok(Skipped)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Skipped, A::Error> {
        while let Some((Skipped, Skipped)) = object.next_entry()? {}
        Ok(Skipped)
    }
}

/// A key, borrowed where nothing in it is escaped.
struct JsonKey<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for JsonKey<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(JsonKeyVisitor)
    }
}

struct JsonKeyVisitor;

impl<'de> Visitor<'de> for JsonKeyVisitor {
    type Value = JsonKey<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<JsonKey<'de>, E> {
        Ok(JsonKey(Cow::Borrowed(key)))
    }

    fn visit_str<E>(self, key: &str) -> Result<JsonKey<'de>, E> {
        Ok(JsonKey(Cow::Owned(key.to_owned())))
    }
}

impl<'de, T: Fields<'de>> Deserialize<'de> for Json<'de, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor(PhantomData))
    }
}

struct JsonVisitor<T>(PhantomData<T>);

impl<'de, T: Fields<'de>> Visitor<'de> for JsonVisitor<T> {
    type Value = Json<'de, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Json::Boolean)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        // As serde_json's `Value` has it; JSON has no number that is none.
        Ok(Number::from_f64(number).map_or(Json::Null, Json::Number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut is_empty = true;
        while let Some(Skipped) = list.next_element()? {
            is_empty = false;
        }
        Ok(Json::List { is_empty })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut fields = T::default();
        while let Some(JsonKey(key)) = object.next_key()? {
            fields.take(&key, &mut object)?;
        }
        Ok(Json::Object(fields))
    }
}
