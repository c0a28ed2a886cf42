//! The ledger: its schema, whether it takes a row, and how its server is set up.

use std::path::Path;
use std::time::Duration;

use longshore_jobs::job::with_causes;
use longshore_jobs::ledger::inspect::{self, Schema, Server};
use longshore_jobs::ledger::{Db, LedgerError};
use longshore_jobs::model::Timestamp;

use super::{Finding, Outcome, SCHEMA, disk};
use crate::app::StartError;
use crate::config::{Config, DatabaseEngine};

/// The oldest PostgreSQL that will do.
const OLDEST: i32 = 140_000;
/// What a process of ours has beside its pool: two on which processes signal each other.
const BESIDE: i64 = 2;
const SKEW: Duration = Duration::from_secs(2);
const TOO_MUCH_SKEW: Duration = Duration::from_secs(15 * 60);

/// The schema and the server. Nothing is opened for work, nothing is migrated.
pub(super) async fn look(config: Config) -> Vec<Finding> {
    match &config.database {
        DatabaseEngine::Sqlite(path) => look_at_file(path).await,
        DatabaseEngine::Postgres(url) => look_at_server(&config, url.reveal()).await,
    }
}

async fn look_at_file(path: &Path) -> Vec<Finding> {
    match inspect::sqlite(path).await {
        Ok((schema, mode)) => vec![judge_schema(&schema).of(SCHEMA), judge_journal(&mode).of("ledger journal")],
        Err(error) => vec![unread(path, &with_causes(&error)).of(SCHEMA)],
    }
}

/// A restore of a ledger whose disk is merely full would lose what it has.
fn unread(path: &Path, said: &str) -> Outcome {
    let mend = if disk::sounds_full(said) {
        "first see `disk: …` above, and free some space: runbook, *A full disk*. A full disk has damaged nothing"
    } else {
        "see the disk above and who may read the file. Only if `sqlite3 FILE 'pragma integrity_check'` finds it damaged, restore it: \
         runbook, *Backup and restore*"
    };
    Outcome::failed(format!("{} cannot be read: {said}", path.display()), mend)
}

async fn look_at_server(config: &Config, url: &str) -> Vec<Finding> {
    let asked = Timestamp::system_now();
    match inspect::postgres(url).await {
        Ok((schema, server)) => {
            let needed = i64::from(config.postgres_connections) + BESIDE;
            // The clock was read somewhere between.
            let took = Timestamp::system_now().since(asked);
            vec![
                judge_schema(&schema).of(SCHEMA),
                judge_server(&server).of("postgres"),
                judge_connections(&server, needed).of("postgres connections"),
                judge_clock(apart(server.clock, asked).saturating_sub(took)).of("postgres clock"),
            ]
        }
        Err(error) => vec![
            Outcome::failed(
                format!("{} does not let us in: {}", config.database, with_causes(&error)),
                mend_unreachable(&error),
            )
            .of(SCHEMA),
        ],
    }
}

fn apart(one: Timestamp, other: Timestamp) -> Duration {
    one.since(other).max(other.since(one))
}

fn mend_unreachable(error: &LedgerError) -> &'static str {
    let LedgerError::Engine(sqlx::Error::Database(said)) = error else {
        return "see that PostgreSQL runs and that host and port of database_url lead to it: `pg_isready -h HOST -p PORT`";
    };
    match said.code().as_deref() {
        Some("28P01" | "28000") => "set user and password in database_url as the server has them; see its pg_hba.conf",
        Some("3D000") => "create the database: `createdb NAME`, or name another in database_url",
        Some("53300") => "the server has no connections left: raise max_connections, or lower postgres.connections",
        Some("57P03") => "the server is still starting: ask again in a moment",
        _ => "the log of the PostgreSQL server says more",
    }
}

fn judge_schema(schema: &Schema) -> Outcome {
    let numbers = |of: &[i64]| of.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let at = schema.at.unwrap_or(0);
    if !schema.changed.is_empty() {
        return Outcome::failed(
            format!("migrations {} were applied in another wording than this program's", numbers(&schema.changed)),
            "run the program that has made this ledger; or restore it from a backup: runbook, *Backup and restore*",
        );
    }
    if schema.at.is_none() {
        return Outcome::failed("the database is empty: no migration has been applied", "longshore migrate");
    }
    if !schema.missing.is_empty() {
        return Outcome::failed(
            format!("the ledger is at migration {at} and lacks {}", numbers(&schema.missing)),
            "longshore migrate",
        );
    }
    if !schema.newer.is_empty() {
        return Outcome::warning(
            format!("a newer release has brought the ledger to migration {at}, which this program does not know"),
            "install that release here too: `longshore --version` on both; runbook, *Upgrade and going back*",
        );
    }
    Outcome::ok(format!("at head, migration {at}"))
}

fn judge_journal(mode: &str) -> Outcome {
    if mode == "wal" {
        return Outcome::ok("SQLite, journal mode wal");
    }
    Outcome::warning(
        format!("SQLite, journal mode {mode}: readers and the writer wait for each other"),
        "restart the service, which sets wal; a network file system cannot have it: put the ledger on a local disk",
    )
}

fn judge_server(server: &Server) -> Outcome {
    let version = &server.version;
    if server.version_number < OLDEST {
        return Outcome::failed(format!("PostgreSQL {version} is too old"), "upgrade it to 14 or later");
    }
    if server.follows {
        return Outcome::failed(
            format!("PostgreSQL {version} is a standby, which takes no writes"),
            "let database_url lead to the primary, for example by target_session_attrs in a pooler or by DNS",
        );
    }
    if !server.fsync {
        return Outcome::warning(
            format!("PostgreSQL {version} with fsync = off: a power cut may destroy the ledger"),
            "alter system set fsync = on; select pg_reload_conf();",
        );
    }
    if server.synchronous_commit == "off" {
        return Outcome::warning(
            format!("PostgreSQL {version} with synchronous_commit = off: a crash may lose uploads that were answered"),
            "alter system set synchronous_commit = on; select pg_reload_conf(); or take it out of database_url",
        );
    }
    Outcome::ok(format!("PostgreSQL {version}, writes wait for the disk"))
}

fn judge_connections(server: &Server, needed: i64) -> Outcome {
    let left = server.most_connections - server.connections;
    let seen = format!("{} of {} connections are in use", server.connections, server.most_connections);
    if left < needed {
        return Outcome::warning(
            format!("{seen}: one more process of ours may want {needed}, and {left} are left"),
            "alter system set max_connections = 200; and restart PostgreSQL; or lower postgres.connections",
        );
    }
    Outcome::ok(seen)
}

pub(super) fn judge_clock(apart: Duration) -> Outcome {
    let seen = format!("the clocks are {:.1} s apart", apart.as_secs_f64());
    let mend = "set both by NTP: `timedatectl set-ntp true`, then `timedatectl` on either machine";
    if apart > TOO_MUCH_SKEW {
        return Outcome::failed(seen, mend);
    }
    if apart > SKEW { Outcome::warning(seen, mend) } else { Outcome::ok(seen) }
}

/// A row that is written and read back: `/readyz` only reads.
pub(super) async fn write(db: Db) -> Outcome {
    let started = std::time::Instant::now();
    match inspect::write_and_read(&db).await {
        Ok(true) => {
            Outcome::ok(format!("a row was written, read back and removed in {} ms", started.elapsed().as_millis()))
        }
        Ok(false) => Outcome::failed(
            "a row that was written did not come back",
            "see that database_url leads to one server, and not to a pooler that sends reads to a standby",
        ),
        Err(error) => unwritten(&error),
    }
}

fn unwritten(error: &LedgerError) -> Outcome {
    let said = with_causes(error);
    Outcome::failed(format!("no row can be written: {said}"), mend_write(&said))
}

/// By what is said: a write that shared its transaction with others has the words alone, and no code.
fn mend_write(said: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if disk::sounds_full(said) {
        "free some space on the ledger's disk: runbook, *A full disk*"
    } else if says(&["readonly database", "read-only"]) {
        "make the ledger writable: file and folder belong to the service's user, their file system is not read-only, and a \
         PostgreSQL server is the primary"
    } else if says(&["database is locked"]) {
        "another program holds the ledger: `fuser LEDGER` names it"
    } else if says(&["permission denied"]) {
        "grant select, insert, update, delete on all tables in schema public to USER;"
    } else {
        "see the log of the database server, or of the service"
    }
}

/// The ledger does not open although its schema is right.
pub(super) fn unopened(error: &StartError) -> Outcome {
    Outcome::failed(with_causes(error), "see that the server takes us, and who may write to the file")
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status;
    use super::*;

    fn status(outcome: Outcome) -> Status {
        outcome.of("x").status()
    }

    fn server() -> Server {
        Server {
            version: "15.8".to_owned(),
            version_number: 150_008,
            most_connections: 97,
            connections: 20,
            clock: Timestamp::from_millis(0),
            fsync: true,
            synchronous_commit: "on".to_owned(),
            follows: false,
        }
    }

    #[test]
    fn a_ledger_behind_fails_and_one_ahead_is_only_told_of() {
        let head = Schema { at: Some(6), ..Schema::default() };
        assert_eq!(status(judge_schema(&head)), Status::Ok);

        let behind = judge_schema(&Schema { at: Some(4), missing: vec![5, 6], ..Schema::default() });
        assert_eq!(behind, Outcome::failed("the ledger is at migration 4 and lacks 5, 6", "longshore migrate"));
        assert_eq!(status(judge_schema(&Schema { newer: vec![7], ..head.clone() })), Status::Warning);
        assert_eq!(status(judge_schema(&Schema { changed: vec![2], ..head })), Status::Failed);
    }

    #[test]
    fn a_server_that_may_forget_is_told_of() {
        assert_eq!(status(judge_server(&server())), Status::Ok);
        assert_eq!(status(judge_server(&Server { fsync: false, ..server() })), Status::Warning);
        let hasty = Server { synchronous_commit: "off".to_owned(), ..server() };
        assert_eq!(status(judge_server(&hasty)), Status::Warning);
        assert_eq!(status(judge_server(&Server { follows: true, ..server() })), Status::Failed);
        assert_eq!(status(judge_server(&Server { version_number: 130_014, ..server() })), Status::Failed);
    }

    #[test]
    fn connections_have_to_do_for_one_process_more() {
        assert_eq!(status(judge_connections(&server(), 18)), Status::Ok);
        assert_eq!(status(judge_connections(&Server { connections: 90, ..server() }, 18)), Status::Warning);
    }

    #[test]
    fn a_write_that_a_full_disk_undid_says_so_although_its_code_is_lost() {
        let said = "error returned from database: (code: 13) database or disk is full";
        let Outcome::Failed(trouble) = unwritten(&LedgerError::Uncommitted(said.to_owned())) else {
            panic!("it failed")
        };
        assert!(trouble.mend.contains("free some space"), "{}", trouble.mend);
        assert!(mend_write("attempt to write a readonly database").contains("read-only"));
    }

    #[test]
    fn a_ledger_on_a_full_disk_is_not_said_to_be_damaged() {
        let mend = |said| {
            let Outcome::Failed(trouble) = unread(Path::new("data/longshore.db"), said) else { panic!("it failed") };
            trouble.mend
        };
        let full = mend("error returned from database: (code: 4874) disk I/O error");
        assert!(full.contains("free some space") && !full.contains("restore"), "{full}");
        assert!(mend("(code: 26) file is not a database").contains("restore"));
    }

    #[test]
    fn clocks_may_differ_by_a_second_or_two() {
        for (apart, expected) in [(1, Status::Ok), (60, Status::Warning), (3600, Status::Failed)] {
            assert_eq!(status(judge_clock(Duration::from_secs(apart))), expected);
        }
    }

    #[test]
    fn a_journal_other_than_wal_is_told_of() {
        assert_eq!(status(judge_journal("wal")), Status::Ok);
        assert_eq!(status(judge_journal("delete")), Status::Warning);
    }
}
