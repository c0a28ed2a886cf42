//! The combinations of engines on which stories are told, and a place of one's own on each.
//!
//! SQLite and the local bucket need nothing. The others run on the servers that `ops/test` starts (`ops/servers`): each place
//! has a schema, a prefix, a bucket and a queue for itself, so stories share the servers and nothing else.

use std::env;
use std::path::Path;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::config::Credentials;
use aws_sdk_s3::types::{
    CorsConfiguration, CorsRule, Event, FilterRule, FilterRuleName, NotificationConfiguration,
    NotificationConfigurationFilter, QueueConfiguration, S3KeyFilter,
};
use aws_sdk_sqs::types::QueueAttributeName;
use longshore_jobs::testkit::given;
use longshore_jobs::testkit::postgres::schema_on;
use serde_json::json;
use uuid::Uuid;

use crate::server::{Place, Server};

/// Which engines a story runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engines {
    /// SQLite, its table of jobs, the local bucket and its own notices.
    Local,
    /// PostgreSQL with its table of jobs, S3 and SQS.
    Postgres,
    /// PostgreSQL, Redis Streams, S3 and SQS.
    Redis,
}

const POSTGRES: &str = "LONGSHORE_TEST_POSTGRES";
const REDIS: &str = "LONGSHORE_TEST_REDIS";
const AWS: &str = "LONGSHORE_TEST_AWS";

impl Engines {
    /// Whether their servers were started. If not, says so, or fails where they are required.
    pub fn are_there(self) -> bool {
        let needed: &[&str] = match self {
            Self::Local => &[],
            Self::Postgres => &[POSTGRES, AWS],
            Self::Redis => &[POSTGRES, REDIS, AWS],
        };
        needed.iter().all(|name| given(name, &format!("a story on {self:?}")).is_some())
    }

    /// Whether objects lie in a bucket that is not this program's own.
    pub fn are_remote(self) -> bool {
        self != Self::Local
    }

    /// A server of one's own.
    pub async fn start(self) -> Server {
        self.with(&[]).await
    }

    /// A server of one's own with these settings.
    pub async fn with(self, settings: &[(&str, &str)]) -> Server {
        self.place(settings).await.up()
    }

    /// A place of one's own, where these settings hold.
    pub async fn place(self, settings: &[(&str, &str)]) -> Place {
        let (mut all, bucket) = match self {
            Self::Local => (Vec::new(), None),
            Self::Postgres | Self::Redis => {
                let servers = Servers::of_tests();
                let cloud = Cloud::new(&servers.aws).await;
                (servers.settings(self, &cloud).await, Some(cloud))
            }
        };
        all.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Place::new(all, bucket)
    }
}

/// Where the servers are.
pub struct Servers {
    pub postgres: String,
    pub redis: String,
    pub aws: String,
}

impl Servers {
    /// Those that `ops/test` has started; one that a combination does not need may be missing.
    fn of_tests() -> Self {
        let of = |name| env::var(name).unwrap_or_default();
        Self { postgres: of(POSTGRES), redis: of(REDIS), aws: of(AWS) }
    }

    /// Those of a folder that was given to `ops/servers start`.
    pub fn in_folder(folder: &Path) -> Self {
        let text = std::fs::read_to_string(folder.join("env")).unwrap();
        let of = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("export {name}=")));
            line.unwrap_or_else(|| panic!("{name} is not in {text}")).to_owned()
        };
        Self { postgres: of(POSTGRES), redis: of(REDIS), aws: of(AWS) }
    }

    /// What the program has to know to run on them: a schema and a prefix of one's own, and the cloud's bucket and queue.
    pub async fn settings(&self, engines: Engines, cloud: &Cloud) -> Vec<(String, String)> {
        let mut settings = vec![
            ("LONGSHORE_DATABASE_URL", schema_on(&self.postgres).await),
            ("LONGSHORE_BUCKET_URL", format!("s3://{}", cloud.name)),
            ("LONGSHORE_S3_ENDPOINT", self.aws.clone()),
            ("LONGSHORE_INBOX_URL", format!("sqs+{}", cloud.queue_url)),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ];
        if engines == Engines::Redis {
            settings.push(("LONGSHORE_QUEUE_URL", self.redis.clone()));
            settings.push(("LONGSHORE_REDIS__PREFIX", cloud.name.clone()));
        }
        settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// A bucket and the queue that it tells of new objects, for one place.
pub struct Cloud {
    name: String,
    /// Where the bucket's notices go.
    pub queue_url: String,
    s3: aws_sdk_s3::Client,
    pub sqs: aws_sdk_sqs::Client,
}

impl Cloud {
    pub async fn new(endpoint: &str) -> Self {
        let name = format!("t-{}", Uuid::now_v7().simple());
        let config = aws_config::defaults(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .region(Region::new("us-east-1"))
            .endpoint_url(endpoint)
            .credentials_provider(Credentials::new("test", "test", None, None, "stories"))
            .load()
            .await;
        let s3 =
            aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build());
        s3.create_bucket().bucket(&name).send().await.unwrap();
        let sqs = aws_sdk_sqs::Client::new(&config);
        let mut cloud = Self { queue_url: String::new(), name, s3, sqs };
        cloud.queue_url = cloud.make_queue(&cloud.name, endpoint).await;
        let arn = QueueAttributeName::QueueArn;
        let asked = cloud.sqs.get_queue_attributes().queue_url(&cloud.queue_url).attribute_names(arn.clone());
        cloud.tell(asked.send().await.unwrap().attributes().unwrap()[&arn].clone()).await;
        cloud
    }

    /// Another queue beside the first. Its address is where we reach the server, however that calls itself.
    pub async fn make_queue(&self, name: &str, endpoint: &str) -> String {
        // The bucket has to be let in.
        let policy = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": { "Service": "s3.amazonaws.com" }, "Action": "sqs:SendMessage", "Resource": "*",
        }] });
        let request = self.sqs.create_queue().queue_name(name);
        let made = request.attributes(QueueAttributeName::Policy, policy.to_string()).send().await.unwrap();
        let url = url::Url::parse(&made.queue_url.unwrap()).unwrap();
        format!("{endpoint}{}", url.path())
    }

    /// Has the bucket tell the queue of what is created in staging.
    async fn tell(&self, queue_arn: String) {
        let staging = FilterRule::builder().name(FilterRuleName::Prefix).value("staging/").build();
        let filter = NotificationConfigurationFilter::builder()
            .key(S3KeyFilter::builder().filter_rules(staging).build())
            .build();
        let to_queue = QueueConfiguration::builder()
            .queue_arn(queue_arn)
            .events(Event::S3ObjectCreated)
            .filter(filter)
            .build()
            .unwrap();
        let configuration = NotificationConfiguration::builder().queue_configurations(to_queue).build();
        let put = self.s3.put_bucket_notification_configuration().bucket(&self.name);
        put.notification_configuration(configuration).send().await.unwrap();
    }

    /// Has the bucket tell nobody any more.
    pub async fn tell_nobody(&self) {
        let put = self.s3.put_bucket_notification_configuration().bucket(&self.name);
        put.notification_configuration(NotificationConfiguration::builder().build()).send().await.unwrap();
    }

    /// Lets pages of any origin post to the bucket.
    pub async fn let_pages_in(&self) {
        let rule = CorsRule::builder().allowed_origins("*").allowed_methods("POST").build().unwrap();
        let rules = CorsConfiguration::builder().cors_rules(rule).build().unwrap();
        self.s3.put_bucket_cors().bucket(&self.name).cors_configuration(rules).send().await.unwrap();
    }

    /// How many objects lie in staging.
    pub async fn staged(&self) -> usize {
        self.below("staging/").await
    }

    /// How many objects lie below a prefix, as far as one page tells.
    pub async fn below(&self, prefix: &str) -> usize {
        let listed = self.s3.list_objects_v2().bucket(&self.name).prefix(prefix).send().await.unwrap();
        listed.contents().len()
    }
}
