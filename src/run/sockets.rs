//! Where the listening sockets come from: handed over by the process before, opened by a service manager, or bound now.

use std::io;
use std::net::{SocketAddr, TcpListener};

use serde::{Deserialize, Serialize};

use crate::proxy::listen::{Bound, ListenError, bind};
use crate::run::RunError;
use crate::run::options::Options;
use crate::run::systemd::Activated;

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Plane {
    /// Clients.
    Data,
    /// People.
    Admin,
    /// Probes and Prometheus.
    Telemetry,
}

/// Which listener a socket belongs to: by what was asked for, for a port 0 has become another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tag {
    /// What it is for.
    pub(super) plane: Plane,
    /// As configured.
    pub(super) asked: SocketAddr,
    /// Among the listeners of this plane that ask for the same address.
    pub(super) nth: usize,
}

/// A socket is not where it should be.
#[derive(Debug, thiserror::Error)]
pub enum SocketsError {
    /// The service manager opened a socket that no listener is configured for. Its clients would wait for ever.
    #[error(
        "the service manager hands over a socket on {address}{name}, and no listener, admin or telemetry address is that; \
         make ListenStream= and the configuration agree"
    )]
    Stray {
        /// Where it listens.
        address: SocketAddr,
        /// ` (its name)`, or nothing.
        name: String,
    },
}

/// Sockets that are there already.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    handed: Vec<(Tag, TcpListener)>,
    activated: Vec<Activated>,
}

/// A listener's sockets, kept to be handed to a new binary.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) tag: Tag,
    pub(super) sockets: Vec<TcpListener>,
}

impl Inherited {
    pub(super) fn new(handed: Vec<(Tag, TcpListener)>, activated: Vec<Activated>) -> Inherited {
        Inherited { handed, activated }
    }

    /// The sockets of a listener: inherited ones, else bound now, one for each of `cores`.
    pub(super) fn take(&mut self, tag: Tag, cores: usize) -> Result<Bound, ListenError> {
        let failed = |source| ListenError { address: tag.asked, source };
        let mut sockets: Vec<TcpListener> =
            self.handed.extract_if(.., |(own, _)| *own == tag).map(|(_, it)| it).collect();
        if sockets.is_empty() {
            let is_there = |it: &mut Activated| it.socket.local_addr().is_ok_and(|address| address == tag.asked);
            sockets = self.activated.extract_if(.., is_there).map(|it| it.socket).collect();
        }
        let Some(first) = sockets.first() else {
            return bind(tag.asked, cores);
        };
        let address = first.local_addr().map_err(failed)?;
        for socket in &sockets {
            socket.set_nonblocking(true).map_err(failed)?;
        }
        Ok(Bound { address, sockets })
    }

    /// To be called once every listener has its own. What the process before listened on and this one does not is let go.
    pub(super) fn end(self) -> Result<(), SocketsError> {
        if let Some(stray) = self.activated.into_iter().find_map(|it| Some((it.socket.local_addr().ok()?, it.name))) {
            let (address, name) = stray;
            let name = if name.is_empty() { name } else { format!(" ({name})") };
            return Err(SocketsError::Stray { address, name });
        }
        for (tag, _) in self.handed {
            tracing::warn!(address = %tag.asked, "the process before listened there; this one does not");
        }
        Ok(())
    }
}

/// What the process listens on.
#[derive(Debug)]
pub(super) struct Listening {
    /// In the order of the configuration.
    pub(super) data: Vec<Bound>,
    pub(super) admin: TcpListener,
    pub(super) telemetry: Option<TcpListener>,
    /// All of them again, for a new binary.
    pub(super) kept: Vec<Kept>,
}

impl Listening {
    /// Everything is there, or nothing is kept.
    pub(super) fn open(options: &Options, mut inherited: Inherited) -> Result<Listening, RunError> {
        let mut kept = Vec::new();
        let mut open = |plane: Plane, asked: SocketAddr, nth: usize, cores: usize| {
            let tag = Tag { plane, asked, nth };
            let bound = inherited.take(tag, cores)?;
            let failed = |source| ListenError { address: asked, source };
            let sockets =
                bound.sockets.iter().map(TcpListener::try_clone).collect::<io::Result<_>>().map_err(failed)?;
            kept.push(Kept { tag, sockets });
            Ok::<_, ListenError>(bound)
        };
        let listeners = &options.server.listeners;
        let mut data = Vec::with_capacity(listeners.len());
        for (place, listener) in listeners.iter().enumerate() {
            let asked = listener.address;
            let nth = listeners.iter().take(place).filter(|other| other.address == asked).count();
            data.push(open(Plane::Data, asked, nth, options.threads)?);
        }
        let mut one = |plane: Plane, asked: SocketAddr, name: &'static str| {
            let failed = |source| RunError::Admin { plane: name, address: asked, source };
            let bound = open(plane, asked, 0, 1).map_err(|error| failed(error.source))?;
            // More than one where the process before had been given more than one; people need no more.
            bound.sockets.into_iter().next().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
        };
        let admin = one(Plane::Admin, options.admin, "admin")?;
        let telemetry = options.telemetry.map(|asked| one(Plane::Telemetry, asked, "telemetry")).transpose()?;
        inherited.end()?;
        Ok(Listening { data, admin, telemetry, kept })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening() -> (TcpListener, SocketAddr) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    #[test]
    fn a_handed_socket_goes_to_the_listener_that_asked_for_the_same() {
        let asked: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let tag = |nth| Tag { plane: Plane::Data, asked, nth };
        let ((a, at_a), (b, at_b), (c, _)) = (listening(), listening(), listening());
        let mut inherited = Inherited::new(vec![(tag(0), a), (tag(1), b), (tag(0), c)], Vec::new());
        assert_eq!(inherited.take(tag(1), 4).unwrap().address, at_b);
        let first = inherited.take(tag(0), 1).unwrap();
        assert_eq!((first.address, first.sockets.len()), (at_a, 2), "all of them, whatever the number of cores");
        assert!(![at_a, at_b].contains(&inherited.take(tag(2), 1).unwrap().address), "bound anew");
    }

    #[test]
    fn a_socket_of_the_service_manager_is_found_by_its_address_or_refused() {
        let (socket, address) = listening();
        let activated = vec![Activated { socket, name: "web".to_owned() }];
        let mut inherited = Inherited::new(Vec::new(), activated);
        let admin = Tag { plane: Plane::Admin, asked: address, nth: 0 };
        assert_eq!(inherited.take(admin, 1).unwrap().address, address);
        assert!(inherited.end().is_ok());

        let (socket, address) = listening();
        let stray = Inherited::new(Vec::new(), vec![Activated { socket, name: "web".to_owned() }]);
        let told = stray.end().unwrap_err().to_string();
        assert!(told.contains(&format!("{address} (web)")), "{told}");
    }
}
