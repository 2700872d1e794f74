//! Event streams (`text/event-stream`): the first events one by one, what comes after them by its bytes.

use std::borrow::Cow;

use crate::json::{Json, Object, parse};

/// Most events compared one by one.
pub(crate) const EVENTS_MAX: usize = 100;

/// A stream: its first events, and the bytes behind them.
#[derive(Debug)]
pub(crate) struct Stream<'a> {
    events: Vec<Event>,
    /// What follows the first [`EVENTS_MAX`] events, as it came.
    pub(crate) rest: &'a str,
}

#[derive(Debug, Default)]
struct Event {
    fields: Vec<(&'static str, String)>,
    data: Option<String>,
}

/// Reads a stream. `is_whole`: whether its end is there; an event without its end is otherwise none.
pub(crate) fn read(text: &str, is_whole: bool) -> Stream<'_> {
    let mut events = Vec::new();
    let mut event = Event::default();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    while events.len() < EVENTS_MAX && !rest.is_empty() {
        let (line, after) = match rest.find(['\n', '\r']) {
            Some(at) => {
                let (line, ending) = rest.split_at(at);
                let length = if ending.starts_with("\r\n") { 2 } else { 1 };
                (line, ending.get(length..).unwrap_or_default())
            }
            None if is_whole => (rest, ""),
            None => break,
        };
        rest = after;
        if line.is_empty() {
            events.extend(event.take());
            continue;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        event.put(name, value.strip_prefix(' ').unwrap_or(value));
    }
    if is_whole && rest.is_empty() {
        events.extend(event.take());
    }
    Stream { events, rest }
}

impl Stream<'_> {
    /// The first `most` events as a list of documents; their data is JSON if it reads as JSON.
    pub(crate) fn document(&self, most: usize) -> Json<'_> {
        Json::Array(self.events.iter().take(most).map(Event::document).collect())
    }

    /// How many events are compared one by one.
    pub(crate) fn count(&self) -> usize {
        self.events.len()
    }
}

impl Event {
    fn put(&mut self, name: &str, value: &str) {
        let known = match name {
            "event" => "event",
            "id" => "id",
            "retry" => "retry",
            "data" => {
                match &mut self.data {
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                    None => self.data = Some(value.to_owned()),
                }
                return;
            }
            // Comments keep a connection alive, and other fields are ignored by every client.
            _ => return,
        };
        self.fields.retain(|(field, _)| *field != known);
        self.fields.push((known, value.to_owned()));
    }

    /// What was gathered, if it was anything.
    fn take(&mut self) -> Option<Event> {
        let event = std::mem::take(self);
        (event.data.is_some() || !event.fields.is_empty()).then_some(event)
    }

    fn document(&self) -> Json<'_> {
        let data = self.data.as_deref().map(|data| {
            let value = parse(data.as_bytes()).unwrap_or(Json::String(Cow::Borrowed(data)));
            (Cow::Borrowed("data"), value)
        });
        let fields = self.fields.iter().map(|(name, value)| (Cow::Borrowed(*name), Json::String(Cow::Borrowed(value))));
        Json::Object(Object { members: data.into_iter().chain(fields).collect(), has_duplicates: false })
    }
}
