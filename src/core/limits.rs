//! The bounds of the two files. A table without them is a promise nobody can keep.

/// Most routes.
pub const ROUTES_MAX: usize = 100_000;
/// Most upstreams, those written as a URL included.
pub const UPSTREAMS_MAX: usize = 10_000;
/// Most endpoints of an upstream.
pub const ENDPOINTS_MAX: usize = 256;
/// Most journeys.
pub const JOURNEYS_MAX: usize = 10_000;
/// Most routes of a journey with a lease: they are looked at when one begins.
pub const LEASED_ROUTES_MAX: usize = 1_000;
/// Longest lease, in seconds: a day.
pub const LEASE_S_MAX: u64 = 24 * 60 * 60;
/// Most steps of a rollout.
pub const STEPS_MAX: usize = 100;
/// Most freezes of a rollout.
pub const FREEZES_MAX: usize = 100;
/// Most `hooks` of a rollout, and most entries of `notify`.
pub const HOOKS_MAX: usize = 10;
/// Most routes that a rollout waits for.
pub const NEEDS_MAX: usize = 100;
/// Most endpoints under `fall_through.declared`.
pub const DECLARED_MAX: usize = 2_000;
/// Most names under `removed:`.
pub const REMOVED_MAX: usize = 100_000;
/// Most places where a journey looks for a key.
pub const STICKY_MAX: usize = 8;
/// Most conditions of one kind, methods, edits of headers: what is looked at on every request.
pub const PER_REQUEST_MAX: usize = 32;
/// Most comparison rules of a route, and most pointers of a list.
pub const RULES_MAX: usize = 1_000;
/// Largest request body that may be allowed: 1 TiB.
pub const BODY_BYTES_MAX: u64 = 1 << 40;
/// Largest body that may be held in memory for a second try, a copy or a comparison: 64 MiB.
pub const HELD_BYTES_MAX: u64 = 64 << 20;
/// Most listeners of a process.
pub const LISTENERS_MAX: usize = 64;
/// Most certificates of a listener.
pub const CERTIFICATES_MAX: usize = 1_000;
/// Most blocks of trusted addresses.
pub const TRUSTED_MAX: usize = 1_000;
