//! The inbox on MiniStack, which judges as SQS does, and on a server of ours that fails at our word.

mod failing;
mod ministack;

use aws_config::SdkConfig;
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};

use super::*;

/// The chain's settings with the credentials that test servers take.
async fn sdk() -> SdkConfig {
    let credentials = Credentials::new("test", "test", None, None, "tests");
    let loaded = crate::aws::load(Some("us-east-1".to_owned())).await.into_builder();
    loaded.credentials_provider(SharedCredentialsProvider::new(credentials)).build()
}

async fn inbox(options: Options) -> SqsInbox {
    let address = Address::of(&options).unwrap();
    SqsInbox::connect(&sdk().await, address, options)
}
