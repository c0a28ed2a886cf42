-- When the steps of an upload's way were taken, which trace it belongs to, and what its jobs have failed of on the way.

alter table uploads add column issued_at bigint;     -- the policy that stands was signed
alter table uploads add column landed_at bigint;     -- the object was stored, as the bucket tells
alter table uploads add column verified_at bigint;   -- its bytes were hashed
alter table uploads add column stored_at bigint;     -- it became a file
alter table uploads add column traceparent text;     -- W3C Trace Context, level 1
alter table batches add column traceparent text;

-- One row per job that has failed, kept for a while when it has succeeded since.
create table job_failures (
    subject  uuid not null,
    kind     text not null,
    attempts bigint not null,   -- how many have failed
    first_at bigint not null,
    last_at  bigint not null,
    error    text not null,     -- of the last one
    primary key (subject, kind)
);

create index job_failures_by_age on job_failures (last_at);
