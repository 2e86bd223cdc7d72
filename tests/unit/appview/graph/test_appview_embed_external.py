from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from appview_world import Provider, RefusedError, serve_world
from small_world import PICTURE, World, did

VIEW = "app.bsky.embed.getEmbedExternalView"
DOCUMENT = "site.standard.document"
PUBLICATION = "site.standard.publication"
RGB = {"$type": "site.standard.theme.color#rgb", "r": 1, "g": 2, "b": 3}
AT = "2026-01-02T03:04:05.000Z"


def _document(world: World, name: str, site: str, path: str, **more: Any) -> str:
    record = {"site": site, "path": path, "title": f"at {path}", "publishedAt": AT}
    return world.write(name, DOCUMENT, record | more)


def _fill(world: World) -> dict[str, str]:
    for name in ("pat", "doc", "gone"):
        world.write(name, "app.bsky.actor.profile", {"displayName": name}, "self")
    theme = {name: RGB for name in ("background", "foreground", "accent")}
    theme["accentForeground"] = {"$type": "org.example.color", "r": 9}
    blog = {
        "url": "https://Blog.example.com/",
        "name": "The Blog",
        "description": "about",
        "icon": PICTURE,
        "basicTheme": {"$type": "site.standard.theme.basic", **theme},
    }
    leaflet = {"url": "https://pat.leaflet.pub", "name": "Leaflet"}
    uris = {
        "blog": world.write("pat", PUBLICATION, blog),
        "leaflet": world.write("pat", PUBLICATION, leaflet),
        "of gone": world.write("gone", PUBLICATION, {**blog, "name": "Gone"}),
        "invalid": world.write("doc", PUBLICATION, {"url": "https://x.example"}),
    }
    uris["article"] = _document(
        world,
        "doc",
        uris["blog"],
        "/2026/first",
        description="the first",
        coverImage=PICTURE,
        updatedAt="2026-02-02T00:00:00Z",
        textContent="word " * 201,
    )
    uris["loose"] = _document(world, "doc", "https://loose.example.com/a/", "b")
    uris["leaf"] = _document(world, "doc", uris["leaflet"], "/x")
    uris["orphan"] = _document(world, "doc", f"at://{did('pat')}/{PUBLICATION}/no", "/")
    uris["of lost"] = _document(world, "doc", uris["of gone"], "/lost")
    uris["post"] = world.post("doc", "no page")
    return uris


@pytest.fixture(scope="module")
def provider(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(url, _fill, {"gone": "deactivated"}) as served:
        yield served
    databases.drop(url)


def card(provider: Provider, url: str, *names: str) -> dict[str, Any]:
    asked = [provider.uris[name] for name in names]
    answer: dict[str, Any] = provider.get(VIEW, url=url, uris=asked)
    return answer


@pytest.mark.parametrize(
    "names", [("article",), ("blog", "article"), ("article", "blog")]
)
def test_document_with_its_publication(
    provider: Provider, names: tuple[str, ...]
) -> None:
    url = "https://blog.example.com/2026/first/?utm=x#top"
    answer = card(provider, url, *names)
    external = answer["view"]["external"]
    assert answer["view"]["$type"] == "app.bsky.embed.external#view"
    assert external["uri"] == url
    assert (external["title"], external["description"]) == (
        "at /2026/first",
        "the first",
    )
    assert (external["createdAt"], external["updatedAt"]) == (
        AT,
        "2026-02-02T00:00:00Z",
    )
    assert external["readingTime"] == 2
    assert external["thumb"].startswith("https://pds.example.com/")
    assert "labels" not in external
    source = external["source"]
    assert (source["uri"], source["title"]) == ("https://Blog.example.com/", "The Blog")
    assert source["theme"] == {
        f"{name}RGB": {"r": 1, "g": 2, "b": 3}
        for name in ("background", "foreground", "accent")
    }
    owners = [profile["did"] for profile in external["associatedProfiles"]]
    assert owners == [did("doc"), did("pat")]
    references = [ref["uri"] for ref in answer["associatedRefs"]]
    assert references == [provider.uris["article"], provider.uris["blog"]]
    assert external["associatedRefs"] == answer["associatedRefs"]
    assert answer["associatedRecords"][1]["name"] == "The Blog"


def test_publication_alone_is_its_home_page(provider: Provider) -> None:
    external = card(provider, "https://blog.example.com", "blog")["view"]["external"]
    assert (external["title"], external["description"]) == ("The Blog", "about")
    assert "createdAt" not in external
    assert card(provider, "https://blog.example.com/2026", "blog") == {}
    assert card(provider, "https://pat.leaflet.pub/x", "leaflet") == {}


def test_document_of_a_web_site(provider: Provider) -> None:
    answer = card(provider, "https://loose.example.com/a/b", "loose", "blog")
    assert len(answer["associatedRefs"]) == 1
    assert "source" not in answer["view"]["external"]
    assert card(provider, "https://loose.example.com/a/b/c", "loose") == {}


def test_pages_below_a_document_where_authors_own_them(provider: Provider) -> None:
    for url in ("https://pat.leaflet.pub/x", "https://pat.leaflet.pub/x/y"):
        assert card(provider, url, "leaf")["view"]["external"]["title"] == "at /x"
    assert card(provider, "https://pat.leaflet.pub/xy", "leaf") == {}


@pytest.mark.parametrize(
    "names", [("orphan",), ("of lost",), ("of gone",), ("invalid",), ("post",), ()]
)
def test_records_that_make_no_card(provider: Provider, names: tuple[str, ...]) -> None:
    url = (
        "https://blog.example.com/lost"
        if names == ("of lost",)
        else "https://x.example"
    )
    answer = provider.get(
        VIEW,
        url=url,
        uris=[provider.uris[name] for name in names]
        or [f"at://{did('x')}/{DOCUMENT}/x"],
    )
    assert answer == {}


@pytest.mark.parametrize("url", ["ftp://blog.example.com/2026/first", "about:blank"])
def test_other_addresses_have_no_card(provider: Provider, url: str) -> None:
    assert card(provider, url, "article") == {}


def test_number_of_records_is_limited(provider: Provider) -> None:
    with pytest.raises(RefusedError) as refused:
        card(provider, "https://x.example", *(["article"] * 5))
    assert refused.value.status == 400
