"""`bigworld host …`, from the command line to the rows."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from service.cli.app import app
from service.cli.groups import GROUPS
from storage.hosts import host_rows
from storage.postgres.pool import Conn

NAME = "pds.example.com"

Run = Callable[..., str]
Load = Callable[[], host_rows.Host]


@pytest.fixture
def run(run: Run) -> Run:
    """Return a function that runs `bigworld host …`."""
    return lambda *words, **options: run("host", *words, **options)


@pytest.fixture
def load(conn: Conn) -> Load:
    """Return a function that loads the host."""

    def load() -> host_rows.Host:
        conn.rollback()
        return host_rows.find_hosts(conn, [NAME])[NAME]

    return load


def test_host_commands_change_a_host(run: Run, load: Load) -> None:
    assert "followed" in run("add", f"https://{NAME}")
    assert load().trusted
    assert load().state == host_rows.HOST_NEW

    assert "banned" in run("ban", NAME, "--why", "spam")
    assert load().state == host_rows.HOST_BANNED
    assert "is banned" in run("crawl", NAME, code=1)
    assert "crawled again" in run("unban", f"https://{NAME}/")
    assert load().state == host_rows.HOST_NEW
    assert "neither banned" in run("unban", NAME, code=1)

    assert "compared in full" in run("crawl", NAME)
    assert "already" in run("crawl", NAME)

    told = run("limit", NAME, "--events-per-s", "20", "--max-accounts", "7")
    assert "events_per_s 20" in told
    assert load().events_per_s == 20
    assert load().max_accounts == 7
    run("limit", NAME, "--accounts-per-day", "0")
    known = load()
    assert (known.accounts_per_day, known.events_per_s) == (0, 20)
    assert "default limits" in run("limit", NAME, "--reset")
    assert load().max_accounts is None

    [row] = [json.loads(line) for line in run("--json").splitlines()]
    assert (row["hostname"], row["state"]) == (NAME, "new")
    whole = json.loads(run("show", NAME, "--json"))
    assert [move["why"] for move in whole["moves"]][-1] == "spam"
    assert "spam" in run("show", NAME)


def test_unreachable_host_is_listed_as_reconnecting(
    run: Run, load: Load, conn: Conn
) -> None:
    run("add", f"https://{NAME}")

    def state() -> str:
        [row] = [json.loads(line) for line in run("--json").splitlines()]
        assert json.loads(run("show", NAME, "--json"))["state"] == row["state"]
        return str(row["state"])

    host = load().id
    host_rows.note_contact(conn, host, host_rows.HOST_STREAMING)
    for expected in ("streaming", "reconnecting"):
        # A failed listing does not count as a failed try of a streamed host.
        host_rows.note_failure(conn, host, "no list", wait=0.0, counts=False)
        host_rows.note_failure(conn, host, "connection refused", wait=1.0)
        conn.commit()
        assert state() == expected
    host_rows.note_contact(conn, host, host_rows.HOST_STREAMING)
    conn.commit()
    assert state() == "streaming"


def test_host_remove_keeps_the_accounts(
    run: Run, load: Load, conn: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("add", f"https://{NAME}")
    host = load().id
    conn.execute("INSERT INTO actor (did) VALUES ('did:plc:a')")
    conn.execute("INSERT INTO repo (actor, host) SELECT id, %s FROM actor", (host,))
    conn.execute("UPDATE host SET accounts = 1")
    conn.commit()
    monkeypatch.setenv("BIGWORLD_HOSTS", f"https://{NAME}")
    assert "remove it there" in run("remove", NAME, code=1)
    monkeypatch.delenv("BIGWORLD_HOSTS")
    told = run("remove", NAME)
    assert "Its 1 accounts stay in the index" in told
    assert "host ban" in told
    assert run() == "nothing found\n"
    rows = conn.execute(
        "SELECT (SELECT count(*) FROM repo), (SELECT count(*) FROM host_move)"
    ).fetchone()
    conn.rollback()
    assert rows == (1, 0)
    run("add", f"https://{NAME}")
    assert load().id != host


def test_host_list_of_an_empty_index(run: Run) -> None:
    assert run() == "nothing found\n"
    assert run("--json") == ""
    run("add", f"https://{NAME}")
    assert "+00:00:" not in run("show", NAME)


def test_help_of_commands_is_not_truncated() -> None:
    for words in ([], *([group] for group in GROUPS)):
        told = CliRunner().invoke(app, [*words, "--help"]).output
        assert "..." not in told.partition("Commands:")[2]


@pytest.mark.parametrize("verb", ["show", "remove", "ban", "unban", "crawl", "limit"])
def test_command_on_an_unknown_host(run: Run, verb: str) -> None:
    assert "there is no host" in run(verb, "none.example.com", code=1)
    assert "not a" in run(verb, "no host at all", code=1)
