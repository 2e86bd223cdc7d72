"""`bigworld label …`: labels that this service issues, and reports to it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from labels.signed_label import LabelError, label_json
from service.cli.groups import AsJson, Limit, make_group, read_config
from service.cli.moderation.subjects import (
    Labelled,
    find_subject,
    operator_name,
    read_cid,
)
from service.cli.table import print_rows
from service.moderation import open_moderation
from service.operator_errors import ConfigError, ServiceError
from storage.private.decisions import log_decision
from storage.private.own_labels import newest_labels
from storage.private.reports import close_report, load_reports

app = make_group("label")

Value = Annotated[
    str, typer.Argument(metavar="VALUE", help="The label, such as `spam` or `!hide`.")
]
Cid = Annotated[
    str | None, typer.Option("--cid", help="Only this version of the record.")
]


@app.command()
def add(
    subject: Labelled,
    value: Value,
    reason: Annotated[
        str, typer.Option("--reason", help="The reason, for `takedown log`.")
    ],
    cid: Cid = None,
    days: Annotated[
        float | None,
        typer.Option("--days", min=0.001, max=36_500, help="Days until it expires."),
    ] = None,
) -> None:
    """Label an account or a record."""
    if not reason.strip():
        raise ConfigError("--reason is empty; `takedown log` shows it")
    exp = None if days is None else datetime.now(UTC) + timedelta(days=days)
    _issue(subject, value, reason, cid, exp=exp)
    typer.echo(f"{subject} is labelled {value}")


@app.command()
def remove(
    subject: Labelled,
    value: Value,
    reason: Annotated[
        str, typer.Option("--reason", help="The reason, for `takedown log`.")
    ] = "",
    cid: Cid = None,
) -> None:
    """Take a label of this service back."""
    _issue(subject, value, reason, cid, neg=True)
    typer.echo(f"{subject} is no longer labelled {value}")


@app.command("list")
def list_all(limit: Limit = 1_000, as_json: AsJson = False) -> None:
    """List the labels of this service, newest first."""
    with (
        open_moderation(read_config()) as moderation,
        moderation.private.read() as conn,
    ):
        rows = [label_json(raw) for raw in newest_labels(conn, limit)]
    shown = [{"cid": None, "exp": None, **row} for row in rows]
    columns = ("uri", "val", "cts", "exp", "cid")
    print_rows(rows if as_json else shown, columns, as_json=as_json)


@app.command()
def reports(
    limit: Limit = 100,
    closed: Annotated[
        bool, typer.Option("--closed", help="List closed reports instead.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List reports of accounts, newest first."""
    with (
        open_moderation(read_config()) as moderation,
        moderation.private.read() as conn,
    ):
        found = load_reports(conn, limit=limit, closed=closed)
    columns = ("id", "created_at", "reporter", "subject", "reason_type", "reason")
    print_rows([asdict(report) for report in found], columns, as_json=as_json)


@app.command()
def close(
    number: Annotated[int, typer.Argument(metavar="ID", help="As `label reports`.")],
    reason: Annotated[
        str, typer.Option("--reason", help="The reason, for `takedown log`.")
    ] = "",
) -> None:
    """Close a report."""
    with (
        open_moderation(read_config()) as moderation,
        moderation.private.write() as conn,
    ):
        report = close_report(conn, number)
        if report is None:
            raise ServiceError(f"there is no open report {number}; see `label reports`")
        log_decision(
            conn,
            operator=operator_name(),
            action=f"close report {number}",
            subject=report.subject,
            reason=reason.strip(),
        )
    typer.echo(f"report {number} is closed")


def _issue(
    subject: str,
    value: str,
    reason: str,
    cid: str | None,
    *,
    exp: datetime | None = None,
    neg: bool = False,
) -> None:
    config = read_config()
    uri = find_subject(config, subject)
    version = read_cid(cid)
    with open_moderation(config) as moderation:
        try:
            issued = moderation.issue(
                uri,
                value,
                operator=operator_name(),
                reason=reason.strip(),
                cid=version,
                exp=exp,
                neg=neg,
            )
        except LabelError as error:
            raise ConfigError(
                f"{value[:80]!r} on {uri} is not accepted: {error.fault.value}"
            ) from None
    if issued is None:
        raise ServiceError(
            f"{uri} is not labelled {value} by this service; see `bigworld label list`"
        )
