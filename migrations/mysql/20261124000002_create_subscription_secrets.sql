CREATE TABLE subscription_secrets (
    subscription_id BINARY(16) NOT NULL,
    key_id VARCHAR(64) NOT NULL,
    secret VARCHAR(255) NOT NULL,
    expires_at BIGINT,
    PRIMARY KEY (subscription_id, key_id),
    FOREIGN KEY (subscription_id) REFERENCES subscriptions (id)
) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
