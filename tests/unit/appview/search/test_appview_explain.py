from __future__ import annotations

from typing import Any

import psycopg
import pytest
from appview_world import Provider, RefusedError
from small_world import did

EXPLAIN = "bigworld.search.explain"
MISSING = f"at://{did('alice')}/app.bsky.feed.post/3kzzzzzzzzzz2"


def explain(provider: Provider, name: str, q: str, **options: Any) -> Any:
    uri = provider.uris.get(name, name)
    return provider.get(EXPLAIN, uri=uri, q=q, **options)


def test_found_record_has_its_place_parts_and_signals(provider: Provider) -> None:
    answer = explain(provider, "hello", "hello lang:en", sort="top")
    assert (answer["found"], answer["state"], answer["place"]) == (
        True,
        "searchable",
        1,
    )
    assert answer["parts"] == [
        {"part": "hello", "holds": True, "fields": ["text"]},
        {"part": "lang:en", "holds": True, "fields": []},
    ]
    assert answer["signals"]["score"] >= 3
    assert answer["signals"]["languages"] == ["en"]
    assert f"reactions count {answer['signals']['score']}" in answer["reasons"][0]


@pytest.mark.parametrize(
    ("q", "reason"),
    [
        ("hello wombat", "wombat does not hold"),
        ("hello -quokka", "-quokka does not hold"),
        ('"quokka hello"', '"quokka hello" does not hold (these words stand'),
        ("hello lang:ja", "lang:ja does not hold (languages declared: en"),
        ("hello since:2026-12-01", "since:2026-12-01T00:00:00+00:00 does not hold."),
        ("hello min_likes:99", "min_likes:99 does not hold."),
        ("hello (cats OR dogs)", "(cats OR dogs) does not hold."),
        ("hello has:images", "has:images does not hold."),
    ],
)
def test_missed_part_is_named(provider: Provider, q: str, reason: str) -> None:
    answer = explain(provider, "hello", q)
    assert not answer["found"]
    assert any(reason in said for said in answer["reasons"]), answer
    assert "place" not in answer


@pytest.mark.parametrize(
    ("name", "state"),
    [(MISSING, "unknown"), ("dans", "accountHidden")],
)
def test_record_out_of_the_index_has_a_state(
    provider: Provider, name: str, state: str
) -> None:
    answer = explain(provider, name, "quokka")
    assert (answer["found"], answer["state"], answer["parts"]) == (False, state, [])
    assert len(answer["reasons"]) == 1


def test_blocked_record_names_the_rule(provider: Provider) -> None:
    assert explain(provider, "eves", "quokka")["found"]
    answer = explain(provider, "eves", "quokka", viewer="alice")
    assert not answer["found"]
    assert "block each other" in answer["reasons"][0]


def test_record_without_text_is_not_searched(provider: Provider) -> None:
    uri = next(u for u in _likes(provider))
    assert explain(provider, uri, "quokka")["state"] == "noText"


def _likes(provider: Provider) -> list[str]:
    return [
        f"at://{did(name)}/{path}"
        for name, records in provider.world.records.items()
        for path in records
        if path.startswith("app.bsky.feed.like/") and name == "bob"
    ]


def test_waiting_record_says_so(provider: Provider) -> None:
    with psycopg.connect(provider.database, autocommit=True) as conn:
        address = conn.execute(
            "SELECT actor, rkey FROM post JOIN actor ON actor.id = actor"
            " WHERE did = %s LIMIT 1",
            (did("alice"),),
        ).fetchone()
        assert address is not None
        conn.execute(
            "INSERT INTO search_outbox (actor, collection, rkey) VALUES (%s, 0, 0)",
            address[:1],
        )
        try:
            assert explain(provider, "hello", "quokka")["state"] == "waiting"
        finally:
            conn.execute("DELETE FROM search_outbox")


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"uri": f"at://{did('alice')}", "q": "x"}, "InvalidRequest"),
        ({"uri": "hello", "q": "x"}, "InvalidRequest"),
        ({"uri": MISSING, "q": "since:never"}, "BadQueryString"),
        ({"uri": MISSING, "q": "from:me"}, "BadQueryString"),
    ],
)
def test_odd_requests_are_refused(
    provider: Provider, params: dict[str, str], error: str
) -> None:
    with pytest.raises(RefusedError) as refused:
        provider.get(EXPLAIN, **params)
    assert refused.value.name == error
