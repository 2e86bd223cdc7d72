"""Identities and the mirror of the PLC directory."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from storage.schema.columns import NOW, ZERO, int4, int8, metadata, octets, text, time

# document NULL: the resolution failed, `error` says how (negative cache).
identity = sa.Table(
    "identity",
    metadata,
    text("did", primary_key=True),
    sa.Column("document", pg.JSONB, nullable=True),
    text("error", nullable=True),
    time("fetched_at", server_default=NOW, index=True),
)

handle_cache = sa.Table(
    "handle_cache",
    metadata,
    text("handle", primary_key=True),
    text("did", nullable=True),
    text("error", nullable=True),
    time("checked_at", server_default=NOW),
    # the domain could not be asked, so many times since then
    int4("failures", server_default=ZERO),
    time("failing_since", nullable=True),
    sa.Index("handle_cache_checked_at_idx", "checked_at"),
)

# Service tokens already seen. digest = SHA-256 of issuer and jti.
jti = sa.Table(
    "jti",
    metadata,
    octets("digest", primary_key=True),
    time("expires_at", index=True),
)

# The mirror of a PLC directory. did = the 15 bytes that the text of a did:plc spells,
# log = plc.operation_codec form of its whole proven log.
plc_log = sa.Table(
    "plc_log",
    metadata,
    octets("did", primary_key=True),
    octets("log"),
    postgresql_with={"fillfactor": 90},
)

# DIDs of which a directory published something that does not follow from what is
# proven; `plc_log` stays as it was. Their whole log is asked for, with backoff.
plc_doubt = sa.Table(
    "plc_doubt",
    metadata,
    octets("did", primary_key=True),
    text("reason"),
    time("since", server_default=NOW),
    int4("tries", server_default=ZERO),
    time("next_try", server_default=NOW, index=True),
)

# How far the export of a directory was read. caught_up_at: when a look that found
# nothing more was begun.
plc_feed = sa.Table(
    "plc_feed",
    metadata,
    text("directory", primary_key=True),
    # the number of the last operation read, or, of a directory without numbers, its
    # time in Unix milliseconds
    int8("seq", nullable=True),
    int8("time_ms", nullable=True),
    # of the operation that has this number
    text("cid", nullable=True),
    int8("operations", server_default=ZERO),
    time("caught_up_at", nullable=True),
    text("error", nullable=True),
    time("error_at", nullable=True),
)

# PDSes that proven operations name; `id` is the cursor of who looks for new hosts.
plc_host = sa.Table(
    "plc_host",
    metadata,
    int8("id", sa.Identity(), primary_key=True),
    text("url", unique=True),
    time("first_seen", server_default=NOW),
)
