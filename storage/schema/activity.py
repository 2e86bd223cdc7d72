"""Activity by hour, and records as JSON for SQL."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from storage.schema.columns import int2, int4, int8, table, text, time

# Records by time, kind and language. `at`: an hour, or a day where it is old. kind 0:
# posts. 1 to 4: likes, reposts, follows and blocks, as their paths. 10: posts of a
# language. 20: accounts that posted or liked that day.
activity = table(
    "activity",
    time("at", primary_key=True),
    int2("kind", primary_key=True, autoincrement=False),
    text("key", primary_key=True),
    int8("n"),
)

# Changes that triggers of `post` and `link` append in the transaction of the records;
# they are added to `activity` later, and count at once.
activity_change = table(
    "activity_change",
    time("at"),
    int2("kind"),
    text("key"),
    int8("n"),
)

# Records as JSON, for SQL; written by the drain with BIGWORLD_SQL_RECORDS.
record_json = table(
    "record_json",
    int4("actor", primary_key=True, autoincrement=False),
    int4("collection", primary_key=True, autoincrement=False),
    int8("rkey", primary_key=True, autoincrement=False),
    sa.Column("record", pg.JSONB, nullable=False),
)
