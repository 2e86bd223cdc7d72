"""Link cards of posts, with what the records behind their pages tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from appview_world import Provider, serve_world
from small_world import PICTURE, World, did

DOCUMENT = "site.standard.document"
PUBLICATION = "site.standard.publication"
EXTERNAL = "app.bsky.embed.external"
URL = "https://blog.example.com/first"
NO_CID = "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"
AT = "2026-01-02T03:04:05.000Z"


def _fill(world: World) -> dict[str, str]:
    for name in ("pat", "doc", "gone"):
        world.write(name, "app.bsky.actor.profile", {"displayName": name}, "self")
    blog = {"url": "https://blog.example.com", "name": "The Blog"}
    uris = {
        "blog": world.write("pat", PUBLICATION, blog),
        "of gone": world.write("gone", PUBLICATION, blog),
        "plain": world.post("doc", "no page"),
    }
    for key, site in (("article", "blog"), ("of lost", "of gone")):
        document = {
            "site": uris[site],
            "path": "/first",
            "title": "From the record",
            "description": "told",
            "publishedAt": AT,
            "coverImage": PICTURE,
        }
        uris[key] = world.write("doc", DOCUMENT, document)

    def post(key: str, refs: Any, url: str = URL, **more: Any) -> None:
        external = {"uri": url, "title": "Mine", "description": "", **more}
        external["associatedRefs"] = refs
        uris[key] = world.post("pat", key, embed=_card(external))

    both = [world.reference(uris[name]) for name in ("article", "blog")]
    post("both", both)
    post("picture", both, thumb={**PICTURE, "size": 7})
    post("alone", both[:1])
    post("home", both[1:], "https://blog.example.com/")
    post("other page", both, "https://blog.example.com/second")
    post("old version", [{**ref, "cid": NO_CID} for ref in both])
    post("lost", [world.reference(uris[name]) for name in ("of lost", "of gone")])
    post("no record", [world.reference(uris["plain"])])
    post("odd", [7, {"uri": 7, "cid": "x"}, {"uri": "at://", "cid": NO_CID}])
    post("no list", "refs")
    media = world.records["pat"][uris["both"].split("/", 3)[3]]["embed"]
    embed = {"$type": "app.bsky.embed.recordWithMedia", "media": media}
    embed["record"] = world.embed(uris["plain"])
    uris["with record"] = world.post("pat", "with record", embed=embed)
    return uris


def _card(external: dict[str, Any]) -> dict[str, Any]:
    return {"$type": EXTERNAL, "external": external}


@pytest.fixture(scope="module")
def provider(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(url, _fill, {"gone": "deactivated"}) as served:
        yield served
    databases.drop(url)


def card(provider: Provider, key: str) -> dict[str, Any]:
    found = provider.get("app.bsky.feed.getPosts", uris=[provider.uris[key]])
    embed = found["posts"][0]["embed"]
    external: dict[str, Any] = embed.get("media", embed)["external"]
    return external


@pytest.mark.parametrize("key", ["both", "picture", "with record"])
def test_card_has_what_its_records_tell(provider: Provider, key: str) -> None:
    found = card(provider, key)
    assert found["uri"] == URL
    assert (found["title"], found["description"]) == ("From the record", "told")
    assert found["createdAt"] == AT
    assert found["source"]["title"] == "The Blog"
    owners = [profile["did"] for profile in found["associatedProfiles"]]
    assert owners == [did("doc"), did("pat")]
    refs = [ref["uri"] for ref in found["associatedRefs"]]
    assert refs == [provider.uris["article"], provider.uris["blog"]]
    # The picture of the post comes before that of the document.
    owner = did("pat") if key == "picture" else did("doc")
    assert f"did={owner}&" in found["thumb"]


def test_publication_alone_is_its_home_page(provider: Provider) -> None:
    found = card(provider, "home")
    assert found["title"] == "The Blog"
    assert len(found["associatedRefs"]) == 1


@pytest.mark.parametrize(
    "key",
    ["alone", "other page", "old version", "lost", "no record", "odd", "no list"],
)
def test_card_without_fitting_records_is_that_of_the_post(
    provider: Provider, key: str
) -> None:
    found = card(provider, key)
    assert (found["title"], found["description"]) == ("Mine", "")
    assert {"source", "createdAt", "thumb"}.isdisjoint(found)


def test_cards_of_quoted_posts_have_it_too(provider: Provider) -> None:
    feed = provider.pages("app.bsky.feed.getAuthorFeed", "feed", actor=did("pat"))
    titles = [i["post"]["embed"].get("media", i["post"]["embed"]) for i in feed]
    told = [t for t in titles if t["external"]["title"] == "From the record"]
    assert len(told) == 3
