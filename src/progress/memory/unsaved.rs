//! What is left out of what is written down.

use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};

/// What only this daemon knows of a copy. It is not written down, so it makes no difference to what is.
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
