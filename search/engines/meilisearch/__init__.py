"""The `meilisearch` engine: one large server beside Postgres."""
