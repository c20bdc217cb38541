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
