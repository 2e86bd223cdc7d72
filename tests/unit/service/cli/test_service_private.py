"""`bigworld private …`, from the command line to the rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

from service.runtime.config import Config
from service.runtime.secrets import private_vault
from storage.postgres.pool import Conn
from storage.private.mutes import Mute, save_mute
from storage.private.private_items import NO_SUBJECT, Kind, save_item

DID = "did:plc:z72i7hdynmk6r22z27h6tvur"
Run = Callable[..., str]


def test_private_state_is_exported_and_deleted(run: Run, conn: Conn) -> None:
    account = private_vault(Config.read()).account(DID)
    save_mute(conn, account, "did:web:b.test", Mute())
    now = datetime.now(UTC)
    save_item(conn, account, Kind.PREFERENCES, NO_SUBJECT, [{"x": 1}], now)
    conn.execute("INSERT INTO actor (did, handle) VALUES (%s, 'a.test')", (DID,))
    conn.commit()
    lines = [json.loads(line) for line in run("private", "export", DID).splitlines()]
    assert [line["kind"] for line in lines] == ["mute", "preferences"]
    assert lines[0]["value"]["subject"] == "did:web:b.test"
    assert lines[1]["value"] == {"items": [{"x": 1}]}
    told = json.loads(run("private", "delete", "a.test", "--json"))
    assert told == {"did": DID, "deleted": 2}
    assert run("private", "export", DID) == ""
    assert "0 items deleted" in run("private", "delete", DID)
