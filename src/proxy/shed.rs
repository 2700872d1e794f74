//! Refuses a part of the requests at once while this core has more to do than it can.

use std::cell::Cell;
use std::time::Instant;

use strangler_core::shed::Shed;

use crate::proxy::Proxy;
use crate::telemetry::metrics::SideGauge;
use crate::upstream::chance;

thread_local! {
    static SHED: Cell<Shed> = const { Cell::new(Shed::PLAIN) };
}

/// Looks at how late the core got to a look that was due at `due`.
pub(crate) fn look(proxy: &Proxy, due: Instant) {
    let late = Instant::now().saturating_duration_since(due);
    let in_flight = proxy.in_flight.iter().map(SideGauge::get).sum::<i64>();
    SHED.set(SHED.get().next(late, u64::try_from(in_flight).unwrap_or(0)));
}

/// Whether the next request is refused.
pub(crate) fn takes_next() -> bool {
    let shed = SHED.get();
    shed.is_any() && shed.takes(chance::next_u64())
}
