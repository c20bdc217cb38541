//! AMQP frames in a stream of bytes: just enough to recognise a method.

/// The header a client starts with.
const GREETING: &[u8] = b"AMQP";

/// Bytes of the greeting, of a frame before its payload, and after it.
const GREETING_BYTES: usize = 8;
const BEFORE: usize = 7;
const AFTER: usize = 1;

/// Cuts a stream into the client's greeting and frames.
#[derive(Default)]
pub struct Frames(Vec<u8>);

impl Frames {
    /// Adds what came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Takes the next whole frame.
    pub fn next(&mut self) -> Option<Vec<u8>> {
        let length = if self.0.starts_with(GREETING) {
            GREETING_BYTES
        } else {
            let size = self.0.get(3..BEFORE)?.try_into().ok()?;
            BEFORE + usize::try_from(u32::from_be_bytes(size)).ok()? + AFTER
        };
        (self.0.len() >= length).then(|| self.0.drain(..length).collect())
    }
}

/// Methods of AMQP, as class and method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `tx.select`
    Select,
    /// `basic.publish`
    Publish,
    /// `basic.ack`
    Ack,
    /// `tx.commit`
    Commit,
    /// `tx.commit-ok`
    CommitOk,
}

/// Which of these methods a frame is.
pub fn method(frame: &[u8]) -> Option<Method> {
    const METHOD_FRAME: u8 = 1;
    if *frame.first()? != METHOD_FRAME {
        return None;
    }
    let pair = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?));
    match (pair(BEFORE)?, pair(BEFORE + 2)?) {
        (90, 10) => Some(Method::Select),
        (60, 40) => Some(Method::Publish),
        (60, 80) => Some(Method::Ack),
        (90, 20) => Some(Method::Commit),
        (90, 21) => Some(Method::CommitOk),
        _ => None,
    }
}
