"""`bigworld takedown …`, from the command line to the rows and the streams."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from protocol.events.frames import decode_frame
from service.cli.app import app
from storage.postgres.pool import Conn
from storage.records import event_log

DID = "did:plc:z72i7hdynmk6r22z27h6tvur"
HANDLE = "alice.example.com"


class Operator:
    """An operator at the command line."""

    def __init__(self, conn: Conn) -> None:
        self._conn = conn

    def says(self, *words: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["takedown", *words])
        if code:
            assert result.exception is not None, result.output
            return str(result.exception)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    def told(self) -> list[tuple[str | None, bool, str | None]]:
        """Return the messages of the streams, in order."""
        while event_log.number_events(self._conn, 1):
            pass
        frames = [
            decode_frame(event.frame)
            for event in event_log.events_after(self._conn, 0, 100)
        ]
        self._conn.rollback()
        return [(f.t, f.body.get("active"), f.body.get("status")) for f in frames]


@pytest.fixture
def operator(
    index_db: str, conn: Conn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Operator:
    monkeypatch.setenv("BIGWORLD_HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", index_db)
    conn.execute("INSERT INTO actor (did, handle) VALUES (%s, %s)", (DID, HANDLE))
    conn.commit()
    return Operator(conn)


def test_takedown_hides_and_undo_shows_an_account(
    operator: Operator, conn: Conn
) -> None:
    told = operator.says("add", f"@{HANDLE.upper()}", "--reason", "spam")
    assert f"{DID} is taken down" in told
    [row] = [json.loads(line) for line in operator.says("list", "--json").splitlines()]
    assert row == {"did": DID, "handle": HANDLE, "reason": "spam"}
    waiting = conn.execute("SELECT count(*) FROM search_outbox").fetchone()
    conn.rollback()
    assert waiting == (1,)
    told = operator.says("add", DID, "--reason", "fraud")
    assert "already (spam)" in told
    assert "shown again" in operator.says("undo", DID)
    assert operator.says("list") == "nothing found\n"
    assert operator.told() == []


def test_takedown_refuses_records_and_unknown_accounts(
    operator: Operator,
) -> None:
    other = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
    assert "is not in the index" in operator.says("add", other, "--reason", "x", code=1)
    assert "is not taken down" in operator.says("undo", DID, code=1)
    record = f"at://{DID}/app.bsky.feed.post/3jzfcijpj2z2a"
    told = operator.says("add", record, "--reason", "x", code=1)
    assert "only whole accounts" in told
    assert "neither a DID nor a handle" in operator.says("undo", "no one", code=1)
    assert "--reason is empty" in operator.says("add", DID, "--reason", " ", code=1)


def test_takedown_and_undo_are_streamed(
    operator: Operator, conn: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGWORLD_EVENT_LOG", "true")
    row = conn.execute("SELECT id FROM actor").fetchone()
    assert row is not None
    conn.execute(
        "INSERT INTO repo (actor, rev, commit) VALUES (%s, '3jzfcijpj2z2a', %s)",
        (row[0], b"\xa0"),
    )
    conn.commit()
    operator.says("add", DID, "--reason", "spam")
    assert operator.told() == [("#account", False, "takendown")]
    operator.says("undo", DID)
    assert operator.told()[1:] == [("#account", True, None), ("#sync", None, None)]
    conn.execute("UPDATE actor SET upstream_status = 'deactivated'")
    conn.commit()
    operator.says("add", DID, "--reason", "spam")
    operator.says("undo", DID)
    assert operator.told()[-1] == ("#account", False, "deactivated")
