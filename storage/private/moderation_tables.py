"""Tables of moderation: what operators decide, and what accounts report."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

metadata: Final = sa.MetaData()


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), nullable=False)


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


# One row: the number of the last decision.
moderation_counter = sa.Table(
    "moderation_counter",
    metadata,
    sa.Column("single", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("last", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("single", name="moderation_counter_pkey"),
    sa.CheckConstraint("single", name="moderation_counter_single_check"),
)

# Every decision with its reason, also after it was undone.
moderation_log = sa.Table(
    "moderation_log",
    metadata,
    sa.Column("number", sa.BigInteger, nullable=False, autoincrement=False),
    _time("decided_at"),
    _text("operator"),
    _text("action"),
    _text("subject"),
    sa.Column("reason", sa.Text, nullable=False),
    sa.PrimaryKeyConstraint("number", name="moderation_log_pkey"),
)

# Takedowns in force. The subject is a DID, an AT-URI, or DID/CID of a blob.
takedown = sa.Table(
    "takedown",
    metadata,
    _text("subject"),
    sa.Column("reason", sa.Text, nullable=False),
    _time("taken_at"),
    sa.PrimaryKeyConstraint("subject", name="takedown_pkey"),
)

# The newest label of each kind that this service has issued; `number` is its place in
# the stream. An empty `cid` stands for every version.
own_label = sa.Table(
    "own_label",
    metadata,
    sa.Column("number", sa.BigInteger, nullable=False, autoincrement=False),
    _text("uri"),
    _text("val"),
    _text("cid"),
    sa.Column("neg", sa.Boolean, nullable=False),
    _time("exp", nullable=True),
    sa.Column("raw", sa.LargeBinary, nullable=False),
    sa.PrimaryKeyConstraint("number", name="own_label_pkey"),
    sa.UniqueConstraint("uri", "val", "cid", name="own_label_subject_key"),
)

report = sa.Table(
    "report",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
    _text("reporter"),
    _text("subject"),
    _text("cid"),
    _text("reason_type"),
    sa.Column("reason", sa.Text, nullable=True),
    _time("created_at"),
    _time("closed_at", nullable=True),
    sa.PrimaryKeyConstraint("id", name="report_pkey"),
    sa.Index("report_reporter_idx", "reporter", "created_at"),
)
