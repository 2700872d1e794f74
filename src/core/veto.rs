//! What another system's queries say to a raise: read from a Prometheus server's answers, held against the limits of the gate.
//!
//! A veto and nothing else: what is within its limits proves nothing of extracted, and what is beyond them sends nobody back.

use std::time::Duration;

use serde_json::Value;

use crate::judge::evidence::External;
use crate::judge::gates::{NoData, Query};

/// What a query has said, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// The one value that it has, or why there is none.
    pub value: Result<f64, Silence>,
    /// When it was asked, by a clock that does not jump.
    pub at: Duration,
}

/// Why a query has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Silence {
    /// Nobody has said which server to ask.
    #[error("no server to ask: write `prometheus: {{url: …}}` in strangler.yaml, or `url` beside the query")]
    NoServer,
    /// No answer, or none in time.
    #[error("{0}")]
    Unreachable(String),
    /// It answered, and not with success.
    #[error("the server answers {0}")]
    Status(u16),
    /// Its answer is none of Prometheus'.
    #[error("the server's answer is none of Prometheus'")]
    Garbage,
    /// Nothing matches the query.
    #[error("no data")]
    Nothing,
    /// More than one series does.
    #[error("{0} series where one is expected: aggregate them")]
    Several(usize),
    /// Not a number.
    #[error("the value is {0}")]
    NotANumber(String),
}

/// Reads an answer of `/api/v1/query`.
///
/// # Errors
/// Why it holds no one number.
pub fn read(status: u16, body: &[u8]) -> Result<f64, Silence> {
    if !(200..300).contains(&status) {
        return Err(Silence::Status(status));
    }
    let answer: Value = serde_json::from_slice(body).map_err(|_| Silence::Garbage)?;
    let data = answer.get("data").filter(|_| answer.get("status").and_then(Value::as_str) == Some("success"));
    let data = data.ok_or(Silence::Garbage)?;
    let result = data.get("result").ok_or(Silence::Garbage)?;
    let sample = match data.get("resultType").and_then(Value::as_str) {
        Some("scalar") => Some(result),
        Some("vector") => match result.as_array().map(Vec::as_slice) {
            Some([]) => return Err(Silence::Nothing),
            Some([one]) => one.get("value"),
            Some(several) => return Err(Silence::Several(several.len())),
            None => None,
        },
        Some(_) | None => None,
    };
    // `[time, "value"]`
    let text = sample.and_then(|sample| sample.get(1)?.as_str()).ok_or(Silence::Garbage)?;
    let value: f64 = match text {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        text => text.parse().map_err(|_| Silence::Garbage)?,
    };
    if value.is_nan() { Err(Silence::NotANumber("NaN".to_owned())) } else { Ok(value) }
}

/// Longest that an answer is good for: two turns and the wait for the third.
pub fn age_max(query: &Query) -> Duration {
    query.every.saturating_mul(2) + query.timeout
}

/// What all of them come to, and in words which of them decides; `said` answers what the one at a place has said last.
pub fn weigh(queries: &[Query], said: impl Fn(usize) -> Option<Said>, now: Duration) -> (External, Option<String>) {
    let mut worst = (External::Met, None);
    for (index, query) in queries.iter().enumerate() {
        let (external, why) = one(query, said(index), now);
        if external > worst.0 {
            worst = (external, Some(why));
        }
    }
    worst
}

fn one(query: &Query, said: Option<Said>, now: Duration) -> (External, String) {
    let text: String = query.query.chars().take(80).collect();
    let silent = |why: String, may_pass: bool| {
        let external = if may_pass && query.no_data == NoData::Pass { External::Met } else { External::NoData };
        (external, format!("`{text}`: {why}"))
    };
    let Some(said) = said else { return silent("not asked yet".to_owned(), false) };
    let age = now.saturating_sub(said.at);
    match said.value {
        // That it was never told whom to ask is a fault of the file's, and no silence.
        Err(why @ Silence::NoServer) => silent(why.to_string(), false),
        Err(why) => silent(why.to_string(), true),
        Ok(_) if age > age_max(query) => silent(format!("the last answer is {} s old", age.as_secs()), true),
        Ok(value) => match (query.max.filter(|max| value > *max), query.min.filter(|min| value < *min)) {
            (Some(max), _) => (External::Exceeded, format!("`{text}` is {value}, above {max}")),
            (_, Some(min)) => (External::Exceeded, format!("`{text}` is {value}, below {min}")),
            (None, None) => (External::Met, String::new()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(values: &[&str]) -> Vec<u8> {
        let one = |value: &&str| serde_json::json!({"metric": {}, "value": [1_790_000_000.5, value]});
        let result: Vec<Value> = values.iter().map(one).collect();
        serde_json::json!({"status": "success", "data": {"resultType": "vector", "result": result}}).to_string().into()
    }

    #[test]
    fn an_answer_is_one_number_or_none() {
        assert_eq!(read(200, &vector(&["0.25"])), Ok(0.25));
        assert_eq!(read(200, &vector(&["+Inf"])), Ok(f64::INFINITY));
        let scalar = br#"{"status": "success", "data": {"resultType": "scalar", "result": [1, "3"]}}"#;
        assert_eq!(read(200, scalar), Ok(3.0));
        for (status, body, expect) in [
            (200, vector(&[]), Silence::Nothing),
            (200, vector(&["1", "2"]), Silence::Several(2)),
            (200, vector(&["NaN"]), Silence::NotANumber("NaN".to_owned())),
            (200, vector(&["x"]), Silence::Garbage),
            (200, b"<html>".to_vec(), Silence::Garbage),
            (200, br#"{"status": "error"}"#.to_vec(), Silence::Garbage),
            (
                200,
                br#"{"status": "success", "data": {"resultType": "matrix", "result": []}}"#.to_vec(),
                Silence::Garbage,
            ),
            (422, b"{}".to_vec(), Silence::Status(422)),
        ] {
            assert_eq!(read(status, &body), Err(expect));
        }
    }

    fn query(max: Option<f64>, min: Option<f64>, no_data: NoData) -> Query {
        Query { max, min, no_data, ..Query::of("errors") }
    }

    #[test]
    fn the_worst_answer_decides_and_is_named() {
        let now = Duration::from_secs(1_000);
        let ok = |value: f64| Some(Said { value: Ok(value), at: now });
        let weighed = |query: Query, said: Option<Said>| {
            let (external, why) = weigh(&[query], |_| said.clone(), now);
            (external, why.unwrap_or_default())
        };
        let (hold, pass) = (NoData::Hold, NoData::Pass);
        assert_eq!(weighed(query(Some(0.5), None, hold), ok(0.5)), (External::Met, String::new()));
        assert_eq!(weighed(query(Some(0.5), None, hold), ok(0.6)).1, "`errors` is 0.6, above 0.5");
        assert_eq!(weighed(query(None, Some(0.5), hold), ok(0.4)).1, "`errors` is 0.4, below 0.5");
        let silent = Some(Said { value: Err(Silence::Nothing), at: now });
        assert_eq!(
            weighed(query(Some(1.0), None, hold), silent.clone()),
            (External::NoData, "`errors`: no data".into())
        );
        assert_eq!(weighed(query(Some(1.0), None, pass), silent).0, External::Met);
        let old = Some(Said { value: Ok(0.1), at: Duration::ZERO });
        assert_eq!(weighed(query(Some(1.0), None, hold), old.clone()).1, "`errors`: the last answer is 1000 s old");
        assert_eq!(weighed(query(Some(1.0), None, pass), old).0, External::Met);
        // One that was never asked has not been silent, and what nobody can be asked is a fault.
        assert_eq!(weighed(query(Some(1.0), None, pass), None).0, External::NoData);
        let nobody = Some(Said { value: Err(Silence::NoServer), at: now });
        assert_eq!(weighed(query(Some(1.0), None, pass), nobody).0, External::NoData);

        let both = [query(Some(0.5), None, hold), query(Some(0.1), None, hold)];
        let (external, why) = weigh(&both, |index| (index == 1).then(|| ok(0.2)).flatten(), now);
        assert_eq!((external, why.unwrap().as_str()), (External::Exceeded, "`errors` is 0.2, above 0.1"));
    }
}
