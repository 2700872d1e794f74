//! What outlives the process: endpoints as JSON, a piece for each.

use serde::{Deserialize, Serialize};

use crate::coverage::MethodKind;
use crate::discovery::shape::Shape;
use crate::discovery::tree::{Edge, Path};
use crate::discovery::{Book, Endpoint};

/// One endpoint on record: JSON that nothing but this module reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedEndpoint {
    /// Of its own, and the same each time: a hash of where it is.
    pub key: u64,
    /// What was counted.
    pub counts: String,
}

/// Why a line was not understood.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// It is no JSON of ours.
    #[error("an endpoint that was found before cannot be read")]
    Json(#[source] serde_json::Error),
    /// It names something that this version does not know.
    #[error("an endpoint that was found before names {0:?}, which is not known")]
    Unknown(String),
}

#[derive(Serialize, Deserialize)]
struct Line {
    method: String,
    /// `word`, `:shape`, `:shape.ending`, `*`.
    path: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    declared: bool,
    counts: Endpoint,
}

impl Book {
    /// All of it.
    pub fn save(&self) -> Vec<SavedEndpoint> {
        let tree = self.root.all();
        let of_tree = tree.iter().map(|(path, method, endpoint)| Line {
            method: method.as_str().to_owned(),
            path: path.0.iter().map(Edge::to_word).collect(),
            declared: false,
            counts: (*endpoint).clone(),
        });
        let of_declared = self.declared.iter().flat_map(|of| {
            of.endpoints.iter().map(|(method, endpoint)| Line {
                method: method.as_str().to_owned(),
                path: vec![of.declared.template.to_string()],
                declared: true,
                counts: endpoint.clone(),
            })
        });
        of_tree.chain(of_declared).map(Line::saved).collect()
    }

    /// Adds what was on record, as far as there is room. Lines that cannot be read are left out and answered: they cost the others nothing.
    pub fn load(&mut self, saved: &[SavedEndpoint]) -> Vec<SavedError> {
        let mut refused = Vec::new();
        for one in saved {
            if let Err(error) = self.load_line(&one.counts) {
                refused.push(error);
            }
        }
        (self.nodes, self.templates) = self.root.size();
        refused
    }

    fn load_line(&mut self, text: &str) -> Result<(), SavedError> {
        let line: Line = serde_json::from_str(text).map_err(SavedError::Json)?;
        let method = MethodKind::of_word(&line.method).ok_or_else(|| SavedError::Unknown(line.method.clone()))?;
        if line.declared {
            let text = line.path.first().map(String::as_str).unwrap_or_default();
            let of = self.declared.iter_mut().find(|of| of.declared.template.to_string() == text);
            if let Some(of) = of {
                of.endpoints.entry(method).or_default().merge(&line.counts);
            }
            return Ok(());
        }
        let edges = line.path.iter().map(|word| Edge::of_word(word).ok_or_else(|| SavedError::Unknown(word.clone())));
        let path = Path(edges.collect::<Result<_, _>>()?);
        if let Some(place) = self.declared_for(&path.example(), method)
            && let Some(of) = self.declared.get_mut(place)
        {
            of.endpoints.entry(method).or_default().merge(&line.counts);
        } else if self.templates < self.templates_max {
            self.root.put(path, method, &line.counts);
            self.templates += 1;
        } else {
            self.left_out = self.left_out.saturating_add(line.counts.requests);
        }
        Ok(())
    }
}

impl Line {
    fn saved(self) -> SavedEndpoint {
        let place = format!("{} {} {}", self.declared, self.method, self.path.join("/"));
        // Of numbers and text alone: there is nothing in it that JSON has no form for.
        let counts = serde_json::to_string(&self).unwrap_or_default();
        SavedEndpoint { key: xxhash_rust::xxh3::xxh3_64(place.as_bytes()), counts }
    }
}

impl Edge {
    fn to_word(&self) -> String {
        match self {
            Edge::Word(word) => word.to_string(),
            Edge::Data(shape, None) => format!(":{}", shape.as_str()),
            Edge::Data(shape, Some(ending)) => format!(":{}.{ending}", shape.as_str()),
            Edge::Rest => "*".to_owned(),
        }
    }

    /// A word has neither a colon in front nor a star: both are data.
    fn of_word(text: &str) -> Option<Edge> {
        if text == "*" {
            return Some(Edge::Rest);
        }
        let Some(data) = text.strip_prefix(':') else { return Some(Edge::Word(text.into())) };
        let (shape, ending) = data.split_once('.').map_or((data, None), |(shape, ending)| (shape, Some(ending)));
        Some(Edge::Data(Shape::of_word(shape)?, ending.map(Box::from)))
    }
}
