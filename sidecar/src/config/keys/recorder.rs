//! Reads the keys off a type: it is deserialized from something that has every field it asks for.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use serde::de::value::{Error, StrDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};

/// The paths of all leaves of `T`.
pub(super) fn keys_of<T: DeserializeOwned>() -> BTreeSet<String> {
    let recorder = Recorder::default();
    let found = Rc::clone(&recorder.found);
    T::deserialize(recorder).expect("a type made of structs, lists, options and scalars");
    found.take()
}

#[derive(Clone, Default)]
struct Recorder {
    path: String,
    found: Rc<RefCell<BTreeSet<String>>>,
}

impl Recorder {
    fn below(&self, field: &str) -> Self {
        let path = match self.path.as_str() {
            "" => field.to_owned(),
            path => format!("{path}.{field}"),
        };
        Self {
            path,
            found: Rc::clone(&self.found),
        }
    }

    fn leaf(&self) {
        self.found.borrow_mut().insert(self.path.clone());
    }
}

macro_rules! leaves {
    ($($method:ident => $visit:ident($value:expr)),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.leaf();
            visitor.$visit($value)
        }
    )*};
}

impl<'de> Deserializer<'de> for Recorder {
    type Error = Error;

    leaves! {
        deserialize_any => visit_str(""),
        deserialize_str => visit_str(""),
        deserialize_string => visit_str(""),
        deserialize_bool => visit_bool(false),
        deserialize_u16 => visit_u64(1),
        deserialize_u32 => visit_u64(1),
        deserialize_u64 => visit_u64(1),
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let path = format!("{}[]", self.path);
        visitor.visit_seq(Once(Some(Self { path, ..self })))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Fields {
            of: self,
            left: fields,
            current: "",
        })
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u128 f32 f64 char bytes byte_buf unit unit_struct newtype_struct tuple tuple_struct map
        enum identifier ignored_any
    }
}

struct Once(Option<Recorder>);

impl<'de> SeqAccess<'de> for Once {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        self.0
            .take()
            .map(|element| seed.deserialize(element))
            .transpose()
    }
}

struct Fields {
    of: Recorder,
    left: &'static [&'static str],
    current: &'static str,
}

impl<'de> MapAccess<'de> for Fields {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((first, rest)) = self.left.split_first() else {
            return Ok(None);
        };
        (self.current, self.left) = (first, rest);
        let key: StrDeserializer<'_, Error> = self.current.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(self.of.below(self.current))
    }
}
