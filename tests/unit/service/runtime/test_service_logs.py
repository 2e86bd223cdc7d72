"""Logs: redaction of secrets on every path to a line."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
import structlog

from service.runtime import logs

PASSWORD = "canary-hunter2-canary"
JWT = "eyJhbGciOiJFUzI1NksifQ.eyJpc3MiOiJkaWQ6cGxjOmNhbmFyeSJ9.c2lnbmF0dXJl"
HEX_KEY = "ca" * 32
MULTIBASE_KEY = "z3vLY4nbXy2rV4Qr65gUtfnSF3A8Be7gmYzUiCX6eo2PR1Rt"
APP_PASSWORD = "cana-ry2c-anar-y234"
PEM = "-----BEGIN PRIVATE KEY-----\nMIGHcanary\n-----END PRIVATE KEY-----"
CANARIES = (PASSWORD, JWT, HEX_KEY, MULTIBASE_KEY, APP_PASSWORD, "MIGHcanary")


@contextmanager
def configured(form: str, level: str = "debug") -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, before = root.handlers[:], root.level
    stream = io.StringIO()
    try:
        logs.configure(form=form, level=level, stream=stream)
        yield stream
    finally:
        structlog.reset_defaults()
        root.handlers[:] = handlers
        root.setLevel(before)


@pytest.fixture(params=["json", "console"])
def lines(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    with configured(request.param) as stream:
        yield stream


def test_secrets_are_redacted_by_key(lines: io.StringIO) -> None:
    structlog.get_logger("a").info(
        "login",
        password=PASSWORD,
        headers={"Authorization": f"Bearer {PASSWORD}", "Cookie": PASSWORD},
        accessJwt=PASSWORD,
        nested=[{"private_key": PASSWORD}],
        refresh_token=PASSWORD,
    )
    assert PASSWORD not in lines.getvalue()
    assert logs.REDACTED in lines.getvalue()


@pytest.mark.parametrize("canary", [*CANARIES[1:5], PEM])
def test_secrets_are_redacted_in_text(lines: io.StringIO, canary: str) -> None:
    logger = structlog.get_logger("a")
    logger.info("something", text=f"before {canary} after", items=[canary])
    logger.info(f"in the event {canary} too")
    logger.info("a key", value={canary: 1}.keys())
    logging.getLogger("some.library").warning("library said %s", canary)
    assert not any(secret in lines.getvalue() for secret in CANARIES)
    assert "before" in lines.getvalue()
    assert "after" in lines.getvalue()


def test_secrets_are_redacted_in_urls_and_bodies(lines: io.StringIO) -> None:
    logger = logging.getLogger("db")
    logger.error("cannot connect to postgresql://user:%s@db/x", PASSWORD)
    logger.error('body was {"identifier": "a.test", "password": "%s"}', PASSWORD)
    logger.error("connection string host=db password=%s user=x", PASSWORD)
    logger.error("header was Bearer %s", PASSWORD)
    assert PASSWORD not in lines.getvalue()
    assert "a.test" in lines.getvalue()


def test_secrets_are_redacted_in_tracebacks(lines: io.StringIO) -> None:
    try:
        raise ValueError(f"bad token {JWT}")
    except ValueError:
        structlog.get_logger("a").exception("failed")
        logging.getLogger("b").exception("failed")
    assert JWT not in lines.getvalue()
    assert lines.getvalue().count("ValueError") >= 2


def test_bytes_are_never_shown(lines: io.StringIO) -> None:
    structlog.get_logger("a").info("frame", raw=PASSWORD.encode())
    assert "canary" not in lines.getvalue()
    assert f"<{len(PASSWORD)} bytes>" in lines.getvalue()


def test_ordinary_fields_are_kept() -> None:
    event = {
        "event": "applied",
        "did": "did:plc:z72i7hdynmk6r22z27h6tvur",
        "uri": "at://did:plc:z72i7hdynmk6r22z27h6tvur/app.bsky.feed.post/3k2a",
        "cid": "bafyreib2rxk3rybk3aobmv5cjuql3bm2twh4jo5uwyxvhzkxqzkqhtrvui",
        "key": "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme",
        "count": 3,
        "tokens_per_s": 5.0,
        "url": "http://localhost:2580/xrpc/_health?time=12:30@x",
        "nothing": None,
    }
    assert logs.redact(None, "info", dict(event)) == event


def test_json_is_one_object_a_line() -> None:
    with configured("json", "info") as stream:
        structlog.get_logger("a").info("one", did="did:plc:a")
        logging.getLogger("b").info("two\nlines %s", 2)
        structlog.get_logger("a").debug("not shown")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first["event"] == "one"
    assert first["did"] == "did:plc:a"
    assert first["level"] == "info"
    assert second["event"] == "two\nlines 2"
    assert second["timestamp"].endswith("Z")


@pytest.mark.parametrize("foreign", [False, True])
def test_expected_failures_have_no_traceback_and_bugs_have_one(
    lines: io.StringIO, foreign: bool
) -> None:
    log = logging.getLogger("a") if foreign else structlog.get_logger("a")
    for error in (
        ConnectionRefusedError(111, "Connection refused"),
        OSError(28, "No space left on device"),
        TimeoutError(),
        psycopg.OperationalError("connection failed: no server"),
    ):
        try:
            raise error
        except Exception:
            log.exception("failed")
    told = lines.getvalue()
    assert "Traceback" not in told
    assert told.count("\n") == 4
    for words in ("Connection refused", "no space left", "no reply", "no server"):
        assert words in told
    try:
        raise psycopg.errors.DeadlockDetected("a fault of ours")
    except Exception:
        log.exception("failed")
    assert "Traceback" in lines.getvalue()
