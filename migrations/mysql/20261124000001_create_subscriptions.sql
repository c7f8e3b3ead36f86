-- MySQL 8 and MariaDB 10.11 both. One statement a file, for each commits by itself. Times are
-- milliseconds since the epoch. Rows are deleted softly and go on counting versions, so that an
-- id that is made again does not lose against its own past.
CREATE TABLE subscriptions (
    id BINARY(16) NOT NULL PRIMARY KEY,
    name VARCHAR(255),
    target_url VARCHAR(2048) NOT NULL,
    tenant VARCHAR(255) NOT NULL,
    event_types MEDIUMTEXT NOT NULL,
    enabled BOOLEAN NOT NULL,
    disabled_reason VARCHAR(255),
    disabled_at BIGINT,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT,
    KEY subscriptions_by_tenant (tenant, id)
) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
