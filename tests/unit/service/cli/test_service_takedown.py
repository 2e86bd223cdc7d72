"""`bigworld takedown …`, from the command line to the rows and the streams."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from protocol.events.frames import decode_frame
from storage.postgres.pool import Conn
from storage.records import event_log

DID = "did:plc:z72i7hdynmk6r22z27h6tvur"
HANDLE = "alice.example.com"

Run = Callable[..., str]


def streamed(conn: Conn) -> list[tuple[str | None, bool, str | None]]:
    """Return the messages of the streams, in order."""
    while event_log.number_events(conn, 1):
        pass
    frames = [
        decode_frame(event.frame) for event in event_log.events_after(conn, 0, 100)
    ]
    conn.rollback()
    return [(f.t, f.body.get("active"), f.body.get("status")) for f in frames]


@pytest.fixture
def run(run: Run, conn: Conn) -> Run:
    """Return a function that runs `bigworld takedown …` on an index with an account."""
    conn.execute("INSERT INTO actor (did, handle) VALUES (%s, %s)", (DID, HANDLE))
    conn.commit()
    return lambda *words, **options: run("takedown", *words, **options)


def test_takedown_hides_and_undo_shows_an_account(run: Run, conn: Conn) -> None:
    told = run("add", f"@{HANDLE.upper()}", "--reason", "spam")
    assert f"{DID} is taken down" in told
    [row] = [json.loads(line) for line in run("list", "--json").splitlines()]
    assert row == {"did": DID, "handle": HANDLE, "reason": "spam"}
    waiting = conn.execute("SELECT count(*) FROM search_outbox").fetchone()
    conn.rollback()
    assert waiting == (1,)
    told = run("add", DID, "--reason", "fraud")
    assert "already (spam)" in told
    assert "shown again" in run("undo", DID)
    assert run("list") == "nothing found\n"
    assert streamed(conn) == []


def test_takedown_refuses_records_and_unknown_accounts(run: Run) -> None:
    other = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
    assert "is not in the index" in run("add", other, "--reason", "x", code=1)
    assert "is not taken down" in run("undo", DID, code=1)
    record = f"at://{DID}/app.bsky.feed.post/3jzfcijpj2z2a"
    told = run("add", record, "--reason", "x", code=1)
    assert "only whole accounts" in told
    assert "neither a DID nor a handle" in run("undo", "no one", code=1)
    assert "--reason is empty" in run("add", DID, "--reason", " ", code=1)


def test_takedown_and_undo_are_streamed(
    run: Run, conn: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGWORLD_EVENT_LOG", "true")
    row = conn.execute("SELECT id FROM actor").fetchone()
    assert row is not None
    conn.execute(
        "INSERT INTO repo (actor, rev, commit) VALUES (%s, '3jzfcijpj2z2a', %s)",
        (row[0], b"\xa0"),
    )
    conn.commit()
    run("add", DID, "--reason", "spam")
    assert streamed(conn) == [("#account", False, "takendown")]
    run("undo", DID)
    assert streamed(conn)[1:] == [("#account", True, None), ("#sync", None, None)]
    conn.execute("UPDATE actor SET upstream_status = 'deactivated'")
    conn.commit()
    run("add", DID, "--reason", "spam")
    run("undo", DID)
    assert streamed(conn)[-1] == ("#account", False, "deactivated")
