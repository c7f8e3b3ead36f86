-- Raised in the same transaction as every change to a subscription of the tenant: the version of
-- the tenant's list.
CREATE TABLE tenants (
    tenant VARCHAR(255) NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL
) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
