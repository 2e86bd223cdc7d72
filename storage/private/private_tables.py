"""Tables of private state. `metadata` is what its migrations must equal."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

metadata: Final = sa.MetaData()

# account, subject: keyed hashes of the DID and of the subject, since the numbers of an
# index end with it. at: order within a kind. sealed: encrypted JSON.
private_item = sa.Table(
    "private_item",
    metadata,
    sa.Column("account", sa.LargeBinary, nullable=False),
    sa.Column("kind", sa.SmallInteger, nullable=False, autoincrement=False),
    sa.Column("subject", sa.BigInteger, nullable=False, autoincrement=False),
    sa.Column("flags", sa.SmallInteger, nullable=False),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.PrimaryKeyConstraint("account", "kind", "subject", name="private_item_pkey"),
    sa.Index("private_item_time_idx", "account", "kind", "at", "subject"),
    # Push registrations, whose `at` is the time of the next look.
    sa.Index("private_item_push_idx", "at", postgresql_where=sa.text("kind = 11")),
)

# Mutes of earlier versions, until a provider has encrypted them.
mute = sa.Table(
    "mute",
    metadata,
    sa.Column("viewer", sa.Text(collation="C"), nullable=False),
    sa.Column("subject", sa.Text(collation="C"), nullable=False),
    sa.Column("only_reposts", sa.Boolean, nullable=False),
    sa.Column("only_quotes", sa.Boolean, nullable=False),
    sa.Column(
        "muted_at",
        sa.DateTime(timezone=True),
        nullable=False,
        server_default=sa.text("now()"),
    ),
    sa.PrimaryKeyConstraint("viewer", "subject", name="mute_pkey"),
    sa.Index("mute_viewer_time_idx", "viewer", "muted_at", "subject"),
)

# A deleted search keeps its row, without a query, until every reader has seen `changed`
# (the order of changes).
saved_search = sa.Table(
    "saved_search",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
    sa.Column("changed", sa.BigInteger, nullable=False),
    sa.Column("owner", sa.Text(collation="C"), nullable=False),
    sa.Column("query", sa.Text, nullable=True),
    sa.Column("name", sa.Text, nullable=False, server_default=""),
    sa.Column("collections", pg.ARRAY(sa.Text), nullable=False),
    # handle -> DID
    sa.Column("accounts", pg.JSONB, nullable=False),
    # False: every record must be checked.
    sa.Column("listed", sa.Boolean, nullable=False),
    sa.Column("saved_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
    sa.PrimaryKeyConstraint("id", name="saved_search_pkey"),
    sa.Index("saved_search_owner_idx", "owner", "id"),
    sa.Index("saved_search_changed_idx", "changed"),
)

# latency, events: counts by place, see storage.private.feeds.feed_hours.
# readers: a sketch.
feed_hour = sa.Table(
    "feed_hour",
    metadata,
    sa.Column("feed", sa.Text, nullable=False),
    sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
    sa.Column("pages", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column(
        "empty_pages", sa.BigInteger, nullable=False, server_default=sa.text("0")
    ),
    sa.Column("latency", pg.ARRAY(sa.BigInteger), nullable=False, server_default="{}"),
    sa.Column("events", pg.ARRAY(sa.BigInteger), nullable=False, server_default="{}"),
    sa.Column("readers", sa.LargeBinary, nullable=False, server_default=""),
    sa.PrimaryKeyConstraint("feed", "hour", name="feed_hour_pkey"),
    sa.Index("feed_hour_hour_idx", "hour"),
)

# One row: the number of the last change.
saved_search_counter = sa.Table(
    "saved_search_counter",
    metadata,
    sa.Column("single", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("last", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("single", name="saved_search_counter_pkey"),
    sa.CheckConstraint("single", name="saved_search_counter_single_check"),
)

# position: number of the last match that was delivered. failing_since: time of the
# first failure after it. stopped_at: given up.
match_webhook = sa.Table(
    "match_webhook",
    metadata,
    sa.Column("search", sa.BigInteger, nullable=False, autoincrement=False),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("secret", sa.LargeBinary, nullable=False),
    sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("failures", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
    sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True),
    sa.Column("error", sa.Text, nullable=True),
    sa.PrimaryKeyConstraint("search", name="match_webhook_pkey"),
    sa.ForeignKeyConstraint(
        ["search"],
        ["saved_search.id"],
        name="match_webhook_search_fkey",
        ondelete="CASCADE",
    ),
)

# A feed that is written in a file, or in a record of `owner`; the provider's own feeds
# have an empty owner. A removed feed keeps its row, without a recipe, until every
# reader has seen `changed`.
feed_recipe = sa.Table(
    "feed_recipe",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
    sa.Column("changed", sa.BigInteger, nullable=False),
    sa.Column("owner", sa.Text(collation="C"), nullable=False),
    sa.Column("rkey", sa.Text(collation="C"), nullable=False),
    # TOML, or the JSON of a record.
    sa.Column("recipe", sa.Text, nullable=True),
    # handle -> DID
    sa.Column("accounts", pg.JSONB, nullable=False),
    # Name of the file that it was read from; empty for others.
    sa.Column("file", sa.Text, nullable=False, server_default=""),
    # False: every record must be checked.
    sa.Column("listed", sa.Boolean, nullable=False),
    sa.Column("saved_at", sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint("id", name="feed_recipe_pkey"),
    sa.UniqueConstraint("owner", "rkey", name="feed_recipe_owner_rkey_key"),
    sa.Index("feed_recipe_changed_idx", "changed"),
)

# One row: the number of the last change.
feed_recipe_counter = sa.Table(
    "feed_recipe_counter",
    metadata,
    sa.Column("single", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("last", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("single", name="feed_recipe_counter_pkey"),
    sa.CheckConstraint("single", name="feed_recipe_counter_single_check"),
)
