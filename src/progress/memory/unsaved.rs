//! Fields that the state file does not have.

use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};

/// A field of a copy that is not saved. It is equal to any other and adds nothing to a hash, so that a change of the
/// field does not cause the state file to be written.
#[derive(Debug, Clone, Default)]
pub(in crate::progress) struct Unsaved<T>(pub T);

impl<T> Hash for Unsaved<T> {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl<T> PartialEq for Unsaved<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Deref for Unsaved<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Unsaved<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use std::hash::DefaultHasher;

    use super::*;

    #[test]
    fn a_change_of_it_is_no_change_of_the_copy() {
        let hash = |copy: (u8, Unsaved<u8>)| {
            let mut hasher = DefaultHasher::new();
            copy.hash(&mut hasher);
            hasher.finish()
        };
        let (one, other) = ((7, Unsaved(1)), (7, Unsaved(2)));
        assert_eq!(one, other);
        assert_eq!(hash(one.clone()), hash(other));
        assert_ne!(hash(one), hash((8, Unsaved(1))));
    }
}
