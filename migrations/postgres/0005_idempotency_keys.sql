-- What was made for an `Idempotency-Key`, so that the same request makes it once.

create table idempotency_keys (
    org_id      uuid not null references orgs (id),
    route       text not null check (route in ('uploads', 'batches')),
    key         text collate "C" not null,
    body_sha256 text not null,
    made        uuid not null,  -- the upload or the batch
    created_at  bigint not null,
    primary key (org_id, route, key)
);

create index idempotency_keys_by_age on idempotency_keys (created_at);
