//! What templates work on.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value as Json;

/// A value. The type of a number matters, as Go compares no integer with a float.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing at all, such as the entry of a map that is not there.
    Missing,
    /// JSON's `null`, an empty interface.
    Null,
    /// A pointer to nothing, of the named type.
    NullPointer(&'static str),
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// An integer that prints as a word.
    Word(&'static str, i64, String),
    /// Any other number; all of JSON's.
    Float(f64),
    /// Text.
    Text(String),
    /// A list of anything.
    List(Rc<Vec<Value>>),
    /// A map from text to anything.
    Map(Rc<BTreeMap<String, Value>>),
    /// A map from text to text.
    TextMap(Rc<BTreeMap<String, String>>),
    /// A structure.
    Struct(Rc<Struct>),
}

/// A structure: fields with names, and the type's name in Go for what is said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Struct {
    /// The type's name.
    pub name: &'static str,
    /// The fields in order.
    pub fields: Vec<(&'static str, Value)>,
}

impl Value {
    /// Turns JSON into what Go's decoder makes of it.
    #[must_use]
    pub fn from_json(json: &Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(value) => Self::Float(value.as_f64().unwrap_or(0.0)),
            Json::String(text) => Self::Text(text.clone()),
            Json::Array(list) => Self::list(list.iter().map(Self::from_json).collect()),
            Json::Object(map) => {
                let entries = map.iter().map(|(key, value)| (key.clone(), Self::from_json(value)));
                Self::Map(Rc::new(entries.collect()))
            }
        }
    }

    /// Turns the value into JSON.
    #[must_use]
    pub fn to_json(&self) -> Json {
        match self {
            Self::Missing | Self::Null | Self::NullPointer(_) => Json::Null,
            Self::Bool(value) => Json::Bool(*value),
            Self::Int(value) | Self::Word(_, value, _) => Json::from(*value),
            Self::Float(value) => Json::from(*value),
            Self::Text(text) => Json::from(text.as_str()),
            Self::List(list) => list.iter().map(Self::to_json).collect(),
            Self::Map(map) => {
                map.iter().map(|(key, value)| (key.clone(), value.to_json())).collect()
            }
            Self::TextMap(map) => {
                map.iter().map(|(key, value)| (key.clone(), Json::from(value.as_str()))).collect()
            }
            Self::Struct(fields) => fields
                .fields
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.to_json()))
                .collect(),
        }
    }

    /// Creates a list.
    #[must_use]
    pub fn list(values: Vec<Self>) -> Self {
        Self::List(Rc::new(values))
    }

    /// Creates a list of texts.
    #[must_use]
    pub fn texts(values: &[String]) -> Self {
        Self::list(values.iter().map(|text| Self::Text(text.clone())).collect())
    }

    /// Returns the type's name in Go.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Missing | Self::Null => "interface {}",
            Self::NullPointer(name) | Self::Word(name, _, _) => name,
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::List(_) => "[]interface {}",
            Self::Map(_) => "map[string]interface {}",
            Self::TextMap(_) => "map[string]string",
            Self::Struct(value) => value.name,
        }
    }

    /// Tells whether the value counts as true.
    pub(super) fn truth(&self) -> bool {
        match self {
            Self::Missing | Self::Null | Self::NullPointer(_) => false,
            Self::Bool(value) => *value,
            Self::Int(value) | Self::Word(_, value, _) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::List(list) => !list.is_empty(),
            Self::Map(map) => !map.is_empty(),
            Self::TextMap(map) => !map.is_empty(),
            Self::Struct(_) => true,
        }
    }
}
