"""bigworld.account.deletePrivateData."""

from __future__ import annotations

from typing import Any, Final

from appview.pipeline import Params
from appview.shapes.procedure import PrivateWrite
from storage.postgres.pool import Conn
from storage.private.account_data import delete_data
from storage.private.sealing import Account


def _write(conn: Conn, viewer: Account, _: Params) -> dict[str, Any]:
    return {"deleted": delete_data(conn, viewer)}


METHOD: Final = PrivateWrite(_write)
