-- The processes that work pools, each by its last beat.

create table workers (
    name       text not null primary key,
    version    text not null,
    started_at integer not null,
    seen_at    integer not null,
    pools      text not null  -- JSON: for each pool its concurrency, and what runs and was done at the last beat
) strict;
