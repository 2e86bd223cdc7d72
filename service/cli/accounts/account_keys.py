"""`bigworld account keys …`: recovery keys in the hands of their owners."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from plc.operation import RECOVERY_WINDOW_MS, format_time
from plc.operation_format import operation_json
from protocol.identity.did_document import PDS_SERVICE, SIGNING_KEY
from protocol.identity.keys import PrivateKey
from protocol.syntax import Did
from service.cli.account_names import find_account
from service.cli.accounts.plc_identity import (
    PlcIdentity,
    fetch_identity,
    now_ms,
    read_operation,
    submit,
)
from service.cli.accounts.recovery_sheet import (
    load_key,
    read_sheet,
    sheet_of,
    store_sheet,
)
from service.cli.feeds.pds_session import sign_in
from service.cli.groups import Account, AsJson, read_config
from service.operator_errors import ServiceError
from service.runtime.config import Config

app: Final = typer.Typer(
    help="Make, show, rotate and test the recovery key of an account.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

_IDENTITY: Final = "com.atproto.identity"

KeyFile = Annotated[
    str | None,
    typer.Option("--key", help="File with the recovery words; - reads them here."),
]
NewFile = Annotated[
    Path | None, typer.Option("--file", help="Write the new key to this file.")
]
Paper = Annotated[
    bool, typer.Option("--paper", help="Print the words of the new key, to copy.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before the change.")]
Pds = Annotated[
    str | None,
    typer.Option("--pds", help="Add a first recovery key through this PDS."),
]


@app.command()
def make(
    account: Annotated[
        str, typer.Option("--account", help="Name of the account, for the sheet.")
    ] = "a new account",
    file: NewFile = None,
    paper: Paper = False,
) -> None:
    """Make a key for a new account, and print its did:key.

    Give the did:key as `recoveryKey` when the account is created.
    """
    key = PrivateKey.generate()
    _keep(key, account, file, paper=paper)
    typer.echo(key.public.did_key)


@app.command()
def show(account: Account, key: KeyFile = None, as_json: AsJson = False) -> None:
    """Show the rotation keys of an account, strongest first."""
    config = read_config()
    identity = _fetch(config, account)
    mine = None if key is None else read_key(key).public.did_key
    report = _describe(identity, mine)
    if as_json:
        typer.echo(json.dumps(report))
        return
    typer.echo(f"{report['did']}, {report['operations']} operations, all verified")
    for place, item in enumerate(report["rotationKeys"], 1):
        mark = "  <- your key" if item["yours"] else ""
        typer.echo(f"rotation key {place}: {item['key']}{mark}")
    typer.echo(f"signing key: {report['signingKey']}")
    typer.echo(f"server: {report['server']}")
    for change in report["undoable"]:
        typer.echo(
            f"changed {change['at']}: a stronger key can undo it until"
            f" {change['until']}"
        )


@app.command()
def drill(account: Account, key: KeyFile = None, as_json: AsJson = False) -> None:
    """Prove that a recovery key works; change nothing.

    Signs an operation that changes nothing, and checks it by the rules of directories.
    It is not sent.
    """
    config = read_config()
    identity = _fetch(config, account)
    mine = read_key(key)
    place = identity.place_of(mine)
    signer = identity.require_acceptable(identity.amend(mine), now_ms())
    if signer != mine.public.did_key:
        raise ServiceError("the operation counts as signed by another key")
    below = len(identity.state.rotation_keys) - place - 1
    report = {"did": identity.did, "place": place + 1, "outranks": below, "works": True}
    if as_json:
        typer.echo(json.dumps(report))
        return
    typer.echo(f"{identity.did}: the key works; nothing was changed")
    if below:
        typer.echo(
            f"it is rotation key {place + 1} and outranks {below}: for 72 hours it"
            " undoes what they sign"
        )
    else:
        typer.echo(
            f"it is rotation key {place + 1}, the weakest: it cannot undo what the"
            " others sign"
        )


@app.command()
def rotate(
    account: Account,
    key: KeyFile = None,
    pds: Pds = None,
    file: NewFile = None,
    paper: Paper = False,
    yes: Yes = False,
) -> None:
    """Replace the recovery key, or add the first one.

    The old key signs its replacement. With --pds the server adds a first recovery key
    above all others: it asks for the password, and for the code that the server mails.
    """
    config = read_config()
    identity = _fetch(config, account)
    old = None if pds else read_key(key)
    if old is not None:
        identity.place_of(old)
    new = PrivateKey.generate()
    keys = identity.with_new_key(
        None if old is None else old.public.did_key, new.public.did_key
    )
    # Kept before the change: a lost key would be in force.
    _keep(new, f"{account} ({identity.did})", file, paper=paper)
    if not yes:
        typer.confirm("Is the new key kept? Then put it in force", abort=True, err=True)
    if old is not None:
        operation = identity.amend(old, rotation_keys=keys)
        identity.require_acceptable(operation, now_ms())
        asyncio.run(submit(config, identity.did, operation))
    else:
        assert pds is not None
        _add_through_server(config, identity, pds, keys)
    # Read back, since only the directory's log counts.
    place = asyncio.run(fetch_identity(config, identity.did)).place_of(new)
    typer.echo(f"{identity.did}: {new.public.did_key} is rotation key {place + 1}")


def _add_through_server(
    config: Config, identity: PlcIdentity, pds: str, keys: list[str]
) -> None:
    """Let the server sign new rotation keys; submit it if nothing else changes."""
    with sign_in(pds, identity.did) as session:
        session.pds.call(f"{_IDENTITY}.requestPlcOperationSignature")
        code = typer.prompt("Code from the mail", err=True)
        reply = session.pds.call(
            f"{_IDENTITY}.signPlcOperation", {"token": code, "rotationKeys": keys}
        )
    operation = read_operation(reply.get("operation"))
    wanted = replace(identity.state, rotation_keys=tuple(keys), prev=operation.prev)
    if operation_json(replace(operation, sig="")) != operation_json(
        replace(wanted, sig="")
    ):
        raise ServiceError("the server's operation changes more than the keys: refused")
    identity.require_acceptable(operation, now_ms())
    asyncio.run(submit(config, identity.did, operation))


def _fetch(config: Config, account: str) -> PlcIdentity:
    return asyncio.run(fetch_identity(config, Did(find_account(config, account))))


def read_key(source: str | None) -> PrivateKey:
    """Return the key of a file, of standard input, or of words that are typed."""
    if source is None:
        return read_sheet(typer.prompt("Recovery words", hide_input=True, err=True))
    return read_sheet(sys.stdin.read()) if source == "-" else load_key(Path(source))


def _keep(key: PrivateKey, account: str, file: Path | None, *, paper: bool) -> None:
    """Write the sheet of a new key to a file, the terminal, or both."""
    if file is None and not paper:
        raise ServiceError("say where the new key goes: --file, --paper or both")
    sheet = sheet_of(key, account, datetime.now(UTC).date().isoformat())
    if file is not None:
        store_sheet(file, sheet)
        typer.echo(f"written to {file}: copy it to another place", err=True)
    if paper:
        # Not on standard output, which may go to a file or a log.
        typer.echo(sheet, err=True)


def _describe(identity: PlcIdentity, mine: str | None) -> dict[str, Any]:
    state = identity.state
    service = state.services.get(PDS_SERVICE.removeprefix("#"))
    return {
        "did": identity.did,
        "operations": len(identity.log.entries),
        "rotationKeys": [
            {"key": text, "yours": text == mine} for text in state.rotation_keys
        ],
        "signingKey": state.verification_methods.get(SIGNING_KEY.removeprefix("#")),
        "server": None if service is None else service.endpoint,
        "undoable": [
            {
                "at": format_time(entry.created_ms),
                "until": format_time(entry.created_ms + RECOVERY_WINDOW_MS),
            }
            for entry in identity.recent_changes(now_ms())
        ],
    }
