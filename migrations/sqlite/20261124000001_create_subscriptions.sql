-- Times are milliseconds since the epoch. Rows are deleted softly and go on counting versions, so
-- that an id that is made again does not lose against its own past.
CREATE TABLE subscriptions (
    id BLOB NOT NULL PRIMARY KEY,
    name TEXT,
    target_url TEXT NOT NULL,
    tenant TEXT NOT NULL,
    event_types TEXT NOT NULL,
    enabled INTEGER NOT NULL,
    disabled_reason TEXT,
    disabled_at INTEGER,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER
) STRICT;

CREATE INDEX subscriptions_by_tenant ON subscriptions (tenant, id);

CREATE TABLE subscription_secrets (
    subscription_id BLOB NOT NULL REFERENCES subscriptions (id),
    key_id TEXT NOT NULL,
    secret TEXT NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (subscription_id, key_id)
) STRICT;
