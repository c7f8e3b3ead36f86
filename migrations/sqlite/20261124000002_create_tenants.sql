-- Raised in the same transaction as every change to a subscription of the tenant: the version of
-- the tenant's list.
CREATE TABLE tenants (
    tenant TEXT NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL
) STRICT;
