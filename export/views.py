"""Views for DuckDB that hide what tombstones and newer rows replace: `views.sql`.

An empty file of each table lets a view exist before the table has rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from export.layout import DATA_TABLES, LATEST_ONLY, TABLES, TOMBSTONES, Table

VIEWS: Final = "views.sql"
EMPTY: Final = "empty.parquet"
_HEAD: Final = """\
-- Views of this export for DuckDB; run it in this folder: duckdb -init views.sql
"""
_TOMBSTONES: Final = """
CREATE OR REPLACE VIEW removed_accounts AS
    SELECT did, max(seq) AS seq FROM {source} WHERE nsid IS NULL GROUP BY did;
CREATE OR REPLACE VIEW removed_records AS
    SELECT did, nsid, rkey, max(seq) AS seq FROM {source}
    WHERE nsid IS NOT NULL GROUP BY did, nsid, rkey;
"""
_VIEW: Final = """
CREATE OR REPLACE VIEW {name} AS
    SELECT r.* FROM {source} r
    ANTI JOIN removed_accounts a ON a.did = r.did AND a.seq > r.seq{records}{latest};
"""
_RECORDS: Final = """
    ANTI JOIN removed_records d
        ON d.did = r.did AND d.nsid = r.nsid AND d.rkey = r.rkey AND d.seq > r.seq"""
_LATEST: Final = """
    QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY r.seq DESC) = 1"""


def write_views(folder: Path) -> None:
    """Write `views.sql`, and the empty files."""
    for table in TABLES.values():
        path = folder / table.name / EMPTY
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.schema.empty_table(), path)
    (folder / VIEWS).write_text(duckdb_views())


def duckdb_views(folder: str = "") -> str:
    """Return the statements of the views, with files below `folder`."""
    views = [_TOMBSTONES.format(source=_source(folder, TOMBSTONES))]
    for table in DATA_TABLES:
        key = ", ".join(f"r.{name}" for name in table.key)
        views.append(
            _VIEW.format(
                name=table.name,
                source=_source(folder, table),
                records=_RECORDS if "nsid" in table.schema.names else "",
                latest=_LATEST.format(key=key) if table.name in LATEST_ONLY else "",
            )
        )
    return _HEAD + "".join(views)


def _source(folder: str, table: Table) -> str:
    files = f"{folder}{table.name}/**/*.parquet".replace("'", "''")
    return f"read_parquet('{files}', hive_partitioning = false)"
