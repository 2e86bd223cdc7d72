"""What is watched, and what the audit found."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from storage.schema.columns import NOW, int4, int8, metadata, text, time

# Counters measured again and again: events a second lately, and as it usually is.
gauge = sa.Table(
    "gauge",
    metadata,
    text("name", primary_key=True),
    sa.Column("total", sa.Float, nullable=False),
    sa.Column("rate", sa.Float, nullable=False),
    sa.Column("usual", sa.Float, nullable=False),
    time("at", server_default=NOW),
    time("since", server_default=NOW),
)

# Who is at work: one row a process and a scheduled task, with its own figures.
pulse = sa.Table(
    "pulse",
    metadata,
    text("name", primary_key=True),
    time("at", server_default=NOW),
    sa.Column("figures", pg.JSONB, nullable=False),
)

# What the audit found of repos drawn at random, the newest of them; verdicts are in
# audit.samples.
audit_sample = sa.Table(
    "audit_sample",
    metadata,
    int8("id", sa.Identity(), primary_key=True),
    int4("actor"),
    text("verdict"),
    text("detail", nullable=True),
    time("at", server_default=NOW),
)
