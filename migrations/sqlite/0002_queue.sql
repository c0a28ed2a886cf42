-- The queue where it lives in the database, and what stays in the ledger wherever the queue lives: dead letters, pause
-- flags and the last tick of each schedule.

create table jobs (
    id           integer primary key,
    kind         text not null,
    subject      blob not null,
    pool         text not null,
    lane         integer not null,            -- 0 interactive, 1 bulk: the smaller goes first
    state        integer not null default 0,  -- 0 waiting, 1 claimed, 2 running
    run_at       integer not null,
    payload      text not null,
    attempts     integer not null default 0,
    crashes      integer not null default 0,  -- how often its worker died while it ran
    losses       integer not null default 0,  -- how often a lease was lost, whether it ran or not
    again_at     integer,                     -- pushed while it was held: run once more, not before then
    again_lane   integer,
    token        integer,                     -- random per claim; what carries a stale one does nothing
    lease_until  integer,
    worker       text,
    error        text,                        -- of the last attempt
    created_at   integer not null,
    unique (kind, subject)
) strict;

create index jobs_waiting on jobs (pool, lane, run_at) where state = 0;
create index jobs_leased on jobs (lease_until) where state > 0;

create table dead_letters (
    id         blob not null primary key,
    kind       text not null,
    subject    blob not null,
    pool       text not null,
    lane       text not null check (lane in ('interactive', 'bulk')),
    payload    text not null,
    attempts   integer not null,
    crashes    integer not null,
    reason     text not null,
    error      text not null,
    died_at    integer not null,
    unique (kind, subject)
) strict;

create index dead_letters_by_subject on dead_letters (subject);

create table pools (
    name      text not null primary key,
    paused_at integer
) strict;

create table schedules (
    name      text not null primary key,
    last_tick integer not null
) strict;
