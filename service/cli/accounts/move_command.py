"""`bigworld account migrate` and `rescue`: an account goes to another server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from protocol.errors import ProtocolError
from protocol.identity.keys import parse_did_key
from protocol.syntax import Did
from service.account_backup import STATE, back_up
from service.cli.account_names import find_account
from service.cli.accounts.account_keys import KeyFile, read_key
from service.cli.accounts.moving.friendly_move import FriendlyMove, fetch_with
from service.cli.accounts.moving.move_state import MoveState, begin
from service.cli.accounts.moving.refill import PDS, Refill, require_sound
from service.cli.accounts.moving.remote_account import RemoteAccount
from service.cli.accounts.moving.rescue import Rescue, base_operation
from service.cli.feeds.pds_session import PASSWORD_VARIABLE, check_address
from service.cli.groups import Account, read_config
from service.operator_errors import ServiceError
from service.runtime.config import Config

NEW_PASSWORD_VARIABLE: Final = "ATPROTO_NEW_PASSWORD"  # noqa: S105  (a name)

To = Annotated[str, typer.Option("--to", metavar="PDS", help="URL of the new server.")]
Name = Annotated[
    str, typer.Option("--handle", help="Handle of the account at the new server.")
]
Folder = Annotated[
    Path, typer.Option("--folder", help="Copy of the account, and the progress.")
]
Email = Annotated[
    str | None, typer.Option("--email", help="Email address for the new server.")
]
Invite = Annotated[
    str | None, typer.Option("--invite", help="Invite code of the new server.")
]
Space = Annotated[int, typer.Option(min=0, help="Space for all blobs in megabytes.")]
Yes = Annotated[bool, typer.Option("--yes", help="Run the plan; else only print it.")]


def migrate(
    account: Account,
    to: To,
    handle: Name,
    folder: Folder,
    recovery_key: Annotated[
        str | None,
        typer.Option(
            "--recovery-key", help="Your did:key: keep it above the server's."
        ),
    ] = None,
    drop_keys: Annotated[
        bool,
        typer.Option("--drop-keys", help="No key of the old server is yours."),
    ] = False,
    email: Email = None,
    invite: Invite = None,
    max_blob_mb: Space = 10_000,
    yes: Yes = False,
) -> None:
    """Move an account to another server with the help of the old one.

    Prints a plan; --yes runs it. Run it again after an interruption: it goes on.
    """
    check_address(to)
    config = read_config()
    did = find_account(config, account)
    fetch = fetch_with(config, did)
    identity = fetch()
    service = identity.state.services.get(PDS)
    if service is None:
        raise ServiceError(f"{did} names no server: `account rescue` needs none")
    if recovery_key is not None and _parse_key(recovery_key) not in (
        identity.state.rotation_keys
    ):
        raise ServiceError(f"{recovery_key} is not a rotation key of {did}")
    state = begin(folder, MoveState(did, service.endpoint, to.rstrip("/"), handle))
    source = state.source
    if source.rstrip("/") == state.target:
        raise ServiceError(f"{did} is at {to} already")
    typer.echo(f"{did} moves from {source} to {to} as {handle}")
    if not yes:
        for line in (
            f"1. copy repo and blobs to {folder}, verified",
            f"2. open the account at {to}, and send repo, blobs and preferences",
            f"3. {source} mails a code and signs the change of the identity",
            "4. activate the account there, check it, and deactivate it here",
        ):
            typer.echo(line)
        _tell_keys(identity.state.rotation_keys, recovery_key)
        typer.echo("nothing was changed; add --yes to run this")
        return
    FriendlyMove(
        config,
        _account(source, did, PASSWORD_VARIABLE),
        _refill(state, folder),
        _fields(handle, email, invite) | _recovery(recovery_key),
        fetch,
        _ask,
        typer.echo,
        max_blob_mb,
        recovery_key,
        drop_keys,
    ).run()
    typer.echo(f"{did} is at {to}; root, blobs and identity agree")


def rescue(
    account: Account,
    to: To,
    handle: Name,
    folder: Folder,
    key: KeyFile = None,
    mirror: Annotated[
        str | None,
        typer.Option("--mirror", help="Fill the folder from this mirror first."),
    ] = None,
    email: Email = None,
    invite: Invite = None,
    max_blob_mb: Space = 10_000,
    yes: Yes = False,
) -> None:
    """Bring an account to another server when its own is gone.

    Needs the recovery key, and a backup or a mirror of the account. Prints a plan;
    --yes runs it. Run it again after an interruption: it goes on.
    """
    check_address(to)
    config = read_config()
    did = find_account(config, account)
    state = begin(folder, MoveState(did, "", to.rstrip("/"), handle))
    fetch = fetch_with(config, did)
    identity = fetch()
    recovery = read_key(key)
    base = base_operation(identity, recovery)
    if mirror is not None and not (folder / STATE).exists():
        _fill_from(config, did, folder, mirror, max_blob_mb)
    backup = require_sound(folder)
    if backup.did != did:
        raise ServiceError(f"{folder} is the backup of {backup.did}")
    typer.echo(
        f"{did} comes back at {to} as {handle}, with {backup.records} records of"
        f" {backup.saved_at}"
    )
    if not yes:
        typer.echo("1. the recovery key takes the identity, and opens the account")
        typer.echo("2. send repo and blobs; preferences are lost")
        typer.echo(f"3. the recovery key names {to} in the identity; activate, check")
        if base != identity.last:
            typer.echo("the newest changes of the identity are undone")
        typer.echo("nothing was changed; add --yes to run this")
        return
    refill = _refill(state, folder)
    fields = _fields(handle, email, invite)
    Rescue(config, recovery, refill, fields, fetch, typer.echo).run()
    typer.echo(f"{did} is at {to}; root, blobs and identity agree")


def _refill(state: MoveState, folder: Path) -> Refill:
    """Return the new home; the state is stored before anything changes."""
    folder.mkdir(parents=True, exist_ok=True)
    state.store(folder)
    new = _account(state.target, state.did, NEW_PASSWORD_VARIABLE)
    return Refill(new, folder, state, typer.echo)


def _account(url: str, did: str, variable: str) -> RemoteAccount:
    """Return an account with the password of the environment, or ask for it."""
    check_address(url)
    password = os.environ.get(variable) or str(
        typer.prompt(f"Password at {url}", hide_input=True, err=True)
    )
    return RemoteAccount(url, did, password, _ask)


def _ask(text: str) -> str:
    return str(typer.prompt(text, err=True)).strip()


def _fields(handle: str, email: str | None, invite: str | None) -> dict[str, str]:
    fields = {"handle": handle, "email": email, "inviteCode": invite}
    return {name: value for name, value in fields.items() if value is not None}


def _recovery(key: str | None) -> dict[str, str]:
    return {} if key is None else {"recoveryKey": key}


def _parse_key(text: str) -> str:
    try:
        return parse_did_key(text).did_key
    except ProtocolError as error:
        raise ServiceError(f"{text[:80]} is no did:key: {error}") from None


def _tell_keys(present: tuple[str, ...], recovery_key: str | None) -> None:
    """Show what happens to each rotation key."""
    for name in present:
        if name == recovery_key:
            typer.echo(f"rotation key {name}: yours, stays the strongest")
        else:
            typer.echo(
                f"rotation key {name}: dropped if it is the old server's; name your"
                " own with --recovery-key"
            )


def _fill_from(
    config: Config, did: Did, folder: Path, mirror: str, max_blob_mb: int
) -> None:
    state = back_up(config, did, folder, max_blob_mb, lambda *_: None, source=mirror)
    typer.echo(
        f"{state.records} records and {state.blobs - len(state.missing)} of"
        f" {state.blobs} blobs copied from {mirror}"
    )
