//! The door as clients see it.
