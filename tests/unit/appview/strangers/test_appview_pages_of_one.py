"""Every paged query by pages of one: every item once, as in one large page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from appview_world import Provider, RefusedError, serve_world
from every_method import CATALOG, Focus, queries
from odd_world import fill, write_private_state
from small_world import did


@pytest.fixture(scope="module")
def provider(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(url, fill, unnamed=("fan1",)) as provider:
        write_private_state(provider)
        yield provider
    databases.drop(url)


def paged() -> list[str]:
    found = []
    for nsid in queries():
        method = CATALOG.method(nsid)
        assert method is not None
        fields = (method.params or {}).get("properties", {})
        if {"cursor", "limit"} <= fields.keys():
            found.append(nsid)
    return found


PAGED = paged()


def read(
    provider: Provider, nsid: str, limit: int, viewer: str | None, name: str
) -> list[Any]:
    """Return all items; fail if the pages do not end, or one is too long."""
    method = CATALOG.method(nsid)
    assert method is not None
    schema = method.params or {}
    fields = schema.get("properties", {})
    known = Focus(name).values(provider, nsid)
    wanted = {*schema.get("required", ())} | ({"q", "query", "actor"} & fields.keys())
    bounds = fields["limit"]
    limit = min(max(limit, bounds.get("minimum", 1)), bounds.get("maximum", 100))
    params = {key: known[key] for key in wanted} | {"limit": limit}
    if "viewer" in fields and viewer is not None:
        params["viewer"] = did(viewer)
    headers = {} if viewer is None else {"x-viewer": did(viewer)}
    items: list[Any] = []
    for _ in range(300):
        page, _ = provider.ask(nsid, headers=headers, **params)
        body = json.loads(page)
        [found] = [v for v in body.values() if isinstance(v, list)][:1] or [[]]
        assert len(found) <= limit
        items += found
        if "cursor" not in body:
            return items
        assert found, "an empty page with a cursor"
        params["cursor"] = body["cursor"]
    raise AssertionError("the pages do not end")


def identities(items: list[Any]) -> list[str]:
    """Return items as texts, without the mark that a first page alone can set."""
    return [
        json.dumps({**item, "isRead": None}, sort_keys=True)
        if isinstance(item, dict)
        else item
        for item in items
    ]


SHORT = {"blue.microcosm.links.getManyToManyCounts", "com.atproto.label.queryLabels"}
"""Queries for which the world has one item at most."""
ASKED = (("alice", "alice"), ("fan0", "fan0"), (None, "carol"))
"""Viewer and subject: `fan0` has no profile."""


@pytest.mark.slow
@pytest.mark.parametrize("nsid", PAGED)
def test_pages_of_one_hold_every_item_once(provider: Provider, nsid: str) -> None:
    seen = 0
    for viewer, name in ASKED:
        try:
            whole = read(provider, nsid, 100, viewer, name)
        except RefusedError as refused:
            if refused.status not in (400, 401):
                raise
            continue
        ones = read(provider, nsid, 1, viewer, name)
        assert identities(ones) == identities(whole), (name, viewer)
        assert len({*identities(whole)}) == len(whole), (name, viewer)
        seen = max(seen, len(whole))
    assert seen > 1 or nsid in SHORT, seen
