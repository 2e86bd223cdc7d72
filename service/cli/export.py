"""`bigworld export …`: the index as a folder of Parquet files that follows it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from export.compaction import compact as compact_folder
from export.exporter import PROMISE_HOURS, Exporter
from export.json_lines import JSON_LINES
from export.manifest import PARQUET, ExportFolder, read_manifest
from export.scan import scan_export
from service.cli.groups import AsJson, make_group, read_config
from service.cli.progress import Report
from service.operator_errors import ServiceError
from service.runtime.databases import INDEX, PRIVATE, open_database, open_existing
from service.runtime.garbage_collection import tune_gc
from storage.postgres.pool import Conn, connect
from storage.private.takedowns import TakenDown, load_taken_down

app = make_group(
    "export",
    "Without a command it writes what changed: `bigworld export --to FOLDER`.",
    bare="run",
)


class Format(StrEnum):
    """Forms of an export."""

    PARQUET = PARQUET
    JSONL = JSON_LINES


Folder = Annotated[Path, typer.Argument(help="The folder of the export.")]
_ROWS: Final = "rows"


@app.command()
def run(
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="The folder.")],
    hours: Annotated[
        float,
        typer.Option(min=0.1, help="Hours until a deleted row is gone from all files."),
    ] = PROMISE_HOURS,
    form: Annotated[
        Format, typer.Option("--format", help="The form of a new export.")
    ] = Format.PARQUET,
    as_json: AsJson = False,
) -> None:
    """Write what changed since the last run, or everything at first."""
    config = read_config()
    tune_gc()
    started = time.monotonic()
    with (
        Report(Console(stderr=True)) as report,
        open_existing(config, INDEX, start=True) as url,
        open_database(config, PRIVATE) as private_url,
        connect(url) as conn,
        connect(url) as reading,
        connect(private_url) as private,
        ExportFolder(to) as folder,
    ):
        exporter = Exporter(folder, conn, reading, hours, form.value)
        total = _rows_in(conn) if not folder.manifest.increments else 0
        rows = exporter.run(
            load_taken=lambda: _load_taken(private),
            count=lambda done: report.count(_ROWS, done, max(done + 1, total)),
        )
        if exporter.started_over and not as_json:
            report.say("the index does not know this export: it was written anew")
        manifest = folder.manifest
    fields = {
        "folder": str(to),
        "seq": manifest.last,
        "rows": rows,
        "files": len(manifest.parts),
        "seconds": round(time.monotonic() - started, 3),
        "started_over": exporter.started_over,
    }
    if as_json:
        typer.echo(json.dumps(fields))
    else:
        typer.echo(f"{rows:,} rows written to {to}, up to sequence {manifest.last:,}")


@app.command()
def compact(folder: Folder) -> None:
    """Remove deleted rows from the files now."""
    with Report(Console(stderr=True)) as report, ExportFolder(folder) as opened:
        if not opened.manifest.token:
            raise ServiceError(f"{folder} is no export")
        done = compact_folder(opened, lambda n, of: report.count("files", n, of))
    typer.echo(f"{done.rows:,} rows removed, {done.files:,} files written anew")


@app.command()
def verify(folder: Folder, as_json: AsJson = False) -> None:
    """Read all files; exit 1 for a difference or a late deletion."""
    with Report(Console(stderr=True)) as report:
        found = scan_export(folder, count=lambda n, of: report.count("files", n, of))
    if as_json:
        typer.echo(json.dumps({**asdict(found), "sound": found.is_sound}))
    else:
        for fault in found.faults:
            typer.echo(fault)
        promise = read_manifest(folder).promise_hours
        typer.echo(
            f"{found.files:,} files, {found.rows:,} rows read; {found.dead:,} deleted"
            f" rows are overdue, {found.pending:,} will be removed within"
            f" {promise:g} hours"
        )
    if not found.is_sound:
        raise typer.Exit(1)


def _load_taken(private: Conn) -> TakenDown:
    taken = load_taken_down(private, 0)
    private.commit()
    return taken


def _rows_in(conn: Conn) -> int:
    """Return the number of records that the planner estimates."""
    row = conn.execute(
        "SELECT coalesce(sum(greatest(reltuples, 0)), 0)::int8 FROM pg_class"
        " WHERE oid IN (SELECT relid FROM pg_partition_tree('record'))"
    ).fetchone()
    conn.commit()
    return int(row[0]) if row else 0
