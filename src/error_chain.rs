//! An error with its causes, for whoever has one line.

use std::error::Error;

/// `error: its cause: the cause of that`.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot start")]
    struct Outer(#[source] io::Error);

    #[test]
    fn causes_follow_their_error() {
        let error = Outer(io::Error::other("no room"));
        assert_eq!(chain(&error), "cannot start: no room");
        assert_eq!(chain(&io::Error::other("no room")), "no room");
    }
}
