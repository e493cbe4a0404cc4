//! YAML of what is a tree of JSON already: block style, every text quoted, so that none is taken for
//! something else (YAML 1.2.2; a JSON string is a double-quoted scalar).

use serde_json::Value;

/// Returns a value as a YAML document.
#[must_use]
pub fn yaml(value: &Value) -> String {
    let mut text = String::new();
    block(value, 0, &mut text);
    text
}

fn block(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                text.push_str(&format!("{indent}{}:", key_of(key)));
                under(value, depth, text);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut inner = String::new();
                block(item, depth + 1, &mut inner);
                text.push_str(&format!("{indent}- {}", inner.trim_start()));
            }
        }
        other => text.push_str(&format!("{indent}{other}\n")),
    }
}

fn under(value: &Value, depth: usize, text: &mut String) {
    let nested = value.as_object().is_some_and(|it| !it.is_empty())
        || value.as_array().is_some_and(|it| !it.is_empty());
    if nested {
        text.push('\n');
        block(value, depth + 1, text);
    } else {
        text.push_str(&format!(" {value}\n"));
    }
}

fn key_of(key: &str) -> String {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
    let plain = key.starts_with(|c: char| c.is_ascii_lowercase()) && key.chars().all(fits);
    let taken = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    match plain && !taken.contains(&key) {
        true => key.to_owned(),
        false => Value::from(key).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_reads_back() {
        let value = json!({
            "format": 1,
            "node-0": "1e5",
            "0": 0,
            "nodes": [{"name": "a: b", "labels": {"y": "no", "k.e/y": ""}, "list": []}, "x\n", null],
            "none": {},
        });
        let expected = "\
format: 1
node-0: \"1e5\"
\"0\": 0
nodes:
  - name: \"a: b\"
    labels:
      \"y\": \"no\"
      \"k.e/y\": \"\"
    list: []
  - \"x\\n\"
  - null
none: {}
";
        assert_eq!(yaml(&value), expected);
        assert_eq!(yaml(&json!({})), "{}\n");
    }
}
