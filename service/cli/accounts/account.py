"""`bigworld account …`: what the owner of an account does."""

from __future__ import annotations

from typing import Final

from service.cli.accounts.account_keys import app as keys
from service.cli.accounts.backup_command import app as backup
from service.cli.accounts.history_command import history
from service.cli.accounts.move_command import migrate, rescue
from service.cli.groups import make_group

app: Final = make_group("account")
app.add_typer(keys, name="keys")
app.add_typer(backup, name="backup")
app.command()(history)
app.command()(migrate)
app.command()(rescue)
