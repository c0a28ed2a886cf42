//! The bucket on S3, or on a server that speaks as S3 does.
//!
//! Whatever it asks itself goes through the AWS SDK. Forms are signed by our own signer, because the SDK has none for
//! POST policies, with what the SDK's chain of credentials gives. Where forms go and what presigned URLs look like is
//! asked of the SDK too, so that path style, virtual hosts, partitions and endpoints of the environment are ruled on in
//! one place.
//!
//! A process that is killed within a multipart put leaves its parts behind, where nobody sees and somebody pays them:
//! give the bucket a lifecycle rule with `AbortIncompleteMultipartUpload`.

mod copy;
mod fault;
mod objects;
mod parts;
mod put;
mod read;
pub(crate) mod settings;
#[cfg(test)]
mod tests;
mod wallet;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    self, RequestChecksumCalculation, ResponseChecksumValidation, SharedCredentialsProvider,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{BoxError, ProvideErrorMetadata as _};
use aws_sdk_s3::presigning::PresigningConfig;
use longshore_jobs::job::with_causes;
use longshore_jobs::model::policy::{self, PolicyTerms, PostPolicy};
use longshore_jobs::model::sigv4::{LONGEST_LIFE, Signer};
use longshore_jobs::model::{Digest, keys};
use longshore_jobs::outside::{
    Body, Bucket, BucketAddress, BucketError, Chunks, Clock, Listing, ObjectHead, Stored, SystemClock,
};
use url::Url;

use super::attachment::attachment;
use crate::aws;
use fault::during;
use parts::Budget;
use wallet::{Wallet, WalletError};

/// How often a request is made before it counts as failed, and how long the first and the longest pause between are.
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

const CONNECT: Duration = Duration::from_secs(5);
/// From the end of the connecting to the answer's first line, for all but what sends or moves bytes.
const ANSWER: Duration = Duration::from_secs(30);

/// How to reach a bucket.
#[derive(Clone)]
pub(crate) struct Options {
    /// Its name.
    pub(crate) bucket: String,
    /// `None` for what the SDK's chain finds.
    pub(crate) region: Option<String>,
    /// Who signs; `None` for what the SDK's chain finds.
    pub(crate) credentials: Option<SharedCredentialsProvider>,
    /// Where this program reaches S3; `None` for AWS, or what the environment or profile names.
    pub(crate) endpoint: Option<Url>,
    /// Where browsers post forms and follow presigned URLs; `None` when they reach it as this program does.
    pub(crate) public_endpoint: Option<Url>,
    /// `http://host/bucket/key` in place of `http://bucket.host/key`.
    pub(crate) path_style: bool,
    /// Whether requests carry checksums that are optional.
    pub(crate) checksums: Checksums,
    /// The most bytes that all ranged reads together hold, as parts that were asked for.
    pub(crate) read_budget: usize,
    /// The most bytes that all puts together hold, in parts; see [`put`].
    pub(crate) put_budget: usize,
    /// Bytes in a part of a multipart put, at least 5 MiB on S3, and in a range of a large read.
    pub(crate) part_size: usize,
    /// How many ranges of one object are asked for at once.
    pub(crate) streams: usize,
    /// Tells the time of signatures.
    pub(crate) clock: Arc<dyn Clock>,
}

/// Whether requests and responses carry checksums of the SDK's where S3 does not demand them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Checksums {
    /// No: trailing checksums over plain HTTP broke radosgw and Garage.
    #[default]
    WhenRequired,
    /// Yes, as the SDK would by itself.
    WhenSupported,
}

impl Options {
    /// AWS's own S3 by the SDK's chain, and parts of 8 MiB, eight at once, 256 MiB in all for reads and 128 MiB for puts.
    pub(crate) fn new(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            region: None,
            credentials: None,
            endpoint: None,
            public_endpoint: None,
            path_style: false,
            checksums: Checksums::default(),
            read_budget: 256 << 20,
            put_budget: 128 << 20,
            part_size: 8 << 20,
            streams: 8,
            clock: Arc::new(SystemClock),
        }
    }
}

/// A bucket on S3. One per process, so that its byte budgets are the process's.
pub(crate) struct S3Bucket {
    name: String,
    region: String,
    client: Client,
    /// Signs what others follow, and never sends.
    public: Client,
    form_url: String,
    wallet: Wallet,
    budget: Budget,
    put_budget: Budget,
    part_size: usize,
    streams: usize,
    clock: Arc<dyn Clock>,
}

/// The bucket cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// Neither environment nor profile nor machine has any.
    #[error("find AWS credentials")]
    Credentials(#[from] WalletError),
    /// The endpoint, the region and the name do not make a URL.
    #[error("make the URL of bucket {bucket}")]
    Address {
        /// The bucket.
        bucket: String,
        /// What the SDK said.
        #[source]
        source: BoxError,
    },
    /// It is not there: with it every object would seem to be missing.
    #[error("there is no bucket {bucket}")]
    NoSuchBucket {
        /// The bucket.
        bucket: String,
    },
    /// Forms signed for one region are refused in another.
    #[error("bucket {bucket} is in region {found}, not in {configured}")]
    OtherRegion {
        /// The bucket.
        bucket: String,
        /// Where it is.
        found: String,
        /// Where it was looked for.
        configured: String,
    },
}

impl OpenError {
    /// Whether it may open in a moment: whoever gives the credentials, a machine's own service for one, was not there.
    pub(crate) const fn may_pass(&self) -> bool {
        matches!(self, Self::Credentials(WalletError::None(_)))
    }
}

impl S3Bucket {
    /// Finds credentials and looks at the bucket. A server that cannot be reached or does not let us look is no error: it
    /// may come back, and needs no more than the rights that we use.
    pub(crate) async fn open(options: Options) -> Result<Self, OpenError> {
        let shared = aws::load(options.region.clone()).await;
        let mut shared = shared.into_builder();
        if let Some(credentials) = &options.credentials {
            shared.set_credentials_provider(Some(credentials.clone()));
        }
        Self::with(&shared.build(), options).await
    }

    async fn with(shared: &SdkConfig, options: Options) -> Result<Self, OpenError> {
        let wallet = Wallet::open(shared.credentials_provider(), Arc::clone(&options.clock)).await?;
        let client = client(shared, &options, options.endpoint.as_ref());
        let public = client_for_others(shared, &options);
        let form_url = form_url(&public, &options.bucket).await?;
        let region = shared.region().map(ToString::to_string).unwrap_or_default();
        let part_size = options.part_size.max(1);
        let bucket = Self {
            name: options.bucket,
            region,
            client,
            public,
            form_url,
            wallet,
            budget: Budget::of(options.read_budget / part_size),
            put_budget: Budget::of(options.put_budget / part_size),
            part_size,
            streams: options.streams.max(1),
            clock: options.clock,
        };
        bucket.look().await?;
        Ok(bucket)
    }

    /// Tells a wrong name or region from a server that is away. An answer to HEAD has no body, so a listing is asked what is
    /// wrong: a bare 404 may be of somebody on the way.
    async fn look(&self) -> Result<(), OpenError> {
        let Err(error) = self.client.head_bucket().bucket(&self.name).send().await else { return Ok(()) };
        let bucket = self.name.clone();
        let answer = error.raw_response();
        let found = answer.and_then(|answer| answer.headers().get("x-amz-bucket-region"));
        if let Some(found) = found.filter(|&found| found != self.region) {
            return Err(OpenError::OtherRegion { bucket, found: found.to_owned(), configured: self.region.clone() });
        }
        let error = if answer.is_none() { during("look", "")(error) } else { return self.look_closer(bucket).await };
        warn_of_look(&bucket, &error);
        Ok(())
    }

    async fn look_closer(&self, bucket: String) -> Result<(), OpenError> {
        let request = self.client.list_objects_v2().bucket(&self.name).prefix(keys::STAGING).max_keys(1);
        match request.send().await {
            Err(error) if error.code() == Some("NoSuchBucket") => return Err(OpenError::NoSuchBucket { bucket }),
            Err(error) => warn_of_look(&bucket, &during("look", "")(error)),
            // It was only the right to look at the bucket as a whole that we lack.
            Ok(_) => {}
        }
        Ok(())
    }
}

fn warn_of_look(bucket: &str, error: &BucketError) {
    tracing::warn!(bucket, error = with_causes(error), "could not look at the bucket; going on without");
}

fn client(shared: &SdkConfig, options: &Options, endpoint: Option<&Url>) -> Client {
    let (calculation, validation) = match options.checksums {
        Checksums::WhenRequired => (RequestChecksumCalculation::WhenRequired, ResponseChecksumValidation::WhenRequired),
        Checksums::WhenSupported => {
            (RequestChecksumCalculation::WhenSupported, ResponseChecksumValidation::WhenSupported)
        }
    };
    let retries = RetryConfig::standard()
        .with_max_attempts(ATTEMPTS)
        .with_initial_backoff(FIRST_PAUSE)
        .with_max_backoff(LONGEST_PAUSE);
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).read_timeout(ANSWER).build();
    // Our reads have a limit of their own on every wait, which does not count the time that the reader takes.
    let stalls = StalledStreamProtectionConfig::enabled().upload_enabled(true).download_enabled(false).build();
    let mut config = config::Builder::from(shared)
        .force_path_style(options.path_style)
        .request_checksum_calculation(calculation)
        .response_checksum_validation(validation)
        .retry_config(retries)
        .timeout_config(timeouts)
        .stalled_stream_protection(stalls);
    if let Some(endpoint) = endpoint {
        config = config.endpoint_url(endpoint.as_str());
    }
    Client::from_conf(config.build())
}

/// A presigned URL must not ask its follower for headers, as it would for an optional checksum.
fn client_for_others(shared: &SdkConfig, options: &Options) -> Client {
    let plain = Options { checksums: Checksums::WhenRequired, ..options.clone() };
    client(shared, &plain, options.public_endpoint.as_ref().or(options.endpoint.as_ref()))
}

/// Where the SDK would go for an object, less the object.
async fn form_url(public: &Client, bucket: &str) -> Result<String, OpenError> {
    const KEY: &str = "key";
    let address = |source: BoxError| OpenError::Address { bucket: bucket.to_owned(), source };
    let life = PresigningConfig::expires_in(LONGEST_LIFE).map_err(|error| address(error.into()))?;
    let signed = public.get_object().bucket(bucket).key(KEY).presigned(life).await;
    let signed = signed.map_err(|error| address(error.into()))?;
    let mut url = Url::parse(signed.uri()).map_err(|error| address(error.into()))?;
    url.set_query(None);
    let base = url.path().strip_suffix(KEY).unwrap_or_default().to_owned();
    url.set_path(base.trim_end_matches('/'));
    Ok(url.into())
}

#[async_trait]
impl Bucket for S3Bucket {
    async fn sign(&self, terms: PolicyTerms) -> Result<PostPolicy, BucketError> {
        let lent = self.wallet.lend(terms.expires_at).await;
        let lent = lent.map_err(|error| BucketError::Failed { op: "sign", source: error.into() })?;
        let terms = PolicyTerms { expires_at: lent.until, ..terms };
        let signer = Signer { credentials: &lent.credentials, region: &self.region, now: self.clock.now() };
        let fields = policy::sign(&terms, &self.name, &signer);
        Ok(PostPolicy { url: self.form_url.clone(), fields, expires_at: terms.expires_at })
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, BucketError> {
        self.head_object(key).await
    }

    async fn read(&self, head: &ObjectHead) -> Result<Body, BucketError> {
        Ok(Body::Stream(self.stream(head).await?))
    }

    async fn put(&self, key: &str, content_type: Option<&str>, bytes: Chunks<'_>) -> Result<Stored, BucketError> {
        self.put_stream(key, content_type, bytes).await
    }

    async fn copy(&self, from: &ObjectHead, to: &str) -> Result<Option<Digest>, BucketError> {
        self.copy_version(from, to).await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), BucketError> {
        self.delete_objects(keys).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Listing, BucketError> {
        self.list_objects(prefix, after).await
    }

    async fn presign_get(&self, key: &str, filename: &str, life: Duration) -> Result<String, BucketError> {
        let failed = |source: BoxError| BucketError::Failed { op: "presign", source };
        let life = life.clamp(Duration::from_secs(1), LONGEST_LIFE);
        let life = PresigningConfig::expires_in(life).map_err(|error| failed(error.into()))?;
        let request = self.public.get_object().bucket(&self.name).key(key);
        let signed = request.response_content_disposition(attachment(filename)).presigned(life).await;
        Ok(signed.map_err(|error| failed(error.into()))?.uri().to_owned())
    }

    fn address(&self) -> BucketAddress {
        BucketAddress {
            url: self.form_url.clone(),
            bucket: self.name.clone(),
            region: self.region.clone(),
            access_key_id: self.wallet.access_key_id(),
        }
    }
}
