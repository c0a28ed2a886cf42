//! STUB
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use crate::job::{Context, End, Job, JobError, Pool};
/// Stub.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Noop { 
    /// Id.
    pub upload: Uuid 
}
impl Job for Noop {
    const KIND: &'static str = "noop";
    const POOL: Pool = Pool::Upkeep;
    fn subject(&self) -> Uuid { self.upload }
    async fn run(self, _ctx: &Context) -> Result<End, JobError> { Ok(End::Done) }
}
