"""Time slices and word counts of the postgres search engine.

The index of earlier versions is dropped; every account is queued to be indexed anew.
"""

from __future__ import annotations

from alembic import op

revision = "0020"
down_revision = "0019"

_SLICES = range(5)
_DOCUMENT = """
CREATE TABLE search_document_{n} (
    rkey BIGINT NOT NULL,
    ts TIMESTAMP WITH TIME ZONE NOT NULL,
    actor INTEGER NOT NULL,
    collection INTEGER NOT NULL,
    tsv TSVECTOR NOT NULL,
    CONSTRAINT search_document_{n}_pkey PRIMARY KEY (actor, collection, rkey)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 2000,
        autovacuum_analyze_scale_factor = 0.2);
CREATE INDEX search_document_{n}_tsv_idx ON search_document_{n} USING gin (tsv)
    WITH (gin_pending_list_limit = 256);
CREATE INDEX search_document_{n}_key_idx
    ON search_document_{n} (ts, actor, collection, rkey);
"""
_OTHERS = """
CREATE TABLE search_slice (
    slice INTEGER NOT NULL,
    documents BIGINT NOT NULL,
    ts TIMESTAMP WITH TIME ZONE,
    actor INTEGER,
    collection INTEGER,
    rkey BIGINT,
    CONSTRAINT search_slice_pkey PRIMARY KEY (slice)
);
INSERT INTO search_slice (slice, documents) SELECT n, 0 FROM generate_series(0, 4) n;
CREATE TABLE search_actor (
    actor INTEGER NOT NULL,
    handle TEXT COLLATE "C",
    tsv TSVECTOR NOT NULL,
    CONSTRAINT search_actor_pkey PRIMARY KEY (actor)
);
CREATE INDEX search_actor_handle_idx ON search_actor (handle);
CREATE INDEX search_actor_tsv_idx ON search_actor USING gin (tsv)
    WITH (gin_pending_list_limit = 128);
CREATE TABLE search_word (
    word TEXT COLLATE "C" NOT NULL,
    documents INTEGER NOT NULL,
    variants INTEGER[],
    CONSTRAINT search_word_pkey PRIMARY KEY (word)
) WITH (fillfactor = 80);
CREATE INDEX search_word_variants_idx ON search_word USING gin (variants)
    WITH (gin_pending_list_limit = 128);
"""
_COLUMNS = "rkey, ts, actor, collection, tsv"


def upgrade() -> None:
    op.execute("DROP TABLE search_document, search_actor, search_word")
    for n in _SLICES:
        op.execute(_DOCUMENT.format(n=n))
    op.execute(_OTHERS)
    parts = (f"SELECT {_COLUMNS} FROM search_document_{n}" for n in _SLICES)
    op.execute("CREATE VIEW search_document AS " + " UNION ALL ".join(parts))
    # Every account with all its records is indexed again.
    op.execute("TRUNCATE search_outbox")
    op.execute(
        "INSERT INTO search_outbox (actor, collection, rkey) "
        "SELECT actor, 0, 0 FROM repo ORDER BY actor"
    )


def downgrade() -> None:
    op.execute("DROP VIEW search_document")
    for n in _SLICES:
        op.execute(f"DROP TABLE search_document_{n}")
    op.execute("DROP TABLE search_slice, search_actor, search_word")
    op.execute(
        """
        CREATE TABLE search_document (
            rkey BIGINT NOT NULL,
            ts TIMESTAMP WITH TIME ZONE NOT NULL,
            actor INTEGER NOT NULL,
            collection INTEGER NOT NULL,
            tsv TSVECTOR NOT NULL,
            CONSTRAINT search_document_pkey PRIMARY KEY (actor, collection, rkey)
        );
        CREATE INDEX search_document_tsv_idx ON search_document USING gin (tsv);
        CREATE INDEX search_document_collection_ts_idx
            ON search_document (collection, ts);
        CREATE INDEX search_document_actor_ts_idx ON search_document (actor, ts);
        CREATE TABLE search_actor (
            actor INTEGER NOT NULL,
            handle TEXT,
            tsv TSVECTOR NOT NULL,
            CONSTRAINT search_actor_pkey PRIMARY KEY (actor)
        );
        CREATE INDEX search_actor_tsv_idx ON search_actor USING gin (tsv);
        CREATE TABLE search_word (
            word TEXT NOT NULL,
            documents INTEGER NOT NULL,
            trigrams TEXT[] NOT NULL,
            CONSTRAINT search_word_pkey PRIMARY KEY (word)
        );
        CREATE INDEX search_word_trigrams_idx ON search_word USING gin (trigrams);
        """
    )
