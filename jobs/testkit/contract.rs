//! What every bucket promises.
