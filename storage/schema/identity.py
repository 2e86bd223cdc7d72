"""Identities and the mirror of the PLC directory."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from storage.schema.columns import NOW, ZERO, int4, int8, octets, table, text, time

# document NULL: the resolution failed, `error` says how (negative cache).
identity = table(
    "identity",
    text("did", primary_key=True),
    sa.Column("document", pg.JSONB, nullable=True),
    text("error", nullable=True),
    time("fetched_at", server_default=NOW, index=True),
)

handle_cache = table(
    "handle_cache",
    text("handle", primary_key=True),
    text("did", nullable=True),
    text("error", nullable=True),
    time("checked_at", server_default=NOW),
    # number of failures to ask the domain, and their start
    int4("failures", server_default=ZERO),
    time("failing_since", nullable=True),
    sa.Index("handle_cache_checked_at_idx", "checked_at"),
)

# Used service tokens. digest = SHA-256 of issuer and jti.
jti = table(
    "jti",
    octets("digest", primary_key=True),
    time("expires_at", index=True),
)

# The mirror of a PLC directory. did = the 15 bytes that the text of a did:plc spells,
# log = plc.operation_codec form of its whole proven log.
plc_log = table(
    "plc_log",
    octets("did", primary_key=True),
    octets("log"),
    postgresql_with={"fillfactor": 90},
)

# DIDs with a published operation that does not follow from the proven ones. `plc_log`
# stays unchanged, and the whole log is fetched again, with backoff.
plc_doubt = table(
    "plc_doubt",
    octets("did", primary_key=True),
    text("reason"),
    time("since", server_default=NOW),
    int4("tries", server_default=ZERO),
    time("next_try", server_default=NOW, index=True),
)

# Position in the export of a directory. caught_up_at: the start of a request that
# found nothing more.
plc_feed = table(
    "plc_feed",
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

# PDSes that proven operations name; `id` is the cursor of the host discovery.
plc_host = table(
    "plc_host",
    int8("id", sa.Identity(), primary_key=True),
    text("url", unique=True),
    time("first_seen", server_default=NOW),
)
