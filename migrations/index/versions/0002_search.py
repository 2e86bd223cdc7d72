"""Tables of the postgres search engine."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
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


def downgrade() -> None:
    op.execute("DROP TABLE search_word; DROP TABLE search_actor")
    op.execute("DROP TABLE search_document")
