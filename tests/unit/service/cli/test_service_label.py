"""`bigworld label …`, from the command line to the index and the stream."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from labels.label_stream import LABELS
from labels.own_labels import OwnLabelEvents
from labels.signed_label import label_fields, read_label
from protocol.data.cid import cid_for, cid_to_text
from protocol.events.frames import decode_frame
from service.moderation import open_moderation
from service.provider import did_document
from service.runtime.config import Config
from service.runtime.secrets import label_key
from storage.postgres.pool import Conn
from storage.private.reports import MAX_PER_DAY, TooManyReportsError, put_report

DID = "did:plc:z72i7hdynmk6r22z27h6tvur"
HANDLE = "alice.example.com"
POST = f"at://{DID}/app.bsky.feed.post/3jzfcijpj2z2a"

Run = Callable[..., str]


@pytest.fixture
def run(run: Run, conn: Conn) -> Run:
    conn.execute("INSERT INTO actor (did, handle) VALUES (%s, %s)", (DID, HANDLE))
    conn.commit()
    return lambda *words, **options: run("label", *words, **options)


def held(conn: Conn) -> list[tuple[str, bool]]:
    rows = conn.execute("SELECT val, neg FROM label ORDER BY val").fetchall()
    conn.rollback()
    return rows


def test_label_signs_copies_and_takes_back(run: Run, conn: Conn) -> None:
    run("add", HANDLE, "spam", "--reason", "bought followers")
    run("add", POST, "rude", "--reason", "x", "--days", "2")
    assert held(conn) == [("rude", False), ("spam", False)]
    rows = [json.loads(line) for line in run("list", "--json").splitlines()]
    assert [(row["uri"], row["val"]) for row in rows] == [(POST, "rude"), (DID, "spam")]
    config = Config.read()
    assert {row["src"] for row in rows} == {config.provider_did}
    assert "exp" in rows[0]
    [method] = did_document(config)["verificationMethod"]
    key = label_key(config).public
    assert method["publicKeyMultibase"] == key.multikey
    for (raw,) in conn.execute("SELECT raw FROM label").fetchall():
        label = read_label(label_fields(raw), config.provider_did)
        assert label.is_signed_by(key)
    conn.rollback()
    run("remove", DID, "spam", "--reason", "appeal")
    assert held(conn) == [("rude", False), ("spam", True)]
    assert "is not labelled" in run("remove", DID, "spam", code=1)
    # A label after its negation.
    run("add", DID, "spam", "--reason", "again")
    assert held(conn) == [("rude", False), ("spam", False)]


def test_label_refuses_wrong_input(run: Run) -> None:
    assert "bad_value" in run("add", DID, "x" * 129, "--reason", "x", code=1)
    assert "bad_value" in run("add", DID, "a\x07", "--reason", "x", code=1)
    blob = f"{DID}/{cid_to_text(cid_for(b'x'))}"
    assert "bad_subject" in run("add", blob, "spam", "--reason", "x", code=1)
    assert "not a CID" in run("add", POST, "x", "--reason", "x", "--cid", "1", code=1)
    assert "--reason is empty" in run("add", DID, "spam", "--reason", "", code=1)
    assert run("list") == "nothing found\n"


async def test_labels_survive_a_new_index_and_are_streamed(
    run: Run, conn: Conn
) -> None:
    for val in ("one", "two", "three"):
        run("add", POST, val, "--reason", "x")
    run("remove", POST, "two")
    conn.execute("TRUNCATE label, label_stream")
    conn.commit()
    with open_moderation(Config.read()) as moderation:
        moderation.copy_labels()
        events = OwnLabelEvents(moderation.private)
        tail = await events.tail()
        frames = await events.events_after(0, 10)
        assert await events.events_after(tail, 10) == []
    assert held(conn) == [("one", False), ("three", False), ("two", True)]
    assert [number for number, _ in frames] == [1, 3, 4] == [*range(1, tail, 2), tail]
    bodies = [decode_frame(frame) for _, frame in frames]
    assert {body.t for body in bodies} == {LABELS}
    assert [b.body["labels"][0]["val"] for b in bodies] == ["one", "three", "two"]
    assert bodies[-1].body["labels"][0]["neg"] is True


def test_an_older_private_database_is_copied_again(run: Run, conn: Conn) -> None:
    run("add", POST, "one", "--reason", "x")
    conn.execute("UPDATE label_stream SET seq = 99")
    conn.execute("TRUNCATE label")
    conn.commit()
    run("add", POST, "two", "--reason", "x")
    assert held(conn) == [("one", False), ("two", False)]


def test_reports_are_limited_listed_and_closed(run: Run) -> None:
    with open_moderation(Config.read()) as moderation:
        fields = {"subject": POST, "cid": "c", "reason_type": "spam"}
        with moderation.private.write() as conn:
            first = put_report(conn, DID, reason="r", **fields)
            assert put_report(conn, DID, reason="r", **fields) == first
            for number in range(MAX_PER_DAY - 1):
                put_report(conn, DID, reason=str(number), **fields)
            with pytest.raises(TooManyReportsError):
                put_report(conn, DID, reason="more", **fields)
    rows = [json.loads(line) for line in run("reports", "--json").splitlines()]
    assert len(rows) == MAX_PER_DAY
    run("close", str(first.id), "--reason", "handled")
    assert "no open report" in run("close", str(first.id), code=1)
    [row] = [
        json.loads(line) for line in run("reports", "--closed", "--json").splitlines()
    ]
    assert row["id"] == first.id
