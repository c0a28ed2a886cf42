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
    let chosen = aws_config::meta::region::RegionProviderChain::first_try(region.map(Region::new))
        .or_default_provider()
        .or_else("us-east-1");
    aws_config::defaults(BehaviorVersion::latest()).http_client(http).region(chosen).load().await
}
