-- The processes that work pools, each by its last beat.

create table workers (
    name       text collate "C" not null primary key,
    version    text not null,
    started_at bigint not null,
    seen_at    bigint not null,
    pools      text not null  -- JSON: for each pool its concurrency, and what runs and was done at the last beat
);
