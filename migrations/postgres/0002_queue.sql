-- The queue where it lives in the database, and what stays in the ledger wherever the queue lives: dead letters, pause
-- flags and the last tick of each schedule.

create table jobs (
    id           bigint generated always as identity primary key,
    kind         text collate "C" not null,
    subject      uuid not null,
    pool         text collate "C" not null,
    lane         bigint not null,            -- 0 interactive, 1 bulk: the smaller goes first
    state        bigint not null default 0,  -- 0 waiting, 1 claimed, 2 running
    run_at       bigint not null,
    payload      text not null,
    attempts     bigint not null default 0,
    crashes      bigint not null default 0,  -- how often its worker died while it ran
    losses       bigint not null default 0,  -- how often a lease was lost, whether it ran or not
    again_at     bigint,                     -- pushed while it was held: run once more, not before then
    again_lane   bigint,
    token        bigint,                     -- random per claim; what carries a stale one does nothing
    lease_until  bigint,
    worker       text,
    error        text,                       -- of the last attempt
    created_at   bigint not null,
    unique (kind, subject)
)
-- Rows come and go by the thousand: a vacuum that waited for a fifth of a large backlog would leave claims to wade through
-- what is dead, and one that rested in between would never catch up.
with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

-- With the id, unlike on SQLite, where it stands at the end of every index anyhow: a claim takes them in this order.
create index jobs_waiting on jobs (pool, lane, run_at, id) where state = 0;
create index jobs_leased on jobs (lease_until) where state > 0;

create table dead_letters (
    id         uuid not null primary key,
    kind       text not null,
    subject    uuid not null,
    pool       text collate "C" not null,
    lane       text not null check (lane in ('interactive', 'bulk')),
    payload    text not null,
    attempts   bigint not null,
    crashes    bigint not null,
    reason     text not null,
    error      text not null,
    died_at    bigint not null,
    unique (kind, subject)
);

create index dead_letters_by_subject on dead_letters (subject);

create table pools (
    name      text collate "C" not null primary key,
    paused_at bigint
);

create table schedules (
    name      text not null primary key,
    last_tick bigint not null
);
