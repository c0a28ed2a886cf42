//! What good answers say.

/// For answers to POST.
pub const POSTED: &str = "Successful post request";
/// For answers to GET.
pub const GOT: &str = "Successful get request";
/// For answers to PUT.
pub const PUT: &str = "Successful put request";
/// For answers to DELETE.
pub const DELETED: &str = "Successful delete request";
