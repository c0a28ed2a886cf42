//! `longshore intake`

use clap::Args;

use super::Failure;
use super::serve::serve;
use crate::app::Roles;
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct IntakeArgs {}

pub(super) async fn run(config: Config, _args: IntakeArgs) -> Result<(), Failure> {
    serve(config, Roles { intake: true, pools: Vec::new(), schedule: false }).await
}
