//! What every AWS client shares: where credentials and region come from, and how HTTPS is spoken.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

/// The SDK's chain: environment, profile files, web identity, container, instance. `region` goes before what it finds; without
/// any it is `us-east-1`, as for most tools.
///
/// Source: <https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html>.
pub(crate) async fn load(region: Option<String>) -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
    if let Some(region) = region {
        loader = loader.region(Region::new(region));
    }
    // The loader's own chain asks the instance for its region with our HTTPS; one built apart has none and panics.
    let loaded = loader.load().await;
    if loaded.region().is_some() {
        loaded
    } else {
        loaded.into_builder().region(Region::from_static("us-east-1")).build()
    }
}
