-- When the steps of an upload's way were taken, which trace it belongs to, and what its jobs have failed of on the way.

alter table uploads add column issued_at integer;    -- the policy that stands was signed
alter table uploads add column landed_at integer;    -- the object was stored, as the bucket tells
alter table uploads add column verified_at integer;  -- its bytes were hashed
alter table uploads add column stored_at integer;    -- it became a file
alter table uploads add column traceparent text;     -- W3C Trace Context, level 1
alter table batches add column traceparent text;

-- One row per job that has failed, kept for a while when it has succeeded since.
create table job_failures (
    subject  blob not null,
    kind     text not null,
    attempts integer not null,  -- how many have failed
    first_at integer not null,
    last_at  integer not null,
    error    text not null,     -- of the last one
    primary key (subject, kind)
) strict, without rowid;

create index job_failures_by_age on job_failures (last_at);
