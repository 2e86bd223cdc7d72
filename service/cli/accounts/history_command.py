"""`bigworld account history`: the identity of an account in words."""

from __future__ import annotations

import asyncio
import json

import typer

from plc.history import tell_history
from protocol.syntax import Did
from service.cli.account_names import find_account
from service.cli.accounts.plc_identity import fetch_log
from service.cli.groups import Account, AsJson, read_config


def history(account: Account, as_json: AsJson = False) -> None:
    """Show what changed in the identity of an account, and who signed it.

    The log is verified first: signatures, order, times.
    """
    config = read_config()
    did = Did(find_account(config, account))
    for step in tell_history(asyncio.run(fetch_log(config, did)).entries):
        undone = step.entry.nullified
        if as_json:
            found = {"time": step.time, "changes": step.changes, "signer": step.signer}
            typer.echo(json.dumps(found | {"undone": undone, "cid": step.entry.cid}))
            continue
        typer.echo(step.time + (": undone by a stronger key" if undone else ""))
        for line in (*step.changes, step.signer):
            typer.echo(f"  {line}")
