//! The layers of a configuration and what comes out of them.

use super::*;

fn load(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("longshore.toml");
    std::fs::write(&path, file).unwrap();
    let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    Config::load(Layered { file: Some(path), environment: owned(environment), flags: owned(flags) })
}

#[test]
fn the_documented_defaults_are_whole_and_valid() {
    let config = load("", &[], &[]).unwrap();

    assert_eq!(config.database, DatabaseEngine::Sqlite("data/longshore.db".into()));
    assert_eq!(config.bucket, BucketEngine::Folder("data/bucket".into()));
    assert_eq!(config.public_url(config.listen), "http://127.0.0.1:8080");
    assert_eq!(config.limits.policy_life, Limits::default().policy_life);
    assert_eq!(config.limits.max_size, Limits::default().max_size);
    assert_eq!(config.limits.expiry_grace, Limits::default().expiry_grace);
    assert_eq!(config.limits.resume_after, Limits::default().resume_after);
    assert_eq!(config.limits.sweep_min_age, Limits::default().sweep_min_age);
    assert_eq!(config.limits.sweep_restore_window, Limits::default().sweep_restore_window);
    assert_eq!(config.limits.sweep_applies, Limits::default().sweep_applies);
    assert_eq!(config.limits.first_poll, Limits::default().first_poll);
    assert_eq!(config.limits.blob_grace, Limits::default().blob_grace);
    assert_eq!(config.pools.len(), Pool::ALL.len());
    assert!(config.bootstrap_token.is_none() && config.local_bucket.is_none());
}

#[test]
fn every_scheduled_job_is_on_the_roster() {
    for kind in load("", &[], &[]).unwrap().schedule.keys() {
        assert!(longshore_jobs::roster::find(kind).is_some(), "{kind}");
    }
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_the_defaults() {
    let file = "listen = \"127.0.0.1:1\"\npublic_url = \"http://file\"\ndata_dir = \"file\"\n[pools]\nverify = 2\n";
    let environment = [("LONGSHORE_PUBLIC_URL", "http://environment"), ("LONGSHORE_DATA_DIR", "environment")];
    let config = load(file, &environment, &[("data_dir", "flag")]).unwrap();

    assert_eq!(config.listen.port(), 1);
    assert_eq!(config.public_url(config.listen), "http://environment");
    assert_eq!(config.data_dir, PathBuf::from("flag"));
    assert_eq!(config.database, DatabaseEngine::Sqlite("flag/longshore.db".into()), "it follows the data folder");
    assert_eq!(config.pools[&Pool::Verify], 2);
    assert_eq!(config.pools[&Pool::Upkeep], 4);
}

#[test]
fn nested_keys_are_reached_from_the_environment() {
    let environment = [
        ("LONGSHORE_SCHEDULE__REBUILD_REPORTS", "never"),
        ("LONGSHORE_LOCAL_BUCKET__ACCESS_KEY_ID", "id"),
        ("LONGSHORE_LOCAL_BUCKET__SECRET_ACCESS_KEY", "s3cret"),
        ("LONGSHORE_TOKEN", "for clients"),
        ("LONGSHORE_SERVER", "for clients"),
        ("HOME", "/root"),
    ];
    let config = load("", &environment, &[]).unwrap();

    assert!(!config.schedule.contains_key("rebuild_reports") && config.schedule.contains_key("fold_reports"));
    assert_eq!(config.local_bucket.unwrap().secret_access_key.reveal(), "s3cret");
}

#[test]
fn every_mistake_is_told_at_once_with_its_place() {
    let file = "lisen = \"x\"\n[limits]\nmax_size = \"much\"\npolicy_life = \"0s\"\n[intake]\nwait = [1]\n";
    let environment = [("LONGSHORE_POOLS__VERIFY", "none"), ("LONGSHORE_NO_SUCH", "1")];
    let flags = [("database_url", "mysql://db/longshore"), ("schedule.sweep_bucket", "hourly")];
    let error = load(file, &environment, &flags).unwrap_err();

    let told = error.to_string();
    for part in [
        "8 mistakes",
        "longshore.toml: lisen",
        "longshore.toml: limits.max_size = \"much\"",
        "limits.policy_life",
        "intake.wait",
        "LONGSHORE_POOLS__VERIFY",
        "LONGSHORE_NO_SUCH",
        "--database-url",
        "is not a URL that can be used here",
        "--schedule-sweep-bucket",
    ] {
        assert!(told.contains(part), "{part} is missing in: {told}");
    }
}

#[test]
fn one_half_of_the_credentials_is_a_mistake() {
    let error = load("[local_bucket]\naccess_key_id = \"id\"", &[], &[]).unwrap_err();
    assert!(error.to_string().contains("local_bucket.secret_access_key is missing"), "{error}");
}

#[test]
fn engines_on_servers_are_read_with_what_belongs_to_them() {
    let file = "database_url = \"postgres://me:pw@db/l\"\nqueue_url = \"redis://queue\"\nbucket_url = \"s3://acme\"
        inbox_url = \"sqs+http://cloud:4566/000000000000/notices\"\ns3_endpoint = \"http://cloud:4566\"";
    let config = load(file, &[("LONGSHORE_POSTGRES__CONNECTIONS", "40")], &[]).unwrap();

    assert!(!config.is_local() && config.s3.path_style && config.inbox_secret.is_none());
    assert_eq!((config.postgres_connections, config.sqs.wait), (40, Duration::from_secs(20)));
    assert!(load("bucket_url = \"s3://acme\"\ninbox_url = \"none:\"", &[], &[]).unwrap().is_local(), "by its ledger");
}

#[test]
fn an_inbox_that_does_not_fit_is_a_mistake() {
    let told = |file: &str| load(file, &[], &[]).unwrap_err().to_string();
    assert!(told("bucket_url = \"s3://acme\"").contains("no notices of a bucket on S3"));
    assert!(told("inbox_url = \"sqs+https://h/1/q\"").contains("no notices of the local bucket"));
    let webhook = "bucket_url = \"s3://acme\"\ninbox_url = \"webhook:\"\n";
    assert!(told(webhook).contains("inbox_secret is missing"));
    assert!(told(&format!("{webhook}inbox_secret = \"short\"")).contains("is too short"));
    assert!(told(&format!("inbox_secret = \"{}\"", "x".repeat(32))).contains("is set although"));
    assert!(load(&format!("{webhook}inbox_secret = \"{}\"", "x".repeat(32)), &[], &[]).unwrap().inbox_secret.is_some());
}

#[test]
fn a_file_that_is_no_toml_or_not_there_is_a_mistake() {
    assert!(load("listen = ", &[], &[]).unwrap_err().to_string().contains("is not TOML"));
    let layered = Layered { file: Some("/nowhere/longshore.toml".into()), ..Layered::default() };
    assert!(Config::load(layered).unwrap_err().to_string().contains("cannot be read"));
}

#[test]
fn secrets_show_in_no_rendering() {
    let secret = "0123456789abcdef0123456789abcdef";
    let file = format!(
        "bootstrap_token = \"lsk_a_{secret}\"\n[local_bucket]\naccess_key_id = \"id\"\nsecret_access_key = \"{secret}\""
    );
    let config = load(&file, &[], &[]).unwrap();

    let shown = format!("{config:?}{}", config.effective);
    assert!(!shown.contains(secret), "{shown}");
    assert!(shown.contains("(hidden)") && shown.contains("access_key_id = \"id\""), "{shown}");
    let unclosed = format!("listen = \"127.0.0.1:1\"\nbootstrap_token = \"lsk_a_{secret}\n");
    let url = format!("queue_url = \"ftp://me:{secret}@queue\"");
    let public = format!("public_url = \"http://:{secret}@here\"");
    for file in [format!("bootstrap_token = \"{secret}\""), unclosed, url, public] {
        let broken = load(&file, &[], &[]).unwrap_err().to_string();
        assert!(!broken.contains(secret), "{broken}");
    }
}

#[test]
fn broken_toml_is_told_by_its_line() {
    let error = load("listen = \"127.0.0.1:1\"\ndata_dir = \"x\n", &[], &[]).unwrap_err().to_string();
    assert!(error.contains("longshore.toml is not TOML (line 2: "), "{error}");
}

#[test]
fn the_effective_configuration_reads_back_as_itself() {
    let config = load("[pools]\nverify = 3\n", &[], &[("data_dir", "elsewhere")]).unwrap();
    let again = load(&config.effective.to_string(), &[], &[]).unwrap();
    assert_eq!(config.effective.settings(), again.effective.settings());
}

#[test]
fn a_server_of_a_runs_own_takes_no_address_of_anothers() {
    let flags = [("metrics_listen", "127.0.0.1:9000"), ("public_url", "http://elsewhere")];
    let config = load("", &[], &flags).unwrap().on_free_port();
    assert_eq!((config.listen.port(), config.metrics_listen), (0, None));
    assert_eq!(config.public_url(([127, 0, 0, 1], 7).into()), "http://127.0.0.1:7");
}

#[test]
fn an_address_for_all_interfaces_is_reached_on_this_machine() {
    let config = load("", &[], &[]).unwrap();
    assert_eq!(config.public_url(([0, 0, 0, 0], 99).into()), "http://127.0.0.1:99");
}

#[test]
fn a_region_is_one_word() {
    for setting in ["s3.region", "sqs.region"] {
        assert!(load("", &[], &[(setting, "eu west 1")]).unwrap_err().to_string().contains("is not a region"));
    }
    assert_eq!(load("", &[], &[("s3.region", "eu-west-1")]).unwrap().s3.region.as_deref(), Some("eu-west-1"));
}

#[test]
fn every_documented_setting_is_one_that_the_program_reads() {
    // What is merely shown as set does not count.
    let typed = |config: Config| format!("{:?}", Config { effective: Effective::new(Vec::new()), ..config });
    let untouched = typed(load("", &[], &[]).unwrap());
    let settings = Layers::of_defaults().paths_below("");
    assert!(settings.len() > 40, "{settings:?}");
    for path in settings {
        // Nothing takes this but what takes any text, and then it shows.
        let read = load("", &[], &[(&path, "]nonsense[")]);
        assert!(read.map_or(true, |config| typed(config) != untouched), "{path} changes nothing");
    }
}
