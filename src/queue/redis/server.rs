//! The Redis server that tests are given, in `LONGSHORE_TEST_REDIS`. Each test takes keys of its own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use longshore_jobs::job::Pool;
use longshore_jobs::ledger::Db;
use longshore_jobs::outside::Clock;
use longshore_jobs::testkit::given;
use redis::{Client, Connection, Script};
use uuid::Uuid;

use super::{Options, RedisQueue, calls};

/// A server for one test alone, which may be emptied, filled up and restarted.
pub(super) struct Private {
    folder: tempfile::TempDir,
    pub(super) server: Server,
}

impl Private {
    /// `None` where the others have no server either.
    pub(super) fn start() -> Option<Self> {
        Server::given()?;
        let folder = tempfile::tempdir().unwrap();
        serve(&["start", path(&folder), "redis"]);
        let env = std::fs::read_to_string(folder.path().join("env")).unwrap();
        let url = env.lines().find_map(|line| line.strip_prefix("export LONGSHORE_TEST_REDIS=")).unwrap();
        Some(Self { server: Server::at(url.to_owned()), folder })
    }

    /// Kills it, and starts it on the same port.
    pub(super) fn restart(&self) {
        serve(&["restart", path(&self.folder), "redis"]);
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        serve(&["stop", path(&self.folder)]);
    }
}

fn path(folder: &tempfile::TempDir) -> &str {
    folder.path().to_str().unwrap()
}

fn serve(told: &[&str]) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/ops/servers");
    let done = std::process::Command::new(script).args(told).status().unwrap();
    assert!(done.success(), "ops/servers {told:?}");
}

/// Adds to the time for which nobody has renewed what is pending.
const AGE: &str = "
    for _, stream in ipairs(KEYS) do
        local pending = redis.pcall('XPENDING', stream, 'workers', '-', '+', 100000)
        if not pending.err then
            for _, held in ipairs(pending) do
                redis.call('XCLAIM', stream, 'workers', held[2], 0, held[1], 'IDLE', held[3] + ARGV[1], 'JUSTID')
            end
        end
    end";

/// A server, and a prefix on it that no other test has.
pub(in crate::queue) struct Server {
    pub(super) url: String,
    pub(super) prefix: String,
}

impl Server {
    /// `None`, said aloud, when there is none.
    pub(in crate::queue) fn given() -> Option<Self> {
        given("LONGSHORE_TEST_REDIS", "the queue on Redis").map(Self::at)
    }

    pub(super) fn at(url: String) -> Self {
        Self { url, prefix: format!("test-{}", Uuid::now_v7().simple()) }
    }

    /// A queue of its own, as a process of its own would have it, with workers for all pools.
    pub(in crate::queue) async fn connect(&self, db: &Db, clock: Arc<dyn Clock>) -> RedisQueue {
        let options = Options { url: self.url.clone(), prefix: self.prefix.clone(), pools: Pool::ALL.to_vec() };
        RedisQueue::connect(options, db.clone(), clock).await.unwrap()
    }

    /// Something that lets time pass for all leases.
    pub(in crate::queue) fn aging(&self) -> impl Fn(Duration) + Send + Sync + use<> {
        let connection = Mutex::new(self.connection());
        let streams: Vec<String> = Pool::ALL
            .iter()
            .flat_map(|pool| calls::keys(&self.prefix, *pool).into_iter().take(calls::STREAMS.into()))
            .collect();
        move |length| {
            let mut connection = connection.lock().unwrap();
            let age = Script::new(AGE);
            let mut call = age.key(&streams);
            call.arg(u64::try_from(length.as_millis()).unwrap()).invoke::<()>(&mut connection).unwrap();
        }
    }

    pub(super) fn connection(&self) -> Connection {
        Client::open(self.url.as_str()).unwrap().get_connection().unwrap()
    }
}
