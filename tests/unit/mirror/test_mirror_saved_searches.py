from __future__ import annotations

import json
from typing import Any

import pytest
from appview_world import Provider, RefusedError
from small_world import did

from storage.private import saved_searches

PUT = "bigworld.search.putSavedSearch"
LIST = "bigworld.search.listSavedSearches"
DELETE = "bigworld.search.deleteSavedSearch"
HOOK = "https://hooks.example.com/x"


def put(provider: Provider, viewer: str, **body: Any) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(provider.post(PUT, body, viewer=viewer))
    return answer


def saved(provider: Provider, viewer: str) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = provider.get(LIST, viewer=viewer)["searches"]
    return answer


def test_searches_are_saved_changed_and_removed(provider: Provider) -> None:
    first = put(provider, "alice", query="wombat -dog", name="Wombats")["search"]
    assert first["collections"] == ["app.bsky.feed.post"]
    assert put(provider, "alice", query="from:bob.test")["search"]["id"] != first["id"]
    changed = put(provider, "alice", id=first["id"], query="quokka")["search"]
    assert (changed["id"], changed["query"]) == (first["id"], "quokka")
    assert changed["streamKey"] == first["streamKey"]
    assert [s["query"] for s in saved(provider, "alice")] == ["quokka", "from:bob.test"]
    for other in ("bob", "carol"):
        assert saved(provider, other) == []
        provider.post(DELETE, {"id": first["id"]}, viewer=other)
        with pytest.raises(RefusedError, match="no saved search") as refused:
            put(provider, other, id=first["id"], query="mine now")
        assert refused.value.name == "SavedSearchNotFound"
    for search in saved(provider, "alice"):
        provider.post(DELETE, {"id": search["id"]}, viewer="alice")
        provider.post(DELETE, {"id": search["id"]}, viewer="alice")
    assert saved(provider, "alice") == []


def test_secret_of_a_webhook_is_shown_once(provider: Provider) -> None:
    answer = put(provider, "bob", query="wombat", webhook=HOOK)
    assert len(answer["webhookSecret"]) == 64
    assert answer["search"]["webhook"] == {"url": HOOK, "status": "active"}
    number = answer["search"]["id"]
    again = put(provider, "bob", id=number, query="quokka", webhook=HOOK)
    assert "webhookSecret" not in again
    other = put(provider, "bob", id=number, query="quokka", webhook=HOOK + "y")
    assert other["webhookSecret"] != answer["webhookSecret"]
    assert "webhookSecret" not in json.dumps(saved(provider, "bob"))
    assert "webhook" not in put(provider, "bob", id=number, query="quokka")["search"]
    provider.post(DELETE, {"id": number}, viewer="bob")


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"query": ""}, "BadQueryString"),
        ({"query": "in:following"}, "BadQueryString"),
        ({"query": "wombat min_likes:3"}, "BadQueryString"),
        ({"query": "from:unknown.test"}, "BadQueryString"),
        ({"query": "x", "webhook": "ftp://example.com"}, "BadQueryString"),
        ({"query": "x", "webhook": "https://a:b@example.com"}, "BadQueryString"),
        ({"query": "x", "webhook": "https://[::"}, "BadQueryString"),
        ({"query": "x", "webhook": "https://example.com/\n"}, "BadQueryString"),
        ({"query": "x", "collections": []}, "InvalidRequest"),
        ({"query": "x", "id": "-1"}, "SavedSearchNotFound"),
        ({"query": "x", "id": "٣"}, "SavedSearchNotFound"),
        ({"query": "x" * 1025}, "InvalidRequest"),
        ({}, "InvalidRequest"),
    ],
)
def test_odd_search_is_refused(
    provider: Provider, body: dict[str, Any], name: str
) -> None:
    with pytest.raises(RefusedError) as refused:
        put(provider, "carol", **body)
    assert (refused.value.status, refused.value.name) == (400, name)
    assert saved(provider, "carol") == []


def test_searches_of_an_account_are_limited(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved_searches, "MAX_SEARCHES", 1)
    number = put(provider, "eve", query="one\0two")["search"]["id"]
    with pytest.raises(RefusedError) as refused:
        put(provider, "eve", query="two")
    assert refused.value.name == "TooManySavedSearches"
    provider.post(DELETE, {"id": number}, viewer="eve")


def test_service_of_an_account_saves_nothing(provider: Provider) -> None:
    for viewer in (None, "alice#service"):
        with pytest.raises(RefusedError) as refused:
            provider.get(LIST, viewer=viewer)
        assert refused.value.status == 401
    assert did("alice")
