"""Rates, heartbeats and findings of the audit."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from storage.schema.columns import NOW, int4, int8, table, text, time

# Measured counters: events a second, recent and usual.
gauge = table(
    "gauge",
    text("name", primary_key=True),
    sa.Column("total", sa.Float, nullable=False),
    sa.Column("rate", sa.Float, nullable=False),
    sa.Column("usual", sa.Float, nullable=False),
    time("at", server_default=NOW),
    time("since", server_default=NOW),
)

# Heartbeats: one row for each process and scheduled task, with its figures.
pulse = table(
    "pulse",
    text("name", primary_key=True),
    time("at", server_default=NOW),
    sa.Column("figures", pg.JSONB, nullable=False),
)

# The newest findings of the audit; verdicts are in audit.samples.
audit_sample = table(
    "audit_sample",
    int8("id", sa.Identity(), primary_key=True),
    int4("actor"),
    text("verdict"),
    text("detail", nullable=True),
    time("at", server_default=NOW),
)
