//! From a file to a routing table, and from then on: whenever the file changes.

pub mod yaml;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strangler_core::fault::{Fault, Severity};
use strangler_core::raw::RawConfig;
use strangler_core::table::{Revision, RoutingTable};

/// What became of a text.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The table; `None` when the text was refused.
    pub table: Option<Arc<RoutingTable>>,
    /// Everything found, in the order of the file. Errors when there is no table, warnings beside one.
    pub faults: Vec<Fault>,
}

impl Loaded {
    /// How many of the faults refuse the text.
    pub fn errors(&self) -> usize {
        self.faults.iter().filter(|fault| fault.severity == Severity::Error).count()
    }
}

/// Reads a text: the one road of the first start and of every reload.
pub fn load(text: &[u8]) -> Loaded {
    let (root, faults) = yaml::read(text);
    let Some(root) = root else {
        return Loaded { table: None, faults };
    };
    let (table, faults) = RoutingTable::parse(RawConfig::read(&root, faults), Revision::of(text));
    Loaded { table: table.map(Arc::new), faults }
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is none, or it may not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory, a pipe, a device.
    #[error("{} is no regular file", path.display())]
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// More than [`yaml::BYTES_MAX`].
    #[error("{} has more than {} bytes ({} MiB), which is the most that is read", path.display(), yaml::BYTES_MAX, yaml::BYTES_MAX >> 20)]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
}

/// Reads a file of at most 16 MiB. A larger one is refused before it is read, a pipe before it is opened.
pub fn read(path: &Path) -> Result<Vec<u8>, ReadError> {
    let failed = |source| ReadError::Read { path: path.to_owned(), source };
    // Asked before it is opened: opening a pipe waits for a writer.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(ReadError::NotAFile { path: path.to_owned() });
    }
    let file = File::open(path).map_err(failed)?;
    let limit = yaml::BYTES_MAX as u64;
    if file.metadata().map_err(failed)?.len() > limit {
        return Err(ReadError::TooLarge { path: path.to_owned() });
    }
    // It may grow while it is read.
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > yaml::BYTES_MAX {
        return Err(ReadError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_loads() {
        let text = r#"
version: 1
legacy: http://127.0.0.1:8000                     # a URL or an upstream's name
upstreams:
  pricing: {endpoints: [http://127.0.0.1:8102]}
  payment: {endpoints: [http://127.0.0.1:8103]}
routes:
  - {name: cart-total, match: "GET /api/v1/carts/{cart_id}/total", extracted: http://127.0.0.1:8102, weight: 5%}
  - {name: prices, match: "GET /api/v1/products/{*rest}", extracted: pricing, shadow: 25%, compare: {rules: [{path: /as_of, ignore: true}]}}
  - {name: pay, match: "POST /api/v1/payments", extracted: payment, weight: 100%, data: synced, fallback: unsent}
"#;
        let loaded = load(text.as_bytes());
        assert_eq!(loaded.faults, []);
        let table = loaded.table.expect("a table");
        assert_eq!(table.routes().len(), 3);
        assert_eq!(table.upstreams().len(), 4);
        assert_eq!(table.legacy().name.as_str(), "127-0-0-1-8000");
    }

    #[test]
    fn the_long_form_loads() {
        let text = r#"
version: 1
upstreams:
  monolith:
    endpoints: ["http://127.0.0.1:8000", "http://[::1]:8000"]
    host: preserve
    balance: round_robin
    timeouts: {connect: 1s, response_header: 30s, idle: 0s}
    max_connections: 256
    max_in_flight: 1024
    fallback_share: 50%
    retry: {times: 1, when: [connect_failure, reset_before_response], budget: 20%}
  pricing: {endpoints: [http://pricing:8102], host: upstream, balance: least_requests}
legacy: monolith
journeys:
  checkout: {sticky_on: ["header:x-user-id", "cookie:SHOPSID"], salt: checkout-2026}
defaults: {compare: {keep: {per_signature: 7}}, fallback: {max_body: 64KiB}, shadow: {max_rps: 9}}
removed: [old-route]
routes:
  - name: cart-total
    owner: team-pricing
    journey: checkout
    match:
      host: shop.example.com
      path: /api/v1/carts/{cart_id}/total
      methods: [GET]
      headers: {accept: {contains: vnd.shop.v2}, x-version: 1.10}
      query: {currency: EUR}
      cookies: {beta: "1"}
    extracted: {upstream: pricing}
    data: legacy
    weight: 5%
    deadline: 60s
    override: {header: strangler-side}
    request_headers: {set: {x-a: b}, remove: [x-c]}
    response_headers: {set: {x-a: b}, remove: [x-c]}
    fallback: {when: [connect_failure, timeout, 5xx], unsafe: unsent}
    success: {status: [2xx, 3xx, 404]}
    max_body: 10MiB
    shadow: {sample: 25%, methods: [GET, HEAD], dispatch: concurrent, max_in_flight: 100, timeout: 5s, max_request_body: 64KiB, never: [/logout, /auth/**], unsafe: refuse}
    compare: {status: exact, headers: {mode: listed, listed: [content-type]}, body: {max_bytes: 1MiB, decode: [gzip, br, zstd], over_limit: hash}, json: {array_order: strict}, rules: [{path: /**/updated_at, ignore: true}], keep: {values: [/total_cents], max_age: 24h}}
  - name: orders
    match: "GET /api/v1/orders/{order_no}"
    extracted: pricing
    locate: {param: order_no, rules: [{min: 10000000, to: extracted}], else: legacy}
  - {name: odd, match: {path: {regex: "^/odd/[0-9]+$"}}, extracted: pricing, data: extracted}
"#;
        let loaded = load(text.as_bytes());
        assert_eq!(loaded.faults, []);
        let table = loaded.table.expect("a table");
        let route = &table.routes()[0];
        assert_eq!(route.weight.basis_points(), 500);
        assert_eq!(&*route.salt, "checkout-2026");
        assert_eq!(route.fallback.map(|fallback| fallback.max_body), Some(64 << 10));
        assert_eq!(
            route.shadow.as_ref().map(|shadow| (shadow.max_rps, shadow.sample.basis_points())),
            Some((9, 2_500))
        );
        assert_eq!(route.compare.as_ref().map(|compare| compare.keep_per_signature), Some(7));
        assert!(route.success.contains(404) && !route.success.contains(500));
        assert_eq!(table.legacy().timeouts.idle, None);
        assert_eq!(table.routes()[2].fallback, None);
    }
}
