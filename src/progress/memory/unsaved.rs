//! Fields that are not saved.

use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};

/// A field that only this run of the daemon uses. It hashes to nothing and equals every other, so that a change of it
/// is no change of what is saved.
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
