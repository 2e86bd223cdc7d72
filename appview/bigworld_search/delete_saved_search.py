"""bigworld.search.deleteSavedSearch."""

from __future__ import annotations

from typing import Final

from appview.pipeline import Params
from appview.session import Session
from appview.shapes.procedure import PrivateChange
from appview.views.saved_search import read_search_id
from storage.postgres.pool import Conn
from storage.private.saved_searches import delete_search
from storage.private.sealing import Account


def _find(_: Session, params: Params) -> int:
    return read_search_id(params["id"])


def _write(conn: Conn, viewer: Account, search: int) -> None:
    delete_search(conn, viewer.did, search)


METHOD: Final[PrivateChange[int]] = PrivateChange(_find, _write)
