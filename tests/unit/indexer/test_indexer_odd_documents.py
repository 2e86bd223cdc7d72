"""Search documents of odd records: cut if Postgres would refuse them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from indexer_world import POST, author, post

from indexer.batch import BatchResult
from indexer.collections.texts import TEXTS
from search.drain import drain_outbox
from search.engines.postgres import PostgresEngine
from storage.postgres.pool import Conn, Pool

Apply = Callable[..., BatchResult]

THING = "org.example.thing"
_MENTION = "app.bsky.richtext.facet#mention"
_LINK = "app.bsky.richtext.facet#link"
_TAG = "app.bsky.richtext.facet#tag"


def features(kind: str, field: str, *values: str) -> dict[str, Any]:
    facets = [{"features": [{"$type": kind, field: value} for value in values]}]
    return post("odd", facets=facets)


def _ligatures(words: int) -> str:
    """Return text whose characters become four letters each, without repeated words."""
    rng = random.Random(4)
    letters = "\ufdf1\ufdf3\ufdf4\ufdf6\ufdf7\ufdf8"
    return " ".join("".join(rng.choices(letters, k=16)) for _ in range(words))


def _domains(number: int) -> list[str]:
    return [f"http://{'b.' * 120}x{n}/" for n in range(number)]


_LONG_DIDS = [f"did:web:{n}.{'a' * 1_900}" for n in range(500)]

ODD: dict[str, dict[str, Any]] = {
    "a mention with NUL": features(_MENTION, "did", "did:plc:\x00"),
    "a long mention": features(_MENTION, "did", "did:web:" + "d" * 2_040),
    "a longer mention": features(_MENTION, "did", "d" * 5_000),
    "many long mentions": features(_MENTION, "did", *_LONG_DIDS),
    "a link with NUL": features(_LINK, "uri", "http://\x00.org/\x00"),
    "a tag with NUL": features(_TAG, "tag", "\x00", "x" * 5_000),
    "a language with NUL": post("odd", langs=["\x00", "e" * 5_000]),
    "a text with NUL": post("\x00 odd \x00"),
    "many letters": post(_ligatures(3_700)),
    "many letters, many domains": {
        **features(_LINK, "uri", *_domains(64)),
        "text": _ligatures(3_700),
    },
    "lists with NUL": {"$type": THING, "langs": ["\x00"], "tags": ["\x00"]},
    "an address with NUL": {
        "$type": THING,
        "url": "http://a\x00b.org/",
        "name": "\x00",
    },
    "long languages": {"$type": THING, "langs": ["e" * 5_000], "tags": ["t" * 5_000]},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_record_is_indexed(conn: Conn, pool: Pool, apply: Apply, name: str) -> None:
    odd, plain = author(0), author(1)
    value = ODD[name]
    _, first = odd.write(value["$type"], value)
    _, second = plain.write(POST, post("plain words"))
    apply(first, second)
    engine = PostgresEngine(pool)
    while drain_outbox(conn, engine, TEXTS, 50):
        pass
    found = conn.execute(
        "SELECT count(*) FROM search_document JOIN actor ON actor.id = actor"
    ).fetchone()
    assert found == (2,)
