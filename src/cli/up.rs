//! `longshore up`

use clap::Args;

use super::Failure;
use super::serve::serve;
use crate::app::Roles;
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct UpArgs {}

pub(super) async fn run(config: Config, _args: UpArgs) -> Result<(), Failure> {
    serve(config, Roles::all()).await
}
