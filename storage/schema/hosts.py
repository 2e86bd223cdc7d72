"""Hosts, and the cursors of their streams."""

from __future__ import annotations

import sqlalchemy as sa

from storage.schema.columns import NOW, ZERO, flag, int4, int8, table, text, time

host = table(
    "host",
    int4("id", sa.Identity(), primary_key=True),
    text("hostname", unique=True),
    text("url"),
    # storage.hosts.host_rows.HOST_STATES, and the mode while it is healthy
    text("state", server_default="new"),
    text("mode", server_default="stream"),
    time("moved_at", server_default=NOW),
    # configured | request_crawl | relay | did_document | plc
    text("source", server_default="configured"),
    # a relay forwards other hosts' commits, by configuration
    flag("relay", server_default=sa.false()),
    time("first_seen", server_default=NOW),
    time("last_seen", nullable=True),
    # stream: handled events, and the host's time of the newest
    int8("events", server_default=ZERO),
    time("last_event_at", nullable=True),
    # events a second, recent and usual, and the counts they were made from
    sa.Column("rate", sa.Float, nullable=False, server_default=ZERO),
    sa.Column("usual_rate", sa.Float, nullable=False, server_default=ZERO),
    int8("measured_events", server_default=ZERO),
    time("measured_at", nullable=True),
    # the last measure with new events, and the longest pause between two, fading
    time("fresh_at", nullable=True),
    sa.Column("usual_gap", sa.Float, nullable=False, server_default=ZERO),
    # times that its stream did not reach back to our cursor
    int4("gaps", server_default=ZERO),
    time("gap_at", nullable=True),
    # cursor of listRepos, and the last time it reached the end
    text("list_cursor", nullable=True),
    time("listed_at", nullable=True),
    time("polled_at", nullable=True),
    # seconds between two polls, growing while nothing changes
    sa.Column("poll_every", sa.Float, nullable=True),
    # the last request to crawl it
    time("asked_at", nullable=True),
    # limits set by the operator; NULL for the general one
    int4("max_accounts", nullable=True),
    int4("accounts_per_day", nullable=True),
    sa.Column("events_per_s", sa.Float, nullable=True),
    sa.Column("bytes_per_s", sa.Float, nullable=True),
    int4("accounts", server_default=ZERO),
    # new accounts admitted on the day `admitted_on` (UTC)
    sa.Column("admitted_on", sa.Date, nullable=True),
    int4("admitted", server_default=ZERO),
    sa.Column("requests_per_s", sa.Float, nullable=True),
    time("rate_limited_until", nullable=True),
    # as of `strikes_at`: they fade
    sa.Column("strikes", sa.Float, nullable=False, server_default=ZERO),
    time("strikes_at", nullable=True),
    int4("tries", server_default=ZERO),
    time("next_try", nullable=True),
    text("error", nullable=True),
    time("error_at", nullable=True),
    text("software", nullable=True),
)

# The last changes of each host's state, for its operator.
host_move = table(
    "host_move",
    int8("id", sa.Identity(), primary_key=True),
    int4("host"),
    time("at", server_default=NOW),
    text("before"),
    text("after"),
    text("why"),
    sa.Index("host_move_host_id_idx", "host", "id"),
)

# Position in a list of hosts that only grows.
host_source = table(
    "host_source",
    text("name", primary_key=True),
    int8("position"),
)

# One row for each shard that applies events of the host: a stream resumes from the
# lowest, so that no shard's unfinished work is skipped.
host_cursor = table(
    "host_cursor",
    int4("host", primary_key=True, autoincrement=False),
    int4("shard", primary_key=True, autoincrement=False, server_default=ZERO),
    int8("seq"),
    time("updated_at", server_default=NOW),
    postgresql_with={"fillfactor": 50},
)
