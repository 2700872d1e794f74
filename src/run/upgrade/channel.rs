//! How two processes talk while one takes over from the other: frames over a socket pair, descriptors beside them.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use strangler_core::idempotency::PinKey;
use strangler_core::side::Side;

use crate::run::sockets::Tag;
use crate::run::upgrade::state::HandedState;
use crate::store::StoredPin;

/// Descriptors beside one frame; the system's own bound is 253.
pub(super) const DESCRIPTORS_MAX: usize = 64;
/// Bytes of a frame.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// For one piece of a frame to be taken.
const WRITE_MAX: Duration = Duration::from_secs(5);

/// What is said.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    /// By the process before: sockets, one descriptor for each tag.
    Sockets(Vec<Tag>),
    /// By the process before: the lock of the state directory, as its descriptor.
    Lock,
    /// By the process before: that was all; make yourself ready.
    Begin,
    /// By the new one: everything is loaded, nothing is served yet.
    Prepared,
    /// By the process before: what people have moved.
    State(HandedState),
    /// By the new one: it serves.
    Ready,
    /// By the process before, which moves nothing any more: the last word on what people have moved.
    Yours(HandedState),
    /// By the process before: somebody sent it SIGUSR1.
    KillAll,
    /// By either, while both serve: who has seen which idempotency keys.
    Pins(Vec<HandedPin>),
}

/// An idempotency key on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HandedPin {
    key: PinKey,
    /// `None`: forgotten.
    is_extracted: Option<bool>,
    seen_s: u64,
}

impl From<StoredPin> for HandedPin {
    fn from(pin: StoredPin) -> HandedPin {
        HandedPin { key: pin.key, is_extracted: pin.side.map(|side| side == Side::Extracted), seen_s: pin.seen_s }
    }
}

impl From<HandedPin> for StoredPin {
    fn from(pin: HandedPin) -> StoredPin {
        let side = pin.is_extracted.map(|is_extracted| if is_extracted { Side::Extracted } else { Side::Legacy });
        StoredPin { key: pin.key, side, seen_s: pin.seen_s }
    }
}

/// One end.
#[derive(Debug)]
pub(super) struct Channel {
    stream: UnixStream,
    /// Held while a frame is written: several threads speak.
    saying: Mutex<()>,
}

impl Channel {
    pub(super) fn new(stream: UnixStream) -> Channel {
        // A peer that does not read is as good as gone. It can only fail for a time of zero.
        let _ = stream.set_write_timeout(Some(WRITE_MAX));
        Channel { stream, saying: Mutex::default() }
    }

    /// Says a word.
    pub(super) fn say(&self, word: &Word, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(word)?;
        let length = u32::try_from(text.len()).ok().filter(|length| *length as usize <= FRAME_BYTES_MAX);
        let length = length.ok_or_else(|| io::Error::other("too much to be said at once"))?.to_be_bytes();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("too many descriptors at once"));
        }
        let _turn = self.saying.lock().unwrap_or_else(PoisonError::into_inner);
        // The descriptors travel with the first byte; four bytes are never sent in part.
        sendmsg(&self.stream, &[IoSlice::new(&length)], &mut beside, SendFlags::NOSIGNAL)?;
        (&self.stream).write_all(&text)
    }

    /// Waits for a word, until `until` at the latest. `None`: the other end is gone.
    pub(super) fn hear(&self, until: Instant) -> io::Result<Option<(Word, Vec<OwnedFd>)>> {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left))?;
        let mut length = [0u8; 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            match recvmsg(&self.stream, &mut [IoSliceMut::new(&mut length)], &mut beside, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CONNRESET) => return Ok(None),
                other => break other?.bytes,
            }
        };
        if received == 0 {
            return Ok(None);
        }
        let mut descriptors = Vec::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(handed) = message {
                descriptors.extend(handed);
            }
        }
        let rest = length.get_mut(received..).unwrap_or_default();
        (&self.stream).read_exact(rest)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(io::Error::other("a frame is larger than any that is sent"));
        }
        let mut text = vec![0; length];
        (&self.stream).read_exact(&mut text)?;
        Ok(Some((serde_json::from_slice(&text)?, descriptors)))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::run::sockets::Plane;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn a_socket_that_is_handed_over_still_accepts() {
        let (a, b) = UnixStream::pair().unwrap();
        let (a, b) = (Channel::new(a), Channel::new(b));
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let word = Word::Sockets(vec![Tag { plane: Plane::Data, asked: address, nth: 3 }]);

        a.say(&word, &[socket.as_fd()]).unwrap();
        a.say(&Word::Begin, &[]).unwrap();
        drop((a, socket));
        let client = std::net::TcpStream::connect(address).unwrap();

        let (heard, mut descriptors) = b.hear(soon()).unwrap().unwrap();
        assert_eq!((heard, descriptors.len()), (word, 1));
        let socket = TcpListener::from(descriptors.remove(0));
        assert_eq!(socket.accept().unwrap().1, client.local_addr().unwrap());
        assert_eq!(b.hear(soon()).unwrap().unwrap().0, Word::Begin);
        assert!(b.hear(soon()).unwrap().is_none(), "the other end is gone");
    }

    #[test]
    fn silence_ends_by_itself() {
        let (a, b) = UnixStream::pair().unwrap();
        assert!(Channel::new(b).hear(Instant::now() + Duration::from_millis(20)).is_err());
        drop(a);
    }
}
