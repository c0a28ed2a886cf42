//! Redis: which version, what it forgets, and what it throws away when it is full.

use std::collections::HashMap;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, ServerErrorKind};
use longshore_jobs::job::with_causes;

use super::{Finding, Outcome};
use crate::config::QueueEngine;

const CONNECT: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(5);
/// The oldest major version that will do.
const OLDEST: u32 = 7;
/// Percent of its memory.
const NEARLY_FULL: u64 = 90;

/// What the server says of itself: `INFO`, and `CONFIG GET` as far as it is allowed.
type Facts = HashMap<String, String>;

/// Looks at the server of the queue.
pub(super) async fn look(queue: QueueEngine) -> Vec<Finding> {
    let QueueEngine::Redis(url) = &queue else {
        return vec![Outcome::skipped("the queue is in the database").of("redis")];
    };
    match ask(url.reveal()).await {
        Ok(facts) => vec![
            judge_server(&facts).of("redis"),
            judge_eviction(&facts).of("redis eviction"),
            judge_memory(&facts).of("redis memory"),
            judge_persistence(&facts).of("redis persistence"),
        ],
        Err(error) => vec![
            Outcome::failed(format!("{queue} does not let us in: {}", with_causes(&error)), mend_unreachable(&error))
                .of("redis"),
        ],
    }
}

/// A connection with limits on every wait.
async fn connect(url: &str) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(ANSWER));
    Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await
}

async fn ask(url: &str) -> Result<Facts, RedisError> {
    let mut connection = connect(url).await?;
    let told: String = ::redis::cmd("INFO").query_async(&mut connection).await?;
    let mut facts = parse(&told);
    // Many a hosted Redis has no CONFIG; most of it stands in INFO too.
    let asked = ::redis::cmd("CONFIG").arg("GET").arg("save").query_async(&mut connection).await;
    if let Ok(settings) = asked {
        let settings: HashMap<String, String> = settings;
        facts.extend(settings);
    }
    Ok(facts)
}

/// Lines of `name:value` between comments.
fn parse(info: &str) -> Facts {
    let lines = info.lines().filter_map(|line| line.trim().split_once(':'));
    lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn mend_unreachable(error: &RedisError) -> &'static str {
    match error.kind() {
        ErrorKind::AuthenticationFailed => "set the password in queue_url: redis://:PASSWORD@HOST:6379/0",
        ErrorKind::Server(ServerErrorKind::BusyLoading) => "it is still loading: ask again in a moment",
        _ if error.code() == Some("NOAUTH") => "set the password in queue_url: redis://:PASSWORD@HOST:6379/0",
        _ if error.code() == Some("NOPERM") => "let the user of queue_url run INFO: `ACL SETUSER NAME +info`",
        _ => "see that Redis runs and that queue_url leads to it: `redis-cli -u URL ping`",
    }
}

fn fact<'f>(facts: &'f Facts, name: &str) -> &'f str {
    facts.get(name).map_or("", String::as_str)
}

fn judge_server(facts: &Facts) -> Outcome {
    let version = fact(facts, "redis_version");
    if version.split('.').next().and_then(|major| major.parse().ok()).is_some_and(|major: u32| major < OLDEST) {
        return Outcome::failed(format!("Redis {version} is too old"), "upgrade it to 7.0 or later");
    }
    if fact(facts, "cluster_enabled") == "1" {
        return Outcome::failed(
            format!("Redis {version} is a cluster: the keys of a pool would be in several slots"),
            "let queue_url lead to a Redis without cluster mode",
        );
    }
    if fact(facts, "role") == "slave" {
        return Outcome::failed(
            format!("Redis {version} is a replica, which takes no writes"),
            "let queue_url lead to the primary: `redis-cli info replication` names it as master_host",
        );
    }
    Outcome::ok(format!("Redis {version}"))
}

fn judge_eviction(facts: &Facts) -> Outcome {
    match fact(facts, "maxmemory_policy") {
        "noeviction" => Outcome::ok("maxmemory-policy noeviction"),
        "" => Outcome::warning(
            "the server does not tell its maxmemory-policy",
            "see to it that it is noeviction; else waiting jobs are thrown away when memory is short",
        ),
        policy => Outcome::failed(
            format!("maxmemory-policy {policy}: when memory is short, it throws away jobs that wait"),
            "redis-cli config set maxmemory-policy noeviction\nand the same line in redis.conf (without `config set`)",
        ),
    }
}

fn judge_memory(facts: &Facts) -> Outcome {
    let number = |name| fact(facts, name).parse::<u64>().unwrap_or(0);
    let (used, most) = (number("used_memory"), number("maxmemory"));
    let used_mb = used / 1_000_000;
    if most == 0 {
        return Outcome::ok(format!("{used_mb} MB used, no limit but the machine's"));
    }
    let seen = format!("{used_mb} MB used of {} MB", most / 1_000_000);
    if used.saturating_mul(100) / most >= NEARLY_FULL {
        return Outcome::warning(
            format!("{seen}: soon no job can be put on"),
            "redis-cli config set maxmemory 2gb; a job takes about 220 bytes, so see too why so many wait: `longshore pool list`",
        );
    }
    Outcome::ok(seen)
}

fn judge_persistence(facts: &Facts) -> Outcome {
    let (log, snapshots) = (fact(facts, "aof_enabled") == "1", !fact(facts, "save").is_empty());
    if log && fact(facts, "aof_last_write_status") == "err" {
        return Outcome::warning("the append-only log cannot be written", "see the log of Redis: its disk may be full");
    }
    if log {
        return Outcome::ok("appendonly yes");
    }
    let detail = if snapshots {
        "appendonly no: a crash forgets the jobs since the last snapshot"
    } else {
        "appendonly no, and no snapshots are known of: a restart forgets all jobs that wait"
    };
    Outcome::warning(
        format!("{detail}. Hints only: the ledger puts the jobs of open uploads on again, within minutes"),
        "redis-cli config set appendonly yes\nand `appendonly yes` in redis.conf, if minutes are too long",
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status;
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.0.15\r\n# Replication\r\nrole:master\r\n# Memory\r\n\
        used_memory:1000000\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n# Persistence\r\naof_enabled:1\r\n\
        aof_last_write_status:ok\r\n";

    fn with(name: &str, value: &str) -> Facts {
        let mut facts = parse(INFO);
        facts.insert(name.to_owned(), value.to_owned());
        facts
    }

    fn status(outcome: Outcome) -> Status {
        outcome.of("redis").status()
    }

    #[test]
    fn a_server_as_it_should_be_is_fine_in_all_respects() {
        let facts = parse(INFO);
        for judge in [judge_server, judge_eviction, judge_memory, judge_persistence] {
            assert_eq!(status(judge(&facts)), Status::Ok);
        }
    }

    #[test]
    fn a_server_that_evicts_fails() {
        for policy in ["allkeys-lru", "volatile-lru", "allkeys-random"] {
            assert_eq!(status(judge_eviction(&with("maxmemory_policy", policy))), Status::Failed);
        }
    }

    #[test]
    fn a_server_that_forgets_is_told_of() {
        assert_eq!(status(judge_persistence(&with("aof_enabled", "0"))), Status::Warning);
        assert_eq!(status(judge_persistence(&with("aof_last_write_status", "err"))), Status::Warning);
    }

    #[test]
    fn old_servers_replicas_and_clusters_fail() {
        assert_eq!(status(judge_server(&with("redis_version", "6.2.14"))), Status::Failed);
        assert_eq!(status(judge_server(&with("role", "slave"))), Status::Failed);
        assert_eq!(status(judge_server(&with("cluster_enabled", "1"))), Status::Failed);
    }

    #[test]
    fn memory_is_judged_against_its_limit() {
        assert_eq!(status(judge_memory(&with("maxmemory", "1050000"))), Status::Warning);
        assert_eq!(status(judge_memory(&with("maxmemory", "2000000"))), Status::Ok);
    }
}
