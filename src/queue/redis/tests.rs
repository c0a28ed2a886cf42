//! What holds on Redis beyond the contract.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use longshore_jobs::job::{Context, End, Job as _, Lane, NewJob, Pool, Verdict};
use longshore_jobs::ledger::Db;
use longshore_jobs::noop::{Act, Noop};
use longshore_jobs::outside::{Clock, Queue as _, SystemClock};
use longshore_jobs::sql;
use longshore_jobs::testkit::HandClock;
use redis::{Commands as _, Connection};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use super::server::{Private, Server};
use super::{RedisQueue, calls};
use crate::queue::bench;
use crate::queue::contract::eventually;
use crate::queue::engine::{CRASH_CAP, Claim, Claimed, Engine, LEASE, Lease};
use crate::queue::pace::Pace;
use crate::queue::workers::Workers;

const POOL: Pool = Noop::POOL;
const DONE: Verdict = Verdict::Finished(End::Done);
const HOUR: Duration = Duration::from_secs(3600);
/// Never looks without a ring.
const DEAF: Pace = Pace { poll: HOUR, beat: HOUR };
const BRISK: Pace = Pace { poll: Duration::from_millis(50), beat: Duration::from_millis(50) };

/// One process, and what it shares with others: a ledger, a clock and a server.
struct Process {
    queue: RedisQueue,
    db: Db,
    clock: Arc<dyn Clock>,
    _folder: tempfile::TempDir,
}

impl Process {
    async fn on(server: &Server, clock: Arc<dyn Clock>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open_sqlite(&folder.path().join("ledger.db")).await.unwrap();
        let queue = server.connect(&db, Arc::clone(&clock)).await;
        Self { queue, db, clock, _folder: folder }
    }

    async fn punctual(server: &Server) -> Self {
        Self::on(server, Arc::new(SystemClock)).await
    }

    fn context(&self) -> Context {
        bench::context(self.db.clone(), &self.engine())
    }

    fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(self.queue.clone())
    }

    async fn work(&self, pace: Pace) -> Workers {
        Workers::start_at(pace, self.context(), self.engine(), |_| 20, &[POOL]).await
    }

    fn job(&self, id: Uuid, lane: Lane, wait: Duration) -> NewJob {
        NewJob::of(&Noop::new(id), lane, self.clock.now() + wait)
    }

    async fn push(&self, lane: Lane, wait: Duration) -> Uuid {
        let id = Uuid::now_v7();
        self.queue.push(vec![self.job(id, lane, wait)]).await.unwrap();
        id
    }

    async fn claim(&self, max: usize) -> Vec<Claimed> {
        self.claim_as("tester", max).await
    }

    async fn claim_as(&self, worker: &str, max: usize) -> Vec<Claimed> {
        let claim = Claim { pool: POOL, worker: worker.into(), max, first: Lane::Interactive };
        self.queue.claim(&claim).await.unwrap()
    }

    async fn settle(&self, leases: impl IntoIterator<Item = Lease>, verdict: Verdict) {
        let settled: Vec<_> = leases.into_iter().map(|lease| (lease, verdict.clone())).collect();
        self.queue.settle(&settled).await.unwrap();
    }

    async fn is_empty(&self) -> bool {
        self.queue.depths().await.is_ok_and(|depths| depths.is_empty())
    }
}

/// What is left on the server: the keys of the test but for streams that are empty.
fn left_behind(server: &Server) -> Vec<String> {
    let mut connection = server.connection();
    let keys: Vec<String> = connection.keys(format!("{}:*", server.prefix)).unwrap();
    keys.into_iter().filter(|key| !is_empty_stream(&mut connection, key)).collect()
}

fn is_empty_stream(connection: &mut Connection, key: &str) -> bool {
    let kind: String = redis::cmd("TYPE").arg(key).query(connection).unwrap();
    kind == "stream" && connection.xlen::<_, u64>(key).unwrap() == 0
}

fn key(server: &Server, number: usize) -> String {
    calls::keys(&server.prefix, POOL)[number - 1].clone()
}

/// Who holds the only entry of the interactive lane, for how long without a renewal, and how often it was delivered.
fn pending(server: &Server) -> (String, Duration, u64) {
    let rows: Vec<(String, String, u64, u64)> = redis::cmd("XPENDING")
        .arg(key(server, 2))
        .arg("workers")
        .arg(("-", "+", 9))
        .query(&mut server.connection())
        .unwrap();
    let (_, consumer, idle, deliveries) = rows.into_iter().next().unwrap();
    (consumer, Duration::from_millis(idle), deliveries)
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_are_over_leave_nothing_behind() {
    let Some(server) = Server::given() else { return };
    let clock = Arc::new(HandClock::default());
    let process = Process::on(&server, Arc::clone(&clock) as Arc<dyn Clock>).await;
    for lane in [Lane::Interactive, Lane::Bulk] {
        for wait in [Duration::ZERO, HOUR] {
            process.queue.push((0..300).map(|_| process.job(Uuid::now_v7(), lane, wait)).collect()).await.unwrap();
        }
    }

    clock.advance(HOUR);
    let leases: Vec<Lease> = process.claim(1_200).await.iter().map(|job| job.lease).collect();
    assert_eq!(leases.len(), 1_200);
    let (until, error) = (clock.now() + HOUR, || "no use".to_owned());
    process.settle(leases[..200].to_vec(), Verdict::Retried { at: until, error: error() }).await;
    process.settle(leases[200..400].to_vec(), Verdict::Snoozed { until }).await;
    process.settle(leases[400..600].to_vec(), Verdict::Dead { reason: "gave_up", error: error() }).await;
    process.queue.hand_back(&leases[600..800]).await.unwrap();
    process.queue.void_leases().await.unwrap();
    clock.advance(HOUR);
    let rest = process.claim(1_200).await;
    assert_eq!(rest.len(), 1_000);
    process.settle(rest.iter().map(|job| job.lease), DONE).await;

    assert!(process.is_empty().await);
    assert_eq!(left_behind(&server), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_in_one_process_wakes_a_worker_in_another() {
    let Some(server) = Server::given() else { return };
    let (intake, worker) = (Process::punctual(&server).await, Process::punctual(&server).await);
    let workers = worker.work(DEAF).await;

    for _ in 0..5 {
        intake.push(Lane::Interactive, Duration::ZERO).await;
        eventually!(worker.is_empty().await);
    }

    // It waits for the later one now, and hears of the earlier.
    intake.push(Lane::Bulk, HOUR).await;
    eventually!(worker.queue.next_due(POOL).await.unwrap().is_some());
    intake.push(Lane::Bulk, Duration::from_millis(200)).await;
    eventually!(worker.queue.depths().await.unwrap()[0].waiting == 1);
    workers.shutdown(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_gone_listens_no_more() {
    let Some(server) = Server::given() else { return };
    let process = Process::punctual(&server).await;
    let mut connection = server.connection();
    let mut listeners = || -> u64 {
        let numsub = redis::cmd("PUBSUB").arg(("NUMSUB", key(&server, 8))).query::<(String, u64)>(&mut connection);
        numsub.unwrap().1
    };
    eventually!(listeners() == 1);

    drop(process);

    eventually!(listeners() == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_joins_what_another_process_has_pushed_or_holds() {
    let Some(server) = Server::given() else { return };
    let (one, other) = (Process::punctual(&server).await, Process::punctual(&server).await);
    let id = one.push(Lane::Bulk, HOUR).await;

    other.queue.push(vec![other.job(id, Lane::Interactive, Duration::ZERO)]).await.unwrap();
    let held = one.claim(9).await;
    assert_eq!((held.len(), held[0].lease.lane), (1, Lane::Interactive));

    other.queue.push(vec![other.job(id, Lane::Interactive, Duration::ZERO)]).await.unwrap();
    assert!(other.claim(9).await.is_empty());
    one.settle([held[0].lease], DONE).await;
    let again = other.claim(9).await;
    assert_eq!(again.len(), 1);
    one.settle([again[0].lease], DONE).await;
    assert!(one.is_empty().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_payload_is_the_one_that_runs() {
    let Some(server) = Server::given() else { return };
    let process = Process::punctual(&server).await;
    let id = Uuid::now_v7();
    let push = async |act, wait| {
        let job = NewJob::of(&Noop { id, act }, Lane::Bulk, process.clock.now() + wait);
        process.queue.push(vec![job]).await.unwrap();
    };

    // Onto one that is due later, one that waits, and one that is held.
    push(Act::Done, HOUR).await;
    push(Act::Fail, Duration::ZERO).await;
    push(Act::Hang, Duration::ZERO).await;
    let held = process.claim(9).await;
    assert_eq!(held.len(), 1);
    assert!(held[0].delivery.payload.contains("hang"), "{}", held[0].delivery.payload);
    push(Act::Panic, Duration::ZERO).await;
    process.queue.hand_back(&[held[0].lease]).await.unwrap();

    let held = process.claim(9).await;
    assert!(held[0].delivery.payload.contains("panic"), "{}", held[0].delivery.payload);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_become_due_is_moved_in_bounded_chunks() {
    const MANY: usize = 100_000;
    let Some(server) = Server::given() else { return };
    let clock = Arc::new(HandClock::default());
    let process = Process::on(&server, Arc::clone(&clock) as Arc<dyn Clock>).await;
    process.queue.push((0..MANY).map(|_| process.job(Uuid::now_v7(), Lane::Bulk, HOUR)).collect()).await.unwrap();
    assert!(process.claim(9).await.is_empty());

    clock.advance(HOUR);
    let mut leases: Vec<Lease> = process.claim(9).await.iter().map(|job| job.lease).collect();

    let mut connection = server.connection();
    let moved: usize = connection.xlen(key(&server, 4)).unwrap();
    let later: usize = connection.zcard(key(&server, 6)).unwrap();
    assert_eq!((leases.len(), moved, later), (9, 500, MANY - 500));
    let depth = process.queue.depths().await.unwrap()[0];
    assert_eq!((depth.waiting, depth.due, depth.running), ((MANY - 9) as u64, (MANY - 9) as u64, 9));

    let mut subjects = HashSet::new();
    while !leases.is_empty() {
        process.settle(leases, DONE).await;
        let claimed = process.claim(500).await;
        subjects.extend(claimed.iter().map(|job| job.delivery.subject));
        leases = claimed.iter().map(|job| job.lease).collect();
    }
    assert_eq!(subjects.len(), MANY - 9);
    assert_eq!(left_behind(&server), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_is_no_delivery_and_none_of_a_stale_holder_counts() {
    let Some(server) = Server::given() else { return };
    let (lost, alive) = (Process::punctual(&server).await, Process::punctual(&server).await);
    let age = server.aging();
    lost.push(Lane::Interactive, Duration::ZERO).await;
    let stale = lost.claim_as("lost", 1).await[0].lease;
    age(LEASE / 2);
    assert_eq!(lost.queue.renew(&[stale]).await.unwrap(), [stale]);
    let (consumer, idle, deliveries) = pending(&server);
    assert!((consumer.as_str(), deliveries) == ("lost", 1) && idle < LEASE / 2, "{consumer} {idle:?} {deliveries}");

    age(LEASE);
    alive.queue.reclaim().await.unwrap();
    let held = alive.claim_as("alive", 1).await[0].lease;
    age(LEASE / 2);

    assert!(lost.queue.renew(&[stale]).await.unwrap().is_empty());
    assert!(lost.queue.mark_started(&[stale]).await.unwrap().is_empty());
    age(LEASE / 2);
    assert_eq!(alive.queue.reclaim().await.unwrap()[&POOL], 1, "nobody has renewed it");
    assert!(alive.queue.renew(&[held]).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_consumers_that_hold_nothing_are_removed() {
    let Some(server) = Server::given() else { return };
    let process = Process::punctual(&server).await;
    process.push(Lane::Interactive, Duration::ZERO).await;
    process.push(Lane::Interactive, Duration::ZERO).await;
    process.claim_as("busy", 1).await;
    let idle = process.claim_as("idle", 1).await;
    process.settle([idle[0].lease], DONE).await;
    let consumers = || -> usize {
        let found: redis::streams::StreamInfoConsumersReply =
            server.connection().xinfo_consumers(key(&server, 2), "workers").unwrap();
        found.consumers.len()
    };
    process.queue.reclaim().await.unwrap();
    assert_eq!(consumers(), 2, "one has merely nothing to do, the other holds a job");

    process.queue.void_leases().await.unwrap();

    assert_eq!(consumers(), 0);
    assert_eq!(process.claim_as("busy", 9).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_is_none_of_ours_is_thrown_away() {
    let Some(server) = Server::given() else { return };
    let process = Process::punctual(&server).await;
    let mut connection = server.connection();
    let strange: [&[u8]; 5] = [b"", b"what", b"what is this", b"noop 7 1 0 0 0 {}", b"noop 7 1 0 0 0 \xff"];
    for text in strange {
        let _: String = connection.xadd(key(&server, 4), "*", &[("job", text)]).unwrap();
    }
    let id = process.push(Lane::Bulk, Duration::ZERO).await;

    let claimed = process.claim(9).await;

    assert_eq!(claimed.iter().map(|job| job.delivery.subject).collect::<Vec<_>>(), [id]);
    process.settle([claimed[0].lease], DONE).await;
    assert!(process.queue.void_leases().await.unwrap().is_empty());
    assert_eq!(left_behind(&server), Vec::<String>::new());
}

/// Claims all jobs, lets them run, and lets their worker die.
async fn crash(process: &Process) {
    let leases: Vec<Lease> = process.claim(9).await.iter().map(|job| job.lease).collect();
    process.queue.mark_started(&leases).await.unwrap();
    process.queue.void_leases().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_takes_no_letters_keeps_the_dead_waiting_and_nobody_else() {
    let Some(server) = Server::given() else { return };
    let process = Process::punctual(&server).await;
    process.push(Lane::Interactive, Duration::ZERO).await;
    for _ in 1..CRASH_CAP {
        crash(&process).await;
    }
    let others = [process.push(Lane::Bulk, Duration::ZERO).await, process.push(Lane::Bulk, Duration::ZERO).await];
    let without_letters = process.db.write(|mut tx| {
        Box::pin(async move {
            sql!(tx.on(), c => sqlx::query("drop table dead_letters").execute(c).await.map(drop))?;
            Ok(())
        })
    });
    without_letters.await.unwrap();

    // Once one has crashed too often, its letter cannot be written.
    let leases: Vec<Lease> = process.claim(9).await.iter().map(|job| job.lease).collect();
    process.queue.mark_started(&leases).await.unwrap();
    assert_eq!(process.queue.void_leases().await.unwrap()[&POOL], 2);
    let claimed = process.claim(9).await;
    assert_eq!(claimed.iter().map(|job| job.delivery.subject).collect::<Vec<_>>(), others);

    // Nor that of one that dies by itself.
    let dead = Verdict::Dead { reason: "gave_up", error: "no use".to_owned() };
    assert!(process.queue.settle(&[(claimed[0].lease, dead), (claimed[1].lease, DONE)]).await.is_err());
    let left = process.queue.depths().await.unwrap();
    assert_eq!(
        left.iter().map(|depth| (depth.lane, depth.running)).collect::<Vec<_>>(),
        [(Lane::Interactive, 1), (Lane::Bulk, 1)]
    );
}

/// An address behind which now this server is and now that one.
struct Switch {
    url: String,
    target: Arc<Mutex<String>>,
}

impl Switch {
    async fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let target = Arc::new(Mutex::new(address(server)));
        let switched = Arc::clone(&target);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let target = switched.lock().unwrap().clone();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(target).await?;
                    tokio::io::copy_bidirectional(&mut near, &mut far).await
                });
            }
        });
        Self { url, target }
    }

    fn turn_to(&self, server: &Server) {
        *self.target.lock().unwrap() = address(server);
    }
}

fn address(server: &Server) -> String {
    server.url.trim_start_matches("redis://").trim_end_matches('/').to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_leaves_a_server_that_has_become_a_replica() {
    let (Some(old), Some(new)) = (Private::start(), Server::given()) else { return };
    let switch = Switch::to(&old.server).await;
    let worker = Process::punctual(&Server { url: switch.url.clone(), prefix: new.prefix.clone() }).await;
    let workers = worker.work(BRISK).await;
    let intake = Process::punctual(&new).await;

    // Of a master that is not there: what counts is that nothing can be written.
    redis::cmd("REPLICAOF").arg(("127.0.0.1", 1)).exec(&mut old.server.connection()).unwrap();
    switch.turn_to(&new);
    intake.push(Lane::Interactive, Duration::ZERO).await;

    eventually!(intake.is_empty().await);
    workers.shutdown(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_emptied_is_used_on() {
    let Some(private) = Private::start() else { return };
    let (intake, worker) = (Process::punctual(&private.server).await, Process::punctual(&private.server).await);
    let workers = worker.work(BRISK).await;
    let hanging = Noop { id: Uuid::now_v7(), act: Act::Hang };
    intake.queue.push(vec![NewJob::of(&hanging, Lane::Bulk, intake.clock.now())]).await.unwrap();
    eventually!(workers.running() == 1);
    intake.push(Lane::Bulk, HOUR).await;

    redis::cmd("FLUSHALL").exec(&mut private.server.connection()).unwrap();
    redis::cmd("SCRIPT").arg("FLUSH").exec(&mut private.server.connection()).unwrap();

    // What ran is not ours any more, and what comes is done as ever.
    assert!(intake.is_empty().await);
    for _ in 0..3 {
        intake.push(Lane::Interactive, Duration::ZERO).await;
        intake.push(Lane::Bulk, Duration::ZERO).await;
        eventually!(intake.is_empty().await);
    }
    assert!(workers.pulse().is_healthy());
    workers.shutdown(Duration::ZERO).await;
    assert_eq!(left_behind(&private.server), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_restarted_is_found_again() {
    let Some(private) = Private::start() else { return };
    let (intake, worker) = (Process::punctual(&private.server).await, Process::punctual(&private.server).await);
    let workers = worker.work(Pace { poll: HOUR, ..BRISK }).await;
    intake.push(Lane::Interactive, Duration::ZERO).await;
    eventually!(worker.is_empty().await);

    for _ in 0..2 {
        private.restart();
        let job = || vec![intake.job(Uuid::now_v7(), Lane::Interactive, Duration::ZERO)];
        eventually!(intake.queue.push(job()).await.is_ok());
        // By the bell alone: the listener has come back too.
        eventually!(worker.is_empty().await);
    }
    assert!(workers.pulse().is_healthy());
    workers.shutdown(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_memory_refuses_pushes_and_loses_nothing() {
    let Some(private) = Private::start() else { return };
    let clock = Arc::new(HandClock::default());
    let process = Process::on(&private.server, Arc::clone(&clock) as Arc<dyn Clock>).await;
    let limit = |bytes: &str| {
        redis::cmd("CONFIG").arg(("SET", "maxmemory", bytes)).exec(&mut private.server.connection()).unwrap();
    };
    for wait in [Duration::ZERO, HOUR] {
        process.queue.push((0..20).map(|_| process.job(Uuid::now_v7(), Lane::Bulk, wait)).collect()).await.unwrap();
    }

    limit("1");
    clock.advance(HOUR);
    assert!(process.queue.push(vec![process.job(Uuid::now_v7(), Lane::Bulk, HOUR)]).await.is_err());
    let held = process.claim(10).await;
    assert_eq!(held.len(), 10, "what is in the streams is lent out");
    process.settle(held[..5].iter().map(|job| job.lease), DONE).await;
    let retried = Verdict::Retried { at: clock.now(), error: "no use".to_owned() };
    assert!(process.queue.settle(&[(held[5].lease, retried.clone())]).await.is_err());
    assert!(process.queue.hand_back(&[held[6].lease]).await.is_err());

    limit("0");
    process.settle([held[5].lease], retried).await;
    process.queue.hand_back(&[held[6].lease]).await.unwrap();
    let depth = process.queue.depths().await.unwrap()[0];
    assert_eq!((depth.waiting, depth.running), (10 + 20 + 2, 3));
}

/// With `--release`, and `--ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
#[expect(clippy::print_stderr, reason = "that is what it is for")]
async fn figures_of_the_bench() {
    let Some(private) = Private::start() else { return };
    let process = Process::punctual(&private.server).await;
    let mut connection = private.server.connection();
    let mut memory = || -> String { redis::cmd("INFO").arg("memory").query(&mut connection).unwrap() };
    let used = |told: &str| told.lines().find(|line| line.starts_with("used_memory:")).unwrap().to_owned();
    let before = used(&memory());

    let load = bench::Load { rounds: vec![1_000, 1_000_000], singles: 500, payload: 200 };
    let measured = bench::measure(&process.context(), &process.engine(), &load).await.unwrap();

    eprintln!("{measured:?}\n{before} before, {} after", used(&memory()));
    assert_eq!(left_behind(&private.server), Vec::<String>::new());
}
