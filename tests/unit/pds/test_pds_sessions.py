"""Tokens over time: no waiting, the clock is an argument."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from pds.exceptions import AccountTakedownError, ExpiredTokenError, InvalidTokenError
from pds.server.accounts import NewAccount, insert_account, set_status
from pds.server.sessions import Sessions
from pds.settings import PdsSettings
from storage.postgres.pool import Conn

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
START = datetime(2026, 1, 2, tzinfo=UTC)


def settings(**changes: Any) -> PdsSettings:
    values: dict[str, Any] = {
        "public_url": "https://pds.example.com",
        "handle_domains": (".example.com",),
        "plc_url": "https://plc.example.com",
        "secret": b"s" * 32,
    }
    return PdsSettings(**(values | changes))


@pytest.fixture(scope="module")
def url(databases: Any) -> str:
    made: str = databases.make("pds")
    return made


@pytest.fixture
def db(url: str) -> Iterator[Conn]:
    with psycopg.connect(url) as conn:
        yield conn
        conn.rollback()


@pytest.fixture
def account(db: Conn) -> int:
    return insert_account(
        db, NewAccount(DID, "alice.example.com", None, "-", b"", b"", "")
    )


@pytest.fixture
def sessions() -> Sessions:
    return Sessions(settings())


def after(**time: float) -> datetime:
    return START + timedelta(**time)


def test_tokens_expire(db: Conn, account: int, sessions: Sessions) -> None:
    tokens = sessions.open(db, account, DID, START)
    assert sessions.authenticate(db, tokens.access, after(minutes=119)).account.did
    with pytest.raises(ExpiredTokenError):
        sessions.authenticate(db, tokens.access, after(minutes=120))
    with pytest.raises(ExpiredTokenError):
        sessions.refresh(db, tokens.refresh, after(days=90))
    assert sessions.refresh(db, tokens.refresh, after(days=89)) is not None


def refresh_id(token: str) -> str:
    payload = token.split(".")[1]
    padded = payload + "=" * (-len(payload) % 4)
    return str(json.loads(base64.urlsafe_b64decode(padded))["jti"])


def test_refresh_returns_the_same_successor_within_the_grace_time(
    db: Conn, account: int, sessions: Sessions
) -> None:
    first = sessions.open(db, account, DID, START)
    again = [sessions.refresh(db, first.refresh, after(minutes=m)) for m in (1, 50)]
    assert again[0] is not None
    assert again[1] is not None
    assert refresh_id(again[0].refresh) == refresh_id(again[1].refresh)
    assert again[0].access != again[1].access
    # A tab that is one token behind keeps its session.
    newer = sessions.refresh(db, again[0].refresh, after(minutes=60))
    late = sessions.refresh(db, first.refresh, after(minutes=120))
    assert newer is not None
    assert late is not None
    assert refresh_id(late.refresh) == refresh_id(again[0].refresh)
    for tokens in (*again, newer, late):
        assert tokens is not None
        assert sessions.authenticate(db, tokens.access, after(minutes=120)).session


@pytest.mark.parametrize("pruned", [False, True])
def test_refresh_after_the_grace_time_revokes_the_session(
    db: Conn, account: int, sessions: Sessions, pruned: bool
) -> None:
    first = sessions.open(db, account, DID, START)
    renewed = sessions.refresh(db, first.refresh, START)
    other = sessions.open(db, account, DID, START)
    now = after(hours=2, seconds=1)
    assert renewed is not None
    if pruned:
        sessions.prune(db, now)
    assert sessions.refresh(db, first.refresh, now) is None
    with pytest.raises(ExpiredTokenError):
        sessions.authenticate(db, renewed.refresh, now, refresh=True)
    assert sessions.refresh(db, renewed.refresh, now) is None
    assert sessions.refresh(db, other.refresh, now) is not None


def test_refresh_of_a_closed_session_is_refused(
    db: Conn, account: int, sessions: Sessions
) -> None:
    first = sessions.open(db, account, DID, START)
    renewed = sessions.refresh(db, first.refresh, START)
    assert renewed is not None
    sessions.close(db, renewed.refresh, START)
    assert sessions.refresh(db, first.refresh, START) is None


def test_refresh_chain_outlives_its_first_token(
    db: Conn, account: int, sessions: Sessions
) -> None:
    chain = [sessions.open(db, account, DID, START)]
    for day in range(1, 200, 50):
        renewed = sessions.refresh(db, chain[-1].refresh, after(days=day))
        assert renewed is not None
        chain.append(renewed)
    assert len({tokens.access for tokens in chain}) == len(chain)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_changed_token_is_refused(
    db: Conn, account: int, sessions: Sessions, part: int
) -> None:
    token = sessions.open(db, account, DID, START).access
    parts = token.split(".")
    flipped = "A" if parts[part][0] != "A" else "B"
    parts[part] = flipped + parts[part][1:]
    for forged in (".".join(parts), token + "=", token + ".", token[:-1], ""):
        with pytest.raises(InvalidTokenError):
            sessions.authenticate(db, forged, START)


def test_token_with_algorithm_none_is_refused(
    db: Conn, account: int, sessions: Sessions
) -> None:
    claims = {"sub": DID, "aud": "did:web:pds.example.com", "exp": 2**40, "sid": "x"}
    for header in ({"typ": "at+jwt", "alg": "none"}, {"typ": "at+jwt", "alg": "HS256"}):
        body = b".".join(
            base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
            for part in (header, claims)
        ).decode()
        for signature in ("", "AAAA"):
            with pytest.raises(InvalidTokenError):
                sessions.authenticate(db, f"{body}.{signature}", START)


@pytest.mark.parametrize(
    "changes", [{"secret": b"t" * 32}, {"public_url": "https://other.example.com"}]
)
def test_tokens_of_another_server_are_refused(
    db: Conn, account: int, sessions: Sessions, changes: dict[str, Any]
) -> None:
    token = sessions.open(db, account, DID, START).access
    with pytest.raises(InvalidTokenError):
        Sessions(settings(**changes)).authenticate(db, token, START)


def test_account_status_limits_authentication(
    db: Conn, account: int, sessions: Sessions
) -> None:
    token = sessions.open(db, account, DID, START).access
    expected: list[tuple[str, type[Exception] | None]] = [
        ("deactivated", None),
        ("takendown", AccountTakedownError),
        ("deleted", InvalidTokenError),
        ("active", None),
    ]
    for status, error in expected:
        set_status(db, account, status)
        if error is None:
            assert sessions.authenticate(db, token, START).account.status == status
        else:
            with pytest.raises(error):
                sessions.authenticate(db, token, START)


def test_prune_deletes_expired_sessions(
    db: Conn, account: int, sessions: Sessions
) -> None:
    sessions.open(db, account, DID, START)
    kept = sessions.open(db, account, DID, after(days=1))
    sessions.prune(db, after(days=90, seconds=1))
    rows = db.execute("SELECT count(*) FROM session").fetchone()
    assert rows == (1,)
    assert sessions.refresh(db, kept.refresh, after(days=90, seconds=1)) is not None
