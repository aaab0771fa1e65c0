//! A piece of config.json that is laid over another one.
//!
//! Objects become one, a value replaces a value, and `null` takes a field away. Of lists, those in which each entry stands
//! for itself grow: mounts, devices and their rules, hooks, variables. All others are replaced.

use serde_json::Value;

/// Lists that grow, by the names of the fields on the way to them; `*` is any name.
const GROWING: [&[&str]; 5] =
    [&["mounts"], &["process", "env"], &["linux", "devices"], &["linux", "resources", "devices"], &["hooks", "*"]];

/// Lays `over` over `base`.
///
/// A mount takes the place of the one with the same `destination`; an entry of `mounts` with nothing but its `destination`
/// takes that one away. A variable takes the place of the one of its name. All others are appended.
pub fn merge(base: &mut Value, over: &Value) {
    merge_at(base, over, &mut Vec::new());
}

fn merge_at<'a>(base: &mut Value, over: &'a Value, path: &mut Vec<&'a str>) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (name, value) in over {
                if value.is_null() {
                    base.remove(name);
                    continue;
                }
                path.push(name);
                let field = base.entry(name).or_insert(Value::Null);
                merge_at(field, value, path);
                path.pop();
            }
        }
        (base @ Value::Null, Value::Object(_)) => {
            *base = Value::Object(serde_json::Map::new());
            merge_at(base, over, path);
        }
        (base, Value::Array(over)) if grows(path) => {
            if !base.is_array() {
                *base = Value::Array(Vec::new());
            }
            if let Value::Array(base) = base {
                over.iter().for_each(|entry| add(base, entry, path));
            }
        }
        (base, over) => *base = over.clone(),
    }
}

fn grows(path: &[&str]) -> bool {
    let fits = |list: &&[&str]| list.len() == path.len() && list.iter().zip(path).all(|(a, b)| *a == "*" || a == b);
    GROWING.iter().any(fits)
}

fn add(list: &mut Vec<Value>, entry: &Value, path: &[&str]) {
    match path {
        ["mounts"] => {
            let known = list.iter().position(|mount| mount["destination"] == entry["destination"]);
            let is_bare = entry.as_object().is_some_and(|mount| mount.len() == 1);
            match known {
                Some(at) if is_bare => drop(list.remove(at)),
                Some(at) => list[at] = entry.clone(),
                None if is_bare => {}
                None => list.push(entry.clone()),
            }
        }
        ["process", "env"] => {
            let name = |entry: &Value| entry.as_str().map(|text| text.split('=').next().unwrap_or_default().to_owned());
            list.retain(|known| name(known) != name(entry));
            list.push(entry.clone());
        }
        _ => list.push(entry.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(mut base: Value, over: Value, expected: Value) {
        merge(&mut base, &over);
        assert_eq!(base, expected);
    }

    #[test]
    fn objects_become_one_and_values_are_replaced() {
        check(json!({"a": {"b": 1, "c": 2}}), json!({"a": {"c": 3}, "d": {"e": null, "f": 1}}), {
            json!({"a": {"b": 1, "c": 3}, "d": {"f": 1}})
        });
        check(json!({"a": 1}), json!({"a": null, "b": null}), json!({}));
        check(json!({"process": {"args": ["a"]}}), json!({"process": {"args": ["b"]}}), {
            json!({"process": {"args": ["b"]}})
        });
    }

    #[test]
    fn lists_of_things_of_their_own_grow() {
        check(
            json!({"mounts": [{"destination": "/a", "type": "x"}, {"destination": "/b", "type": "x"}]}),
            json!({"mounts": [{"destination": "/b", "type": "y"}, {"destination": "/a"}, {"destination": "/c", "type": "z"}]}),
            json!({"mounts": [{"destination": "/b", "type": "y"}, {"destination": "/c", "type": "z"}]}),
        );
        check(json!({"process": {"env": ["A=1", "B=2"]}}), json!({"process": {"env": ["A=3"]}}), {
            json!({"process": {"env": ["B=2", "A=3"]}})
        });
        check(
            json!({}),
            json!({"hooks": {"poststop": [{"path": "/x"}]}}),
            json!({"hooks": {"poststop": [{"path": "/x"}]}}),
        );
        check(json!({"linux": {"maskedPaths": ["/a"]}}), json!({"linux": {"maskedPaths": []}}), {
            json!({"linux": {"maskedPaths": []}})
        });
    }
}
