"""`bigworld repo …`: list, export, audit and resync repos."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import psycopg
import typer
from psycopg.rows import dict_row
from rich.console import Console

from audit.index_audit import IndexAudit, synchronized_repos
from audit.repo_audit import UnknownRepoError
from audit.row_audit import MOST_LINK_BYTES
from indexer.repos.export import open_export
from protocol.errors import ProtocolError
from protocol.syntax.did import Did
from service.cli.account_names import find_account, find_accounts
from service.cli.groups import Account, Accounts, AsJson, Limit, make_group, read_config
from service.cli.progress import Report
from service.cli.table import print_rows
from service.operator_errors import ServiceError
from service.outgoing import make_fetcher
from service.runtime.config import Config
from service.runtime.databases import INDEX, open_existing
from storage.postgres.pool import open_pool
from storage.records.interning import Interner
from storage.repos import repo_rows

_COLUMNS: Final = ("did", "handle", "hostname", "state", "rev", "tries", "error")

app = make_group(
    "repo", "`bigworld repo` lists them, pending and failing ones first.", bare="list"
)


class RepoState(StrEnum):
    """States of a repo."""

    DESYNCHRONIZED = "desynchronized"
    RESYNCING = "resyncing"
    SYNCHRONIZED = "synchronized"


@app.command("list")
def list_repos(
    account: Annotated[
        str | None, typer.Argument(help="Only this account, by DID or handle.")
    ] = None,
    state: Annotated[
        RepoState | None, typer.Option(help="Only repos in this state.")
    ] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List repos, pending and failing ones first."""
    config = read_config()
    did = None if account is None else find_account(config, account)
    _print_repos(config, did, state, limit, as_json=as_json)


@app.command()
def resync(account: Account, as_json: AsJson = False) -> None:
    """Fetch an account's repo again."""
    config = read_config()
    did = find_account(config, account)
    with open_existing(config, INDEX, start=True) as url, psycopg.connect(url) as conn:
        if did not in repo_rows.find_repos(conn, [did]):
            raise _unknown(did)
        repo_rows.mark_desynchronized(conn, [did], "requested by the operator")
    _print_repos(config, did, None, 1, as_json=as_json)


@app.command()
def export(
    account: Account,
    path: Annotated[Path, typer.Argument(help="The CAR file to write.")],
) -> None:
    """Write an account's whole repo, as it was signed, to a CAR file."""
    config = read_config()
    size = _export(config, find_account(config, account), path)
    typer.echo(f"{path}: {size} bytes")


@app.command("audit")
def audit_command(
    accounts: Accounts = None,
    counts: Annotated[
        bool, typer.Option("--counts", help="Recount likes, followers … too.")
    ] = False,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Resync wrong repos and correct wrong counts."),
    ] = False,
    ask_hosts: Annotated[
        bool,
        typer.Option("--hosts", help="Compare with each host's latest commit too."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Rebuild repos from the rows; compare with the signed roots.

    Exits 1 when anything differs.
    """
    config = read_config()
    dids = find_accounts(config, accounts or ())
    audit = audit_index(
        config, dids, counts=counts, repair=repair, as_json=as_json, ask_hosts=ask_hosts
    )
    if not audit:
        raise typer.Exit(1)


def _unknown(did: str) -> ServiceError:
    return ServiceError(f"{did} is not in the index")


def _print_repos(
    config: Config, did: str | None, state: str | None, limit: int, *, as_json: bool
) -> None:
    query = """
        SELECT did, handle, hostname, repo.state, rev, upstream_status, repo.tries,
               repo.next_try, repo.error
        FROM repo JOIN actor ON actor.id = repo.actor
        LEFT JOIN host ON host.id = repo.host
        WHERE (%(state)s::text IS NULL OR repo.state = %(state)s)
          AND (%(did)s::text IS NULL OR did = %(did)s)
        ORDER BY repo.state = 'synchronized', repo.tries DESC, actor.id LIMIT %(limit)s
    """
    with (
        open_existing(config, INDEX) as url,
        psycopg.connect(url, row_factory=dict_row) as conn,
    ):
        values = {"state": state, "did": did, "limit": limit}
        rows = conn.execute(query, values).fetchall()
    if did is not None and state is None and not rows:
        raise _unknown(did)
    print_rows(rows, _COLUMNS, as_json=as_json)


def _export(config: Config, did: Did, path: Path) -> int:
    """Write a repo to a CAR file and return its size in bytes."""
    with open_existing(config, INDEX, start=True) as url, psycopg.connect(url) as conn:
        conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        conn.read_only = True
        known = repo_rows.find_repos(conn, [did]).get(did)
        if known is None:
            raise _unknown(did)
        draft = path.with_name(path.name + ".part")
        try:
            with draft.open("wb") as file, open_export(conn, known.actor) as pieces:
                for piece in pieces:
                    file.write(piece)
                size = file.tell()
        except ProtocolError as error:
            draft.unlink(missing_ok=True)
            raise ServiceError(f"{did} cannot be exported: {error}") from error
        draft.replace(path)
    return size


def audit_index(
    config: Config,
    dids: Sequence[str],
    *,
    counts: bool,
    repair: bool,
    as_json: bool,
    ask_hosts: bool = False,
) -> bool:
    """Audit these repos, or all; return True if nothing differs.

    `counts` also recounts likes, followers and so on. `ask_hosts` compares each repo
    with its host's latest commit. `repair` resyncs wrong repos and corrects counts.
    """
    with (
        Report(Console(stderr=as_json)) as report,
        open_existing(config, INDEX, start=True) as url,
        open_pool(url, max=4) as pool,
        open_pool(url, max=2) as names,
        psycopg.connect(url) as conn,
    ):
        wanted = list(dids) or list(synchronized_repos(conn))
        audit = IndexAudit(
            report, conn, Interner(names), repair=repair, as_json=as_json
        )
        # Comparing every edge of every repo would take too long.
        try:
            audit.compare_roots(wanted, None if dids else MOST_LINK_BYTES)
        except UnknownRepoError as error:
            raise _unknown(str(error)) from None
        if ask_hosts:
            audit.compare_hosts(lambda: make_fetcher(config), pool, wanted)
        if counts:
            audit.compare_counts()
        if not as_json:
            audit.summarize(len(wanted))
    return audit.all_sound
