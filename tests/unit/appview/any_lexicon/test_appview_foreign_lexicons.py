"""Records of lexicons that no code knows, searched and listed by their NSID."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from appview_world import Provider, RefusedError, serve_world
from foreign_lexicons import FOREIGN, Foreign
from small_world import World, did

from indexer.collections.lexicon_store import store_lexicon
from indexer.collections.texts import PLANS, TEXTS
from protocol.data.json_form import from_json
from search.drain import drain_outbox
from storage.lexicons import FOLDER, requeue_step
from storage.postgres.pool import open_pool

SEARCH = "bigworld.search.searchRecords"
LIST = "bigworld.search.listRecords"


def fill(world: World) -> dict[str, str]:
    uris = {}
    for number, foreign in enumerate(FOREIGN):
        name = ("alice", "bob", "carol")[number % 3]
        record = {k: v for k, v in foreign.record.items() if k != "createdAt"}
        uris[foreign.nsid] = world.write(name, foreign.nsid, record, foreign.rkey)
        if foreign.nsid in ("org.dateless.poem", "org.history.battle"):
            path = uris[foreign.nsid].split("/", 3)[3]
            del world.records[name][path]["createdAt"]
    uris["dans"] = world.write("dan", "org.soup.recipe", {"name": "berbere of Dan"})
    for number in range(30):
        world.write("alice", "org.pages.item", {"title": f"walrus {number}"})
    return uris


def teach(provider: Provider) -> None:
    """Store all lexicons and read their records anew."""
    with open_pool(provider.database, max=2) as pool, pool.connection() as conn:
        for foreign in FOREIGN:
            store_lexicon(conn, json.dumps(foreign.document).encode(), FOLDER)
            for nsid, defs in foreign.more.items():
                other = {"lexicon": 1, "id": nsid, "defs": defs}
                store_lexicon(conn, json.dumps(other).encode(), FOLDER)
        conn.commit()
        while requeue_step(conn, limit=7):
            conn.commit()
        PLANS.clear()
        conn.execute("SELECT 1 FROM lexicon WHERE requeue IS NOT NULL")
        conn.commit()
        while drain_outbox(conn, provider.app.engine, TEXTS, 1000):
            pass


@pytest.fixture(scope="module", params=["unknown", "derived"])
def served(request: pytest.FixtureRequest, databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    PLANS.clear()
    with serve_world(url, fill) as provider:
        if request.param == "derived":
            teach(provider)
        yield provider
    PLANS.clear()
    databases.drop(url)


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda item: item.nsid)
def test_foreign_lexicon_is_found_by_its_nsid(
    served: Provider, foreign: Foreign
) -> None:
    uri = served.uris[foreign.nsid]
    answer = served.get(SEARCH, q=foreign.query, collection=foreign.nsid)
    assert [hit["uri"] for hit in answer["records"]] == [uri]
    [hit] = answer["records"]
    owner = uri.split("/")[2]
    name = next(n for n in ("alice", "bob", "carol") if did(n) == owner)
    assert hit["author"] == {"did": owner, "handle": f"{name}.test"}
    assert from_json(hit["value"]) == from_json(
        served.world.records[name][uri.split("/", 3)[3]]
    )
    listed = served.get(LIST, collection=foreign.nsid)["records"]
    assert [item["uri"] for item in listed] == [uri]
    assert listed[0]["indexedAt"]
    assert served.get(SEARCH, q="xyzzyplugh", collection=foreign.nsid) == {
        "records": []
    }


def test_words_of_one_lexicon_do_not_find_another(served: Provider) -> None:
    assert served.get(SEARCH, q="berbere", collection="org.code.repo")["records"] == []
    everywhere = served.get(SEARCH, q="berbere", facets="true")
    assert [hit["uri"] for hit in everywhere["records"]] == [
        served.uris["org.soup.recipe"]
    ]
    assert everywhere["facets"] == {
        "counted": 1,
        "complete": True,
        "collections": [{"collection": "org.soup.recipe", "count": 1}],
    }


def test_prefix_author_and_dates_narrow_a_search(served: Provider) -> None:
    def found(**params: Any) -> set[str]:
        return {hit["uri"] for hit in served.get(SEARCH, **params)["records"]}

    other = {served.uris["org.other.refs.review"]}
    assert found(collection="org.other.*") == other
    assert found(collection=["org.other.refs.*", "org.nothing.here"]) == other
    assert found(collection="org.othe.*") == set()
    battle = served.uris["org.history.battle"]
    assert found(collection="org.history.*", author=battle.split("/")[2]) == {battle}
    assert found(collection="org.history.*", author="dan.test") == set()
    assert found(collection="org.history.battle", since="2020-01-01") == set()
    assert found(collection="org.history.battle", until="1100-01-01") == {battle}


def test_pages_of_one_hold_every_record_once(served: Provider) -> None:
    for params in ({"limit": 1}, {"limit": 7}, {"limit": 100}):
        for nsid, more in ((LIST, {}), (SEARCH, {"q": "walrus"}), (SEARCH, {})):
            items = served.pages(
                nsid, "records", collection="org.pages.item", **params, **more
            )
            assert len({item["uri"] for item in items}) == len(items) == 30


def test_hidden_accounts_are_left_out(served: Provider) -> None:
    assert served.uris["dans"] not in {
        item["uri"]
        for item in served.get(LIST, collection="org.soup.recipe")["records"]
    }


def test_snippet_is_a_part_of_the_text(served: Provider) -> None:
    [hit] = served.get(SEARCH, q="burrows", collection="org.code.repo")["records"]
    text = hit["snippet"]["text"]
    assert "parses" in text
    for span in hit["snippet"]["highlights"]:
        part = text.encode()[span["byteStart"] : span["byteEnd"]].decode()
        assert part.lower() == "burrows"


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"collection": "nonsense"}, "InvalidRequest"),
        ({"collection": "*"}, "InvalidRequest"),
        ({"collection": "org.*.x"}, "InvalidRequest"),
        ({"q": "since:yesterdayish"}, "BadQueryString"),
        ({"q": "in:likes"}, "BadQueryString"),
        ({"cursor": "x"}, "InvalidCursor"),
    ],
)
def test_invalid_parameters_are_refused(
    served: Provider, params: dict[str, Any], error: str
) -> None:
    with pytest.raises(RefusedError) as refused:
        served.get(SEARCH, **params)
    assert (refused.value.status, refused.value.name) == (400, error)


def test_unknown_collection_is_empty(served: Provider) -> None:
    assert served.get(LIST, collection="org.never.seen") == {"records": []}
    assert served.get(SEARCH, q="x", collection="org.never.seen") == {"records": []}
