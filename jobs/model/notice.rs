//! Notices: what a bucket says when an object has landed.
//!
//! Every dialect is read by [`parse`]: S3's own `Records`, EventBridge's, and either of them wrapped by SNS. Servers
//! that imitate S3 differ in small ways: some encode the `/` of a key, send no sequencer, or leave out the size; all
//! of that is fine. The local bucket speaks S3's dialect through [`render`], so one parser serves every engine.

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::Timestamp;

/// An object has landed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The bucket's name.
    pub bucket: String,
    /// The key, decoded.
    pub key: String,
    /// Bytes; `None` where the server does not tell.
    pub size: Option<i64>,
    /// The version, without quotes; `None` where the server does not tell.
    pub etag: Option<String>,
    /// Orders the events of one key; `None` where the server sends none.
    pub sequencer: Option<String>,
}

/// One thing that a notice says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An object was created.
    Created(Arrival),
    /// `s3:TestEvent`: sent when notifications are set up, to be acknowledged.
    Test,
    /// Something that does not concern us, such as a removal.
    Other(String),
}

/// A notice that no dialect explains. It will be no better the next time.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// It is not JSON, or lacks what its dialect promises.
    #[error("the notice cannot be read as {dialect}")]
    Unreadable {
        /// What it looked like.
        dialect: &'static str,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// It is JSON of some other kind.
    #[error("the notice is neither S3's, nor EventBridge's, nor wrapped by SNS")]
    Unknown,
    /// A record's version has another major number than ours, 2.
    #[error("the notice has version {0}, of which nothing is known")]
    Version(String),
    /// A key is not UTF-8 once decoded.
    #[error("the notice has a key that is not UTF-8: {0}")]
    Key(String),
}

impl Malformed {
    fn unreadable(dialect: &'static str) -> impl FnOnce(serde_json::Error) -> Self {
        move |source| Self::Unreadable { dialect, source }
    }
}

/// SNS wraps once; twice is somebody's mistake, more is malice.
const MOST_WRAPPERS: u32 = 2;

/// Reads a notice: what it says, in its order. All of it or nothing.
pub fn parse(body: &str) -> Result<Vec<Event>, Malformed> {
    unwrap_and_read(body, MOST_WRAPPERS)
}

fn unwrap_and_read(body: &str, wrappers: u32) -> Result<Vec<Event>, Malformed> {
    let notice: Value = serde_json::from_str(body).map_err(Malformed::unreadable("JSON"))?;
    let text = |name: &str| notice.get(name).and_then(Value::as_str);
    if notice.get("Records").is_some() {
        return read_records(notice);
    }
    if text("Event") == Some("s3:TestEvent") {
        return Ok(vec![Event::Test]);
    }
    if let Some(kind) = text("detail-type") {
        let kind = kind.to_owned();
        return Ok(vec![read_bridged(&kind, notice)?]);
    }
    match (text("Type"), text("Message")) {
        (Some("Notification"), Some(inner)) if wrappers > 0 => unwrap_and_read(inner, wrappers - 1),
        (Some(kind @ ("SubscriptionConfirmation" | "UnsubscribeConfirmation")), _) => {
            Ok(vec![Event::Other(kind.to_owned())])
        }
        _ => Err(Malformed::Unknown),
    }
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html>
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    event_version: Option<String>,
    event_name: String,
    s3: Option<Value>,
}

/// What both dialects call an entity; they differ in the case of `eTag`.
#[derive(Deserialize)]
struct Entity {
    bucket: Named,
    object: Object,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Object {
    key: String,
    size: Option<i64>,
    #[serde(alias = "eTag")]
    etag: Option<String>,
    sequencer: Option<String>,
}

fn read_records(mut notice: Value) -> Result<Vec<Event>, Malformed> {
    let unreadable = Malformed::unreadable("S3's records");
    let records: Vec<Record> = serde_json::from_value(notice["Records"].take()).map_err(unreadable)?;
    records.into_iter().map(read_record).collect()
}

fn read_record(record: Record) -> Result<Event, Malformed> {
    if let Some(version) = record.event_version.filter(|version| version.split('.').next() != Some("2")) {
        return Err(Malformed::Version(version));
    }
    let name = record.event_name;
    if !name.strip_prefix("s3:").unwrap_or(&name).starts_with("ObjectCreated:") {
        return Ok(Event::Other(name));
    }
    let entity = record.s3.unwrap_or_default();
    let entity: Entity = serde_json::from_value(entity).map_err(Malformed::unreadable("S3's records"))?;
    let key = decode_key(&entity.object.key)?;
    Ok(Event::Created(arrival(entity, key)))
}

/// EventBridge sends the key as it is, not encoded.
fn read_bridged(kind: &str, mut notice: Value) -> Result<Event, Malformed> {
    if kind != "Object Created" {
        return Ok(Event::Other(kind.to_owned()));
    }
    let unreadable = Malformed::unreadable("EventBridge's event");
    let entity: Entity = serde_json::from_value(notice["detail"].take()).map_err(unreadable)?;
    let key = entity.object.key.clone();
    Ok(Event::Created(arrival(entity, key)))
}

fn arrival(entity: Entity, key: String) -> Arrival {
    let Object { size, etag, sequencer, .. } = entity.object;
    let etag = etag.map(|etag| etag.trim_matches('"').to_owned()).filter(|etag| !etag.is_empty());
    Arrival { bucket: entity.bucket.name, key, size, etag, sequencer: sequencer.filter(|text| !text.is_empty()) }
}

fn decode_key(encoded: &str) -> Result<String, Malformed> {
    let spaced = encoded.replace('+', " ");
    let key = percent_decode_str(&spaced).decode_utf8().map_err(|_| Malformed::Key(encoded.to_owned()))?;
    Ok(key.into_owned())
}

/// The notice that S3 would send of an arrival.
#[must_use]
pub fn render(arrival: &Arrival, region: &str, at: Timestamp) -> String {
    let key: String = form_urlencoded::byte_serialize(arrival.key.as_bytes()).collect();
    let mut object = json!({ "key": key.replace("%2F", "/") });
    let told = [("size", arrival.size.map(Value::from)), ("eTag", arrival.etag.clone().map(Value::from))];
    let told = told.into_iter().chain([("sequencer", arrival.sequencer.clone().map(Value::from))]);
    for (name, value) in told.filter_map(|(name, value)| Some((name, value?))) {
        object[name] = value;
    }
    let bucket = json!({ "name": arrival.bucket, "arn": format!("arn:aws:s3:::{}", arrival.bucket) });
    let s3 = json!({ "s3SchemaVersion": "1.0", "bucket": bucket, "object": object });
    let record = json!({
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": region, "eventTime": at.to_string(),
        "eventName": "ObjectCreated:Post", "s3": s3,
    });
    json!({ "Records": [record] }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(object: Value) -> Value {
        json!({ "eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
                "s3": { "bucket": { "name": "b" }, "object": object } })
    }

    fn one(notice: &Value) -> Event {
        let events = parse(&notice.to_string()).unwrap();
        let [event] = <[Event; 1]>::try_from(events).unwrap();
        event
    }

    fn landed(key: &str) -> Arrival {
        Arrival { bucket: "b".into(), key: key.into(), size: None, etag: None, sequencer: None }
    }

    #[test]
    fn reads_all_records_in_their_order() {
        let first = record(json!({ "key": "one", "size": 5, "eTag": "\"abc\"", "sequencer": "0A1B" }));
        let second = record(json!({ "key": "two" }));

        let events = parse(&json!({ "Records": [first, second] }).to_string()).unwrap();

        let full = Arrival { size: Some(5), etag: Some("abc".into()), sequencer: Some("0A1B".into()), ..landed("one") };
        assert_eq!(events, [Event::Created(full), Event::Created(landed("two"))]);
    }

    #[test]
    fn keys_are_form_decoded_also_where_the_slash_is_encoded() {
        for (sent, key) in [
            ("staging/a+b.txt", "staging/a b.txt"),
            ("staging%2Fa%2Bb.txt", "staging/a+b.txt"),
            ("%F0%9F%8E%89", "🎉"),
            ("100%25", "100%"),
        ] {
            let notice = json!({ "Records": [record(json!({ "key": sent }))] });
            assert_eq!(one(&notice), Event::Created(landed(key)), "{sent}");
        }
    }

    #[test]
    fn every_way_to_create_is_an_arrival_and_all_else_is_not_ours() {
        for name in ["ObjectCreated:Put", "ObjectCreated:CompleteMultipartUpload", "s3:ObjectCreated:Post"] {
            let mut record = record(json!({ "key": "k" }));
            record["eventName"] = name.into();
            assert_eq!(one(&json!({ "Records": [record] })), Event::Created(landed("k")), "{name}");
        }
        for name in ["ObjectRemoved:Delete", "s3:ObjectRestore:Completed", "SomethingNew"] {
            let notice = json!({ "Records": [{ "eventVersion": "2.3", "eventName": name }] });
            assert_eq!(one(&notice), Event::Other(name.into()));
        }
    }

    #[test]
    fn only_the_major_version_counts() {
        for version in ["2.0", "2.1", "2.99", "2"] {
            let mut record = record(json!({ "key": "k" }));
            record["eventVersion"] = version.into();
            assert_eq!(one(&json!({ "Records": [record] })), Event::Created(landed("k")), "{version}");
        }
        let future = json!({ "Records": [{ "eventVersion": "3.0", "eventName": "ObjectCreated:Put" }] });
        assert!(matches!(parse(&future.to_string()), Err(Malformed::Version(_))));
    }

    #[test]
    fn the_test_event_has_no_records() {
        let notice = json!({ "Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b", "RequestId": "x" });
        assert_eq!(one(&notice), Event::Test);
    }

    #[test]
    fn reads_eventbridge_whose_keys_are_not_encoded() {
        let object = json!({ "key": "staging/a+b%20c", "size": 7, "etag": "abc", "sequencer": "00" });
        let detail = json!({ "version": "0", "bucket": { "name": "b" }, "object": object, "reason": "PutObject" });
        let notice = json!({ "version": "0", "source": "aws.s3", "detail-type": "Object Created", "detail": detail });

        let full = Arrival {
            size: Some(7),
            etag: Some("abc".into()),
            sequencer: Some("00".into()),
            ..landed("staging/a+b%20c")
        };
        assert_eq!(one(&notice), Event::Created(full));
        assert_eq!(one(&json!({ "detail-type": "Object Deleted" })), Event::Other("Object Deleted".into()));
    }

    #[test]
    fn unwraps_sns_but_not_without_end() {
        let inner = json!({ "Records": [record(json!({ "key": "k" }))] }).to_string();
        let wrap = |inner: &str| json!({ "Type": "Notification", "Message": inner }).to_string();

        assert_eq!(parse(&wrap(&inner)).unwrap(), [Event::Created(landed("k"))]);
        let test = json!({ "Event": "s3:TestEvent" }).to_string();
        assert_eq!(parse(&wrap(&test)).unwrap(), [Event::Test]);
        let deep = (0..5).fold(inner, |inner, _| wrap(&inner));
        assert!(matches!(parse(&deep), Err(Malformed::Unknown)));
        let setup = json!({ "Type": "SubscriptionConfirmation", "Message": "You have chosen …", "Token": "x" });
        assert_eq!(one(&setup), Event::Other("SubscriptionConfirmation".into()));
    }

    /// As they were seen or as their documentation shows them, with what does not matter left in.
    #[test]
    fn reads_what_servers_really_send() {
        let full = |size, etag: &str, sequencer: Option<&str>| Arrival {
            size: Some(size),
            etag: Some(etag.into()),
            sequencer: sequencer.map(str::to_owned),
            ..landed("staging/o/u/a b")
        };
        let s3 = r#"{"Records":[{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"eu-north-1",
            "eventTime":"2026-01-02T03:04:05.678Z","eventName":"ObjectCreated:Post",
            "userIdentity":{"principalId":"AWS:AROAEXAMPLE:i-1"},"requestParameters":{"sourceIPAddress":"192.0.2.3"},
            "responseElements":{"x-amz-request-id":"C3D13FE58DE4C810","x-amz-id-2":"FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S"},
            "s3":{"s3SchemaVersion":"1.0","configurationId":"staging","bucket":{"name":"b",
            "ownerIdentity":{"principalId":"A3NL1KOZZKExample"},"arn":"arn:aws:s3:::b"},
            "object":{"key":"staging/o/u/a+b","size":1024,"eTag":"d41d8cd98f00b204e9800998ecf8427e","sequencer":"0055AED6DCD90281E5"}}}]}"#;
        let minio = r#"{"EventName":"s3:ObjectCreated:Post","Key":"b/staging/o/u/a b","Records":[{"eventVersion":"2.0",
            "eventSource":"minio:s3","awsRegion":"","eventTime":"2026-01-02T03:04:05.678Z","eventName":"s3:ObjectCreated:Post",
            "userIdentity":{"principalId":"minioadmin"},"requestParameters":{"principalId":"minioadmin","region":"",
            "sourceIPAddress":"192.0.2.3"},"responseElements":{"x-amz-request-id":"18A1","x-minio-origin-endpoint":"http://192.0.2.4:9000"},
            "s3":{"s3SchemaVersion":"1.0","configurationId":"Config","bucket":{"name":"b","ownerIdentity":{"principalId":"minioadmin"},
            "arn":"arn:aws:s3:::b"},"object":{"key":"staging%2Fo%2Fu%2Fa+b","size":1024,"eTag":"abc","contentType":"text/plain",
            "userMetadata":{"content-type":"text/plain"},"sequencer":"18A1C0DE"}},
            "source":{"host":"192.0.2.3","port":"","userAgent":"curl/8"}}]}"#;
        let moto = r#"{"Records":[{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"us-east-1",
            "eventTime":"2026-01-02T03:04:05.678Z","eventName":"ObjectCreated:Put","s3":{"s3SchemaVersion":"1.0",
            "configurationId":"staging","bucket":{"name":"b","arn":"arn:aws:s3:::b"},
            "object":{"key":"staging%2Fo%2Fu%2Fa%20b","size":1024,"eTag":"abc"}}}]}"#;
        let bridge = r#"{"version":"0","id":"17793124-05d4-b198-2fde-7ededc63b103","detail-type":"Object Created",
            "source":"aws.s3","account":"111122223333","time":"2026-01-02T03:04:05Z","region":"eu-north-1",
            "resources":["arn:aws:s3:::b"],"detail":{"version":"0","bucket":{"name":"b"},"object":{"key":"staging/o/u/a b",
            "size":1024,"etag":"abc","version-id":"IYV3p45BT0ac8hjHg1houSdS1a.Mro8e","sequencer":"617f08299329d189"},
            "request-id":"N4N7GDK58NMKJ12R","requester":"123456789012","source-ip-address":"192.0.2.3","reason":"PostObject"}}"#;
        let sns = json!({
            "Type": "Notification", "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
            "TopicArn": "arn:aws:sns:eu-north-1:123456789012:landed", "Subject": "Amazon S3 Notification", "Message": moto,
            "Timestamp": "2026-01-02T03:04:05.678Z", "SignatureVersion": "1", "Signature": "EXAMPLE",
            "SigningCertURL": "https://sns.eu-north-1.amazonaws.com/x.pem", "UnsubscribeURL": "https://sns.example/",
            "MessageAttributes": {},
        });

        for (body, arrival) in [
            (s3, full(1024, "d41d8cd98f00b204e9800998ecf8427e", Some("0055AED6DCD90281E5"))),
            (minio, full(1024, "abc", Some("18A1C0DE"))),
            (moto, full(1024, "abc", None)),
            (bridge, full(1024, "abc", Some("617f08299329d189"))),
            (&sns.to_string(), full(1024, "abc", None)),
        ] {
            assert_eq!(parse(body).unwrap(), [Event::Created(arrival)], "{body}");
        }
    }

    #[test]
    fn what_is_no_notice_is_malformed() {
        let no_key = json!({ "Records": [record(json!({ "size": 1 }))] }).to_string();
        let no_entity = json!({ "Records": [{ "eventName": "ObjectCreated:Put" }] }).to_string();
        let broken_key = json!({ "Records": [record(json!({ "key": "%FF" }))] }).to_string();
        let no_list = json!({ "Records": 7 }).to_string();
        for body in ["", "{", "[]", "7", "null", "{}", &no_key, &no_entity, &broken_key, &no_list] {
            assert!(parse(body).is_err(), "{body}");
        }
        assert_eq!(parse(r#"{"Records": []}"#).unwrap(), []);
    }

    #[test]
    fn what_is_rendered_is_read_back() {
        let bare = landed("staging/a b+ü&=%.txt");
        let full = Arrival { size: Some(0), etag: Some("e".into()), sequencer: Some("01".into()), ..bare.clone() };
        for arrival in [bare, full] {
            let notice = render(&arrival, "local", Timestamp::from_millis(0));
            assert_eq!(parse(&notice).unwrap(), [Event::Created(arrival)], "{notice}");
        }
    }
}
