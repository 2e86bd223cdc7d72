"""`bigworld host …`, from the command line to the rows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli.app import app
from service.cli.groups import GROUPS
from storage.hosts import host_rows
from storage.postgres.pool import Conn

NAME = "pds.example.com"


class Operator:
    """An operator at the command line."""

    def __init__(self, conn: Conn) -> None:
        self._conn = conn

    def says(self, *words: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["host", *words])
        if code:
            assert result.exception is not None, result.output
            return str(result.exception)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    def host(self) -> host_rows.Host:
        self._conn.rollback()
        return host_rows.find_hosts(self._conn, [NAME])[NAME]


@pytest.fixture
def operator(
    index_db: str, conn: Conn, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> Operator:
    monkeypatch.setenv("BIGWORLD_HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", index_db)
    return Operator(conn)


def test_host_commands_change_a_host(operator: Operator) -> None:
    assert "followed" in operator.says("add", f"https://{NAME}")
    assert operator.host().trusted
    assert operator.host().state == host_rows.HOST_NEW

    assert "banned" in operator.says("ban", NAME, "--why", "spam")
    assert operator.host().state == host_rows.HOST_BANNED
    assert "is banned" in operator.says("crawl", NAME, code=1)
    assert "crawled again" in operator.says("unban", f"https://{NAME}/")
    assert operator.host().state == host_rows.HOST_NEW
    assert "neither banned" in operator.says("unban", NAME, code=1)

    assert "compared in full" in operator.says("crawl", NAME)
    assert "already" in operator.says("crawl", NAME)

    told = operator.says("limit", NAME, "--events-per-s", "20", "--max-accounts", "7")
    assert "events_per_s 20" in told
    assert operator.host().events_per_s == 20
    assert operator.host().max_accounts == 7
    operator.says("limit", NAME, "--accounts-per-day", "0")
    known = operator.host()
    assert (known.accounts_per_day, known.events_per_s) == (0, 20)
    assert "default limits" in operator.says("limit", NAME, "--reset")
    assert operator.host().max_accounts is None

    [row] = [json.loads(line) for line in operator.says("--json").splitlines()]
    assert (row["hostname"], row["state"]) == (NAME, "new")
    whole = json.loads(operator.says("show", NAME, "--json"))
    assert [move["why"] for move in whole["moves"]][-1] == "spam"
    assert "spam" in operator.says("show", NAME)


def test_unreachable_host_is_listed_as_reconnecting(
    operator: Operator, conn: Conn
) -> None:
    operator.says("add", f"https://{NAME}")

    def state() -> str:
        [row] = [json.loads(line) for line in operator.says("--json").splitlines()]
        assert (
            json.loads(operator.says("show", NAME, "--json"))["state"] == row["state"]
        )
        return str(row["state"])

    host = operator.host().id
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
    operator: Operator, conn: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.says("add", f"https://{NAME}")
    host = operator.host().id
    conn.execute("INSERT INTO actor (did) VALUES ('did:plc:a')")
    conn.execute("INSERT INTO repo (actor, host) SELECT id, %s FROM actor", (host,))
    conn.execute("UPDATE host SET accounts = 1")
    conn.commit()
    monkeypatch.setenv("BIGWORLD_HOSTS", f"https://{NAME}")
    assert "remove it there" in operator.says("remove", NAME, code=1)
    monkeypatch.delenv("BIGWORLD_HOSTS")
    told = operator.says("remove", NAME)
    assert "Its 1 accounts stay in the index" in told
    assert "host ban" in told
    assert operator.says() == "nothing found\n"
    rows = conn.execute(
        "SELECT (SELECT count(*) FROM repo), (SELECT count(*) FROM host_move)"
    ).fetchone()
    conn.rollback()
    assert rows == (1, 0)
    operator.says("add", f"https://{NAME}")
    assert operator.host().id != host


def test_host_list_of_an_empty_index(
    operator: Operator,
) -> None:
    assert operator.says() == "nothing found\n"
    assert operator.says("--json") == ""
    operator.says("add", f"https://{NAME}")
    assert "+00:00:" not in operator.says("show", NAME)


def test_help_of_commands_is_not_truncated() -> None:
    for words in ([], *([group] for group in GROUPS)):
        told = CliRunner().invoke(app, [*words, "--help"]).output
        assert "..." not in told.partition("Commands:")[2]


@pytest.mark.parametrize("verb", ["show", "remove", "ban", "unban", "crawl", "limit"])
def test_command_on_an_unknown_host(operator: Operator, verb: str) -> None:
    assert "there is no host" in operator.says(verb, "none.example.com", code=1)
    assert "not a" in operator.says(verb, "no host at all", code=1)
