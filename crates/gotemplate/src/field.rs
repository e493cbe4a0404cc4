//! `.Name`: looking a field or an entry up.

use super::exec::Found;
use super::value::Value;

/// Returns what a value has under a name; `called` if arguments follow.
pub(super) fn look_up(from: &Found, name: &str, called: bool) -> Result<Found, String> {
    let type_name = || if from.boxed { "interface {}" } else { from.value.type_name() };
    let no_call = |found: Found| match called {
        true => Err(format!("{name} is not a method but has arguments")),
        false => Ok(found),
    };
    match &from.value {
        Value::Missing => Ok(Found { value: Value::Missing, boxed: false }),
        Value::Null => Err(format!("nil pointer evaluating interface {{}}.{name}")),
        Value::NullPointer(kind) => Err(format!("nil pointer evaluating {kind}.{name}")),
        Value::Map(map) => {
            let found = map.get(name).cloned();
            no_call(found.map_or(Found { value: Value::Missing, boxed: false }, Found::boxed))
        }
        Value::TextMap(map) => {
            let value = map.get(name).map_or(Value::Missing, |text| Value::Text(text.clone()));
            no_call(Found { value, boxed: false })
        }
        Value::Struct(value) => {
            let found = value.fields.iter().find(|(other, _)| *other == name);
            match found {
                Some(_) if called => {
                    Err(format!("{name} has arguments but cannot be invoked as function"))
                }
                Some((_, value)) => Ok(Found { value: value.clone(), boxed: false }),
                None => Err(format!("can't evaluate field {name} in type {}", type_name())),
            }
        }
        _ => Err(format!("can't evaluate field {name} in type {}", type_name())),
    }
}
