"""Records as JSON for SQL, written by the drain.

Stored bytes are compressed with a dictionary, which SQL cannot read. The drain knows
every record that changed, so that it keeps the copy. docs/adr/0031-analytics.md has the
reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from protocol.data.cbor import decode
from protocol.data.json_form import to_json
from protocol.errors import ProtocolError
from search.matches.match_pass import DrainedRecords, LogMatches
from storage.postgres.arrays import int_array, int_columns
from storage.postgres.pool import Conn
from storage.postgres.text import clean_text
from storage.records.addresses import Address
from storage.records.record_rows import fetch_pieces


def keep_json(log_matches: LogMatches) -> LogMatches:
    """Return a listener of the drain that keeps JSON, then calls `log_matches`."""

    def log(conn: Conn, drained: DrainedRecords) -> None:
        write_json(conn, drained)
        log_matches(conn, drained)

    return log


def write_json(conn: Conn, drained: DrainedRecords) -> None:
    """Write the JSON of drained records, and remove that of gone ones.

    Does not commit.
    """
    # Records without text leave the search index, but they are records.
    addresses = sorted({*(d.address for d in drained.records), *drained.deleted})
    for asked, found in fetch_pieces(conn, addresses):
        rows = {address: _json(value) for address, value in found.items()}
        _put(conn, {address: text for address, text in rows.items() if text})
        _remove(conn, [a for a in asked if not rows.get(Address(*a))])
    if drained.gone:
        conn.execute(
            "DELETE FROM record_json WHERE actor = ANY(%s::int4[])",
            (int_array(drained.gone),),
        )


def _put(conn: Conn, rows: dict[Address, str]) -> None:
    if rows:
        conn.execute(
            """
            INSERT INTO record_json (actor, collection, rkey, record)
            SELECT actor, collection, rkey, record::jsonb
            FROM unnest(%s::int4[], %s::int4[], %s::int8[], %s::text[])
                AS x (actor, collection, rkey, record)
            ON CONFLICT (actor, collection, rkey) DO UPDATE
            SET record = excluded.record WHERE record_json.record <> excluded.record
            """,
            (*int_columns(list(rows), 3), list(rows.values())),
        )


def _remove(conn: Conn, addresses: Sequence[tuple[int, int, int]]) -> None:
    if addresses:
        conn.execute(
            """
            DELETE FROM record_json j USING
                unnest(%s::int4[], %s::int4[], %s::int8[])
                    AS d (actor, collection, rkey)
            WHERE j.actor = d.actor AND j.collection = d.collection AND j.rkey = d.rkey
            """,
            int_columns(addresses, 3),
        )


def _json(value: bytes) -> str | None:
    """Return the JSON of a record's bytes, None if they are no record."""
    try:
        form = to_json(decode(value))
    except ProtocolError:
        return None
    text = orjson.dumps(form).decode()
    if "\\u0000" in text:
        # Postgres refuses NUL; the exact bytes are in `record`.
        text = orjson.dumps(_without_nul(form)).decode()
    return text


def _without_nul(form: Any) -> Any:
    if isinstance(form, str):
        return clean_text(form, len(form))
    if isinstance(form, list):
        return [_without_nul(item) for item in form]
    if isinstance(form, dict):
        return {_without_nul(key): _without_nul(item) for key, item in form.items()}
    return form
