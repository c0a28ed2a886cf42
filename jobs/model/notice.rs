//! Notices: what a bucket says when an object has landed.

/// An object has landed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The bucket's name.
    pub bucket: String,
    /// The key, decoded.
    pub key: String,
    /// Bytes; `None` where the server does not tell.
    pub size: Option<i64>,
    /// The version, without quotes; `None` where the server does not tell.
    pub etag: Option<String>,
    /// Orders the events of one key; `None` where the server sends none.
    pub sequencer: Option<String>,
}

/// One thing that a notice says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An object was created.
    Created(Arrival),
    /// `s3:TestEvent`: sent when notifications are set up, to be acknowledged.
    Test,
    /// Something that does not concern us, such as a removal.
    Other(String),
}
