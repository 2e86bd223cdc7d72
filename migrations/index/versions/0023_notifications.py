"""Edges by the account of their target, and what notifications need beside them."""

from __future__ import annotations

from alembic import op

revision = "0023"
down_revision = "0022"

_PARTITIONS = (
    "link_like",
    "link_repost",
    "link_reply_parent",
    "link_quote",
    "link_mention",
    "link_via",
)
_TABLES = """
CREATE TABLE distant_reply (
    rkey BIGINT NOT NULL,
    subject_rkey BIGINT NOT NULL,
    sort_at TIMESTAMP WITH TIME ZONE NOT NULL,
    actor INTEGER NOT NULL,
    recipient INTEGER NOT NULL,
    height SMALLINT NOT NULL,
    CONSTRAINT distant_reply_pkey PRIMARY KEY (actor, rkey, height)
);
CREATE INDEX distant_reply_recipient_idx
    ON distant_reply (recipient, sort_at, rkey, actor, height);
CREATE TABLE removed_verification (
    rkey BIGINT NOT NULL,
    removed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    actor INTEGER NOT NULL,
    recipient INTEGER NOT NULL,
    CONSTRAINT removed_verification_pkey PRIMARY KEY (actor, rkey)
);
CREATE INDEX removed_verification_recipient_idx
    ON removed_verification (recipient, removed_at, rkey, actor);
"""
_RESERVE = """
DO $$
DECLARE old INTEGER := (
    SELECT id FROM path WHERE collection = 14 AND path = '.joinedViaStarterPack.uri');
BEGIN
    IF old IS NULL THEN
        INSERT INTO path (id, collection, path)
            VALUES (25, 14, '.joinedViaStarterPack.uri');
    ELSIF old <> 25 THEN
        UPDATE path SET id = 25 WHERE id = old;
        UPDATE link_default SET path = 25 WHERE path = old;
    END IF;
END $$
"""
# The rows of every reply that is indexed already.
_FILL = """
INSERT INTO distant_reply (actor, rkey, height, recipient, subject_rkey, sort_at)
SELECT p.actor, p.rkey, h.height, h.actor, h.rkey, p.sort_at
FROM post p
JOIN post p1 ON p1.actor = p.parent_actor AND p1.rkey = p.parent_rkey
LEFT JOIN post p2 ON p2.actor = p1.parent_actor AND p2.rkey = p1.parent_rkey
LEFT JOIN post p3 ON p3.actor = p2.parent_actor AND p3.rkey = p2.parent_rkey
CROSS JOIN LATERAL (VALUES
    (2::int2, p1.parent_actor, p1.parent_rkey),
    (3::int2, p2.parent_actor, p2.parent_rkey),
    (4::int2, p3.parent_actor, p3.parent_rkey)
) AS h (height, actor, rkey)
WHERE h.actor <> p.actor
"""


def upgrade() -> None:
    for partition in _PARTITIONS:
        op.execute(
            f"CREATE INDEX {partition}_recipient_idx"
            f" ON {partition} (target_actor, sort_at, rkey)"
        )
    op.execute(_RESERVE)
    # Verifications, and joins by a starter pack.
    op.execute(
        "CREATE INDEX link_default_recipient_idx"
        " ON link_default (target_actor, sort_at, rkey) WHERE path IN (19, 25)"
    )
    op.execute(_TABLES)
    op.execute(_FILL)


def downgrade() -> None:
    op.execute("DROP TABLE distant_reply; DROP TABLE removed_verification")
    for partition in (*_PARTITIONS, "link_default"):
        op.execute(f"DROP INDEX {partition}_recipient_idx")
