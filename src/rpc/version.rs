//! RPC versions: which requests an endpoint of a given version serves.

use std::fmt;
use std::str::FromStr;

/// The version of a request that names none: the dispatcher of every
/// oslo.messaging release reads `message.get('version', '1.0')`.
pub const DEFAULT: &str = "1.0";

/// A version that an endpoint serves, such as `3.11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Must be the same in caller and server.
    pub major: u32,
    /// The caller's may be lower.
    pub minor: u32,
    /// Counts only between equal minors; absent means 0. Cinder never uses it.
    pub revision: u32,
}

/// A served version that is not two or three numbers with dots between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an RPC version is two numbers with a dot between, such as 3.11")]
pub struct VersionError;

impl Version {
    /// A version without a revision, as all of cinder's are.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self {
            major,
            minor,
            revision: 0,
        }
    }

    /// Whether a request of version `requested` may be served
    /// (`version_is_compatible` in `oslo_messaging/_utils.py`, the same from 5.17 to 18.3).
    ///
    /// Two details are oslo's: the revision is looked at only when the minors are equal,
    /// and what follows a third dot is never looked at.
    ///
    /// Where oslo would raise `IndexError` or `ValueError` (`3`, `a.b`) the answer is no, so that the
    /// caller reads "unsupported version". What Python's `int()` takes besides digits (blanks,
    /// underscores, signs) is not taken either: no peer sends it.
    pub fn accepts(&self, requested: &str) -> bool {
        let mut parts = requested.split('.');
        if number(parts.next()) != Some(self.major) {
            return false;
        }
        match number(parts.next()) {
            Some(minor) if minor < self.minor => true,
            Some(minor) if minor == self.minor => match parts.next() {
                None => true,
                revision => number(revision).is_some_and(|revision| revision <= self.revision),
            },
            _ => false,
        }
    }
}

impl FromStr for Version {
    type Err = VersionError;

    /// Strict, unlike [`Version::accepts`]: this reads what an envelope says of itself.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('.');
        let version = Self {
            major: number(parts.next()).ok_or(VersionError)?,
            minor: number(parts.next()).ok_or(VersionError)?,
            revision: match parts.next() {
                None => 0,
                revision => number(revision).ok_or(VersionError)?,
            },
        };
        match parts.next() {
            None => Ok(version),
            Some(_) => Err(VersionError),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        match self.revision {
            0 => Ok(()),
            revision => write!(f, ".{revision}"),
        }
    }
}

/// Digits only; `u32::from_str` would take a plus sign as well.
fn number(part: Option<&str>) -> Option<u32> {
    let part = part?;
    if part.bytes().all(|byte| byte.is_ascii_digit()) {
        part.parse().ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SERVED: Version = Version::new(3, 11);

    #[test]
    fn as_oslo_decides() {
        for yes in [
            "3.11", "3.0", "3.11.0", "3.10.7", "3.10.x", "3.11.0.9", "03.011",
        ] {
            assert!(SERVED.accepts(yes), "{yes}");
        }
        for no in [
            "3.12",
            "4",
            "4.0",
            "2.11",
            "1.0",
            "3.11.1",
            "99999999999.0",
            "3.99999999999",
        ] {
            assert!(!SERVED.accepts(no), "{no}");
        }
    }

    #[test]
    fn what_makes_oslo_raise_is_refused() {
        for odd in [
            "3", "3.", ".", "", "a.b", "3.11.x", "3.11.", "None", "3.x", "+3.1", "3.-1", " 3.1",
            "3.1_0", "٣.1",
        ] {
            assert!(!SERVED.accepts(odd), "{odd:?}");
        }
    }

    #[test]
    fn a_revision_is_compared_only_between_equal_minors() {
        let served: Version = "3.11.2".parse().unwrap();
        assert!(served.accepts("3.11"));
        assert!(served.accepts("3.11.2"));
        assert!(served.accepts("3.4.9"));
        assert!(!served.accepts("3.11.3"));
    }

    #[test]
    fn a_configured_version_is_read_strictly() {
        assert_eq!("3.11".parse(), Ok(SERVED));
        assert_eq!(SERVED.to_string(), "3.11");
        assert_eq!("3.11.2".parse::<Version>().unwrap().to_string(), "3.11.2");
        for wrong in ["", "3", "3.11.", "3.11.1.1", "v3.11", "3.-1", "3,11"] {
            assert_eq!(wrong.parse::<Version>(), Err(VersionError), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gets_an_answer(requested in "\\PC*") {
            SERVED.accepts(&requested);
            let _ = requested.parse::<Version>();
        }

        #[test]
        fn lower_minors_of_the_same_major_and_no_others(major in 0u32..6, minor in 0u32..24) {
            let requested = format!("{major}.{minor}");
            prop_assert_eq!(SERVED.accepts(&requested), major == 3 && minor <= 11);
        }
    }
}
