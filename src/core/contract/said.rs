//! An answer as it is written down: `{"status": 200, "headers": {…}, "body": …}`.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::contract::Media;
use crate::contract::shown::write;
use crate::json::{Json, JsonError, parse};

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Why a text is no [`Said`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaidError {
    /// No JSON at all.
    #[error("not a written answer, `{{\"status\": …, \"headers\": {{…}}, \"body\": …}}`")]
    Json(#[from] JsonError),
    /// JSON, but of another shape.
    #[error("not a written answer: {0}")]
    Shape(String),
}

impl Said {
    /// Reads one. `headers` and `body` may be missing; a header's value is a text, or a list of them. A body that is a text is that
    /// text; any other JSON is the body itself, as it is spelled there.
    ///
    /// # Errors
    /// When it is no JSON of that shape.
    pub fn parse(text: &[u8]) -> Result<Said, SaidError> {
        let shape = |said: &str| SaidError::Shape(said.to_owned());
        let Json::Object(object) = parse(text)? else { return Err(shape("it is no object")) };
        if object.has_duplicates {
            return Err(shape("a key is there twice"));
        }
        let (mut status, mut headers, mut body) = (None, HeaderMap::new(), Bytes::new());
        for (key, value) in &object.members {
            match (&**key, value) {
                ("status", Json::Number(number)) => {
                    let number = number.as_str().parse().ok().and_then(|code| StatusCode::from_u16(code).ok());
                    status = Some(number.ok_or_else(|| shape("`status` is a number from 100 to 999"))?);
                }
                ("status", _) => return Err(shape("`status` is a number from 100 to 999")),
                ("headers", Json::Object(members)) => headers = read_headers(&members.members)?,
                ("headers", Json::Null) => {}
                ("headers", _) => return Err(shape("`headers` is an object")),
                ("body", Json::String(text)) => body = Bytes::copy_from_slice(text.as_bytes()),
                ("body", value) => body = Bytes::from(write(value)),
                (other, _) => {
                    return Err(SaidError::Shape(format!(
                        "`{other}` is not known; it has `status`, `headers`, `body`"
                    )));
                }
            }
        }
        let status = status.ok_or_else(|| shape("`status` is missing"))?;
        Ok(Said { status, headers, body })
    }

    /// Says what the body is, where its headers do not.
    pub fn or_type(mut self, media: Media) -> Said {
        if !self.headers.contains_key(header::CONTENT_TYPE) {
            self.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media.content_type()));
        }
        self
    }

    /// Whether the headers say what the body is.
    pub fn has_type(&self) -> bool {
        self.headers.contains_key(header::CONTENT_TYPE)
    }
}

fn read_headers(members: &[(Cow<'_, str>, Json<'_>)]) -> Result<HeaderMap, SaidError> {
    let mut headers = HeaderMap::new();
    for (name, value) in members {
        let key: HeaderName = name.parse().map_err(|_| SaidError::Shape(format!("`{name}` is no name of a header")))?;
        let wrong = || SaidError::Shape(format!("the header `{name}` is a text, or a list of texts"));
        let lines: Vec<&Json<'_>> = match value {
            Json::Array(items) => items.iter().collect(),
            one @ (Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Object(_)) => vec![one],
        };
        for line in lines {
            let text: Cow<'_, str> = match line {
                Json::String(text) => Cow::Borrowed(text),
                Json::Number(number) => Cow::Borrowed(number.as_str()),
                Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => return Err(wrong()),
            };
            headers.append(key.clone(), HeaderValue::from_str(&text).map_err(|_| wrong())?);
        }
    }
    Ok(headers)
}
