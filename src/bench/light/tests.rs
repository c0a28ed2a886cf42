//! The light server on the wire: by plain requests, and by the clients that it is there for.

mod by_http;
mod by_s3_client;
mod by_sqs_client;

use std::future::IntoFuture as _;

use aws_sdk_s3::config::{Credentials, Region};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::{Faults, Options, QUEUE_PATH, Slowness, router};

/// A light server of one test's own.
struct Served {
    url: String,
    _serving: AbortOnDropHandle<std::io::Result<()>>,
}

const PLAIN: Options = Options {
    max_memory: 1 << 24,
    slowness: Slowness { first_byte: std::time::Duration::ZERO, bandwidth: None },
    faults: Faults { drop: 0.0, duplicate: 0.0, shuffle: false, seed: 0 },
};

impl Served {
    async fn start(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(axum::serve(listener, router(url.clone(), options)).into_future());
        Self { url, _serving: AbortOnDropHandle::new(serving) }
    }

    /// A client without proxies and certificates.
    fn http() -> reqwest::Client {
        crate::client::choose_cryptography();
        reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap()
    }

    fn queue_url(&self) -> String {
        format!("{}{QUEUE_PATH}", self.url)
    }

    async fn s3(&self) -> aws_sdk_s3::Client {
        let settings = crate::aws::load(Some("us-east-1".to_owned())).await;
        let config = aws_sdk_s3::config::Builder::from(&settings)
            .endpoint_url(&self.url)
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("any", "any", None, None, "test"))
            .force_path_style(true)
            .request_checksum_calculation(aws_sdk_s3::config::RequestChecksumCalculation::WhenRequired)
            .build();
        aws_sdk_s3::Client::from_conf(config)
    }

    async fn sqs(&self) -> aws_sdk_sqs::Client {
        let settings = crate::aws::load(Some("us-east-1".to_owned())).await;
        let config = aws_sdk_sqs::config::Builder::from(&settings)
            .endpoint_url(&self.url)
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("any", "any", None, None, "test"))
            .build();
        aws_sdk_sqs::Client::from_conf(config)
    }
}
