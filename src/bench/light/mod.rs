//! A light S3 and SQS in memory, so that a bench measures longshore and not the server beside it, and so that notices can be
//! lost, doubled and shuffled on purpose.
//!
//! It is **no judge of anything**: no signature, policy, checksum or size condition is checked, whoever asks is answered, and
//! every bucket name exists. What proves that our signatures and policies hold runs against servers that check them. What it does
//! keep to are the parts that the pipeline leans on: `If-Match` and `x-amz-copy-source-if-match`, ranges, order and pages of
//! listings, multipart, a SHA-256 of a copy, long polling and visibility.
//!
//! Objects that appear below `staging/`, other than by a copy, are told as S3 events through the one queue, [`QUEUE_PATH`].

mod copy;
mod fault;
mod form;
mod list;
mod memory;
mod messages;
mod multipart;
mod notices;
mod object;
mod read;
mod s3;
mod slow;
mod sqs;
mod write;
mod xml;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use memory::Memory;
use messages::Messages;
use multipart::Multiparts;
use notices::Announcer;
use object::Objects;

pub(crate) use notices::Faults;
pub(crate) use slow::Slowness;

/// Where the one queue is, below the server's address.
pub(crate) const QUEUE_PATH: &str = "/000000000000/notices";
/// Tells as JSON how many notices were sent, dropped and doubled. No bucket can have such a name.
const TALLY_PATH: &str = "/-/notices";

/// How the server behaves.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Bytes of all objects and unfinished parts. What goes beyond is refused with 507.
    pub(crate) max_memory: u64,
    /// How S3 answers.
    pub(crate) slowness: Slowness,
    /// What happens to notices on their way.
    pub(crate) faults: Faults,
}

/// What all requests share.
struct Cloud {
    objects: Objects,
    multiparts: Multiparts,
    memory: Memory,
    messages: Messages,
    announcer: Announcer,
    slowness: Slowness,
    /// Where the server is reached; without a slash at its end.
    url: String,
}

/// The routes of a new and empty server that is reached at `url`.
pub(crate) fn router(url: String, options: Options) -> Router {
    let cloud = Cloud {
        objects: Objects::default(),
        multiparts: Multiparts::default(),
        memory: Memory::new(options.max_memory),
        messages: Messages::default(),
        announcer: Announcer::new(options.faults),
        slowness: options.slowness,
        url,
    };
    Router::new().route(TALLY_PATH, get(tally)).fallback(answer).with_state(Arc::new(cloud))
}

async fn answer(State(cloud): State<Arc<Cloud>>, request: Request) -> Response {
    // S3 and SQS share one address, as with most servers that imitate both; only SQS names its operation in a header.
    match request.headers().get(sqs::TARGET) {
        Some(_) => sqs::answer(&cloud, request).await,
        None => s3::answer(&cloud, request).await,
    }
}

async fn tally(State(cloud): State<Arc<Cloud>>) -> Response {
    axum::Json(cloud.announcer.tally()).into_response()
}

#[cfg(test)]
mod tests;
