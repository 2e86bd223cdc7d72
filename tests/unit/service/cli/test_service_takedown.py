"""`bigworld takedown …`, from the command line to the rows and the streams."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from protocol.data.cid import cid_to_text, raw_cid_for
from protocol.events.frames import decode_frame
from service.moderation import open_moderation
from service.runtime.config import Config
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
    assert (row["subject"], row["kind"], row["reason"]) == (DID, "account", "spam")
    waiting = conn.execute("SELECT count(*) FROM search_outbox").fetchone()
    conn.rollback()
    assert waiting == (1,)
    told = run("add", DID, "--reason", "fraud")
    assert "already (spam)" in told
    assert "shown again" in run("undo", DID, "--reason", "appeal")
    assert run("list") == "nothing found\n"
    assert streamed(conn) == []
    decisions = [json.loads(line) for line in run("log", "--json").splitlines()]
    assert [(d["action"], d["subject"], d["reason"]) for d in decisions] == [
        ("undo takedown", DID, "appeal"),
        ("takedown", DID, "fraud"),
        ("takedown", DID, "spam"),
    ]
    assert all(d["operator"] and d["decided_at"] for d in decisions)


def test_takedown_takes_records_blobs_and_unknown_accounts(
    run: Run, conn: Conn
) -> None:
    other = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
    record = f"at://{HANDLE}/app.bsky.feed.post/3jzfcijpj2z2a"
    blob = f"{HANDLE}/{cid_to_text(raw_cid_for(b'picture'))}"
    for subject in (other, record, blob):
        run("add", subject, "--reason", "x")
    rows = [json.loads(line) for line in run("list", "--json").splitlines()]
    assert {(row["kind"], row["subject"]) for row in rows} == {
        ("account", other),
        ("record", record.replace(HANDLE, DID)),
        ("blob", blob.replace(HANDLE, DID)),
    }
    assert conn.execute("SELECT FROM actor WHERE takedown IS NOT NULL").rowcount == 0
    conn.rollback()
    assert "shown again" in run("undo", record)
    assert "is not taken down" in run("undo", record, code=1)


def test_takedown_refuses_other_subjects(run: Run) -> None:
    assert "is not taken down" in run("undo", DID, code=1)
    assert "neither a DID nor a handle" in run("undo", "no one", code=1)
    assert "--reason is empty" in run("add", DID, "--reason", " ", code=1)
    for wrong in (f"at://{DID}/app.bsky.feed.post", f"{DID}/nonsense"):
        assert "neither a DID, nor" in run("add", wrong, "--reason", "x", code=1)


def test_takedowns_survive_a_new_index_and_old_ones_are_adopted(
    run: Run, conn: Conn, index_db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
    run("add", DID, "--reason", "spam")
    conn.execute("UPDATE actor SET takedown = NULL")
    conn.execute("INSERT INTO actor (did, takedown) VALUES (%s, 'old one')", (old,))
    conn.commit()
    with open_moderation(Config.read()) as moderation:
        moderation.apply()
        moderation.apply()
    found = dict(conn.execute("SELECT did, takedown FROM actor").fetchall())
    conn.rollback()
    assert found == {DID: "spam", old: "old one"}
    rows = [json.loads(line) for line in run("list", "--json").splitlines()]
    assert {row["subject"] for row in rows} == {DID, old}
    run("undo", old)
    # As if the process had ended before the copy.
    conn.execute("UPDATE actor SET takedown = 'old one' WHERE did = %s", (old,))
    conn.commit()
    with open_moderation(Config.read()) as moderation:
        moderation.apply()
    found = dict(conn.execute("SELECT did, takedown FROM actor").fetchall())
    conn.rollback()
    assert found == {DID: "spam", old: None}


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
