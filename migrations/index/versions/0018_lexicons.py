"""Lexicons, and records by the time of their first indexing."""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"

_TABLES = """
CREATE TABLE lexicon (
    nsid TEXT NOT NULL,
    source TEXT NOT NULL,
    document TEXT,
    plan JSONB,
    refs TEXT[] DEFAULT '{}' NOT NULL,
    error TEXT,
    fetched_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    requeue JSONB,
    CONSTRAINT lexicon_pkey PRIMARY KEY (nsid)
);
CREATE INDEX lexicon_refs_idx ON lexicon USING gin (refs);
CREATE INDEX lexicon_requeue_idx ON lexicon (nsid) WHERE requeue IS NOT NULL;
CREATE TABLE listed_record (
    rkey BIGINT NOT NULL,
    indexed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    actor INTEGER NOT NULL,
    collection INTEGER NOT NULL,
    CONSTRAINT listed_record_pkey PRIMARY KEY (actor, collection, rkey)
);
CREATE INDEX listed_record_collection_indexed_at_idx
    ON listed_record (collection, indexed_at, actor, rkey);
"""
# Records that are posts or one edge are found by other tables.
_UNLISTED = (1, 2, 3, 5, 6, 7, 8, 10, 11)


# Paths of web addresses in posts. Other records may have named them before.
_PATHS = (
    (21, ".embed.external.uri"),
    (22, ".embed.media.external.uri"),
    (23, ".facets[].features[app.bsky.richtext.facet#link].uri"),
    (
        24,
        ".facets[app.bsky.richtext.facet].features[app.bsky.richtext.facet#link].uri",
    ),
)
_RESERVE = """
DO $$
DECLARE old INTEGER := (SELECT id FROM path WHERE collection = 1 AND path = '{path}');
BEGIN
    IF old IS NULL THEN
        INSERT INTO path (id, collection, path)
            VALUES ({number}, 1, '{path}');
    ELSIF old <> {number} THEN
        UPDATE path SET id = {number} WHERE id = old;
        UPDATE link_default SET path = {number} WHERE path = old;
    END IF;
END $$
"""


def upgrade() -> None:
    op.execute(_TABLES)
    for number, path in _PATHS:
        op.execute(_RESERVE.format(number=number, path=path))
    unlisted = ", ".join(map(str, _UNLISTED))
    op.execute(
        "INSERT INTO listed_record (actor, collection, rkey, indexed_at)"
        " SELECT actor, collection, rkey, now() FROM record"
        f" WHERE collection NOT IN ({unlisted})"
    )


def downgrade() -> None:
    op.execute("DROP TABLE listed_record; DROP TABLE lexicon")
