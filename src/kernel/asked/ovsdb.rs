// SPDX-License-Identifier: MIT OR Apache-2.0
//! OVSDB, the database of Open vSwitch and of OVN (RFC 7047).
use std::io::{self, Read};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::line::{Line, MOST_BYTES, endless, few};

/// OVSDB's answer to `select` operations (RFC 7047): a result for each.
#[derive(Deserialize)]
#[serde(bound(deserialize = "T: DeserializeOwned"))]
struct Selected<T> {
    #[serde(deserialize_with = "few")]
    result: Vec<Table<T>>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "T: DeserializeOwned"))]
struct Table<T> {
    #[serde(default = "Vec::new", deserialize_with = "few")]
    rows: Vec<T>,
}

/// `["map", [[KEY, VALUE], ...]]`.
#[derive(Default, Deserialize)]
pub(super) struct OvsMap(#[allow(dead_code)] String, Vec<(String, String)>);

impl OvsMap {
    /// The value of the first of these keys that is present.
    pub(super) fn get(&self, keys: [&str; 2]) -> Option<&str> {
        let all = &self.1;
        let found = keys.iter().find_map(|key| all.iter().find(|(k, v)| k == key && !v.is_empty()));
        found.map(|(_, value)| value.as_str())
    }
}

/// Queries columns of tables of a database.
pub(super) fn select<T: DeserializeOwned>(
    mut line: Line,
    database: &str,
    tables: &[(&str, &[&str])],
) -> io::Result<Vec<T>> {
    let selects = tables.iter().map(|(table, columns)| {
        serde_json::json!({ "op": "select", "table": table, "where": [], "columns": columns })
    });
    let words: Vec<Value> = std::iter::once(database.into()).chain(selects).collect();
    let question = serde_json::json!({ "method": "transact", "id": 0, "params": words });
    line.ask(question.to_string().as_bytes())?;
    // The answer is one JSON text, after which the connection stays open.
    let mut from = io::BufReader::new(line.take(MOST_BYTES as u64));
    let mut texts = serde_json::Deserializer::from_reader(&mut from).into_iter::<Selected<T>>();
    let answer = texts.next().map(|answer| answer.map_err(io::Error::from));
    let answer = answer.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()));
    if from.get_ref().limit() == 0 {
        return Err(endless());
    }
    let answer = answer?;
    Ok(answer.result.into_iter().flat_map(|table| table.rows).collect())
}

/// The ids in `["uuid", ID]`, or in a set of those.
pub(super) fn ids(value: &Value) -> Vec<&str> {
    match value.as_array().map(Vec::as_slice) {
        Some([Value::String(what), Value::String(id)]) if what == "uuid" => vec![id],
        Some([Value::String(what), Value::Array(all)]) if what == "set" => {
            all.iter().filter_map(|v| v.get(1)?.as_str()).collect()
        }
        _ => Vec::new(),
    }
}

/// A string or a set of strings; a set of one is written as the string itself.
pub(super) fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(one) => vec![one],
        Value::Array(set) => {
            let all = set.get(1).and_then(Value::as_array);
            all.into_iter().flatten().filter_map(Value::as_str).collect()
        }
        _ => Vec::new(),
    }
}
