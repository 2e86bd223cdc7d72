"""searchPostsV2, and the skeletons of searches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from appview_world import Provider, RefusedError, serve_world
from small_world import PICTURE, World, did

from appview.post_queries import query_languages

V2 = "app.bsky.feed.searchPostsV2"
V1 = "app.bsky.feed.searchPosts"
SKELETON = "app.bsky.unspecced.searchPostsSkeleton"
FEEDS = "app.bsky.unspecced.getPopularFeedGenerators"


def fill(world: World) -> dict[str, str]:
    """Write one post for each filter; all of them say "fox"."""
    uris = {"plain": world.post("ann", "fox plain", langs=["fi"])}
    uris["tagged"] = world.post("ann", "fox tagged", tags=["Zoo"], langs=["sw"])
    images = {
        "$type": "app.bsky.embed.images",
        "images": [{"alt": "", "image": PICTURE}],
    }
    uris["image"] = world.post("ben", "fox image", embed=images)
    video = {**PICTURE, "mimeType": "video/mp4"}
    film = {"$type": "app.bsky.embed.video", "video": video}
    uris["video"] = world.post("ben", "fox video", embed=film)
    card = {"uri": "https://www.paper.example/a", "title": "", "description": ""}
    link = {"$type": "app.bsky.embed.external", "external": card}
    uris["link"] = world.post("cyd", "fox link", embed=link)
    mention = {"$type": "app.bsky.richtext.facet#mention", "did": did("ann")}
    facet = {"index": {"byteStart": 0, "byteEnd": 3}, "features": [mention]}
    uris["mention"] = world.post("cyd", "fox mention", facets=[facet])
    uris["quote"] = world.quote("cyd", uris["plain"], "fox quote")
    uris["reply"] = world.reply("ben", uris["plain"], text="fox reply")
    uris["deep"] = world.reply("ann", uris["reply"], uris["plain"], "fox deep")
    for name in ("mal", "blocked"):
        world.post(name, f"fox of {name}")
    world.write("mal", "app.bsky.graph.block", {"subject": did("vera")})
    world.write("vera", "app.bsky.graph.block", {"subject": did("blocked")})
    world.follow("vera", "ben")
    world.follow("ann", "fan1")
    world.follow("ben", "fan2")
    world.follow("cyd", "fan2")
    world.follow("vera", "mal")
    world.post("vera", "fox of vera")
    for name in ("fan1", "fan2", "ann", "ben", "cyd", "mal"):
        world.like(name, uris["link"])
    world.like("fan1", uris["tagged"])
    world.like("vera", uris["image"])
    held = {"name": "list", "purpose": "app.bsky.graph.defs#curatelist"}
    uris["list"] = world.write("vera", "app.bsky.graph.list", held)
    for name in ("cyd", "mal"):
        item = {"subject": did(name), "list": uris["list"]}
        world.write("vera", "app.bsky.graph.listitem", item)
    for number in range(5):
        pack = {"name": f"Fox pack {number}", "list": uris["list"]}
        owner = "mal" if number == 2 else "ann"
        uris[f"pack{number}"] = world.write(owner, "app.bsky.graph.starterpack", pack)
        feed = {"did": did("ann"), "displayName": f"Foxes {number}"}
        uris[f"feed{number}"] = world.write(owner, "app.bsky.feed.generator", feed)
    return uris


@pytest.fixture(scope="module")
def provider(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(url, fill, statuses={}) as provider:
        yield provider
    databases.drop(url)


def found(provider: Provider, **params: Any) -> set[str]:
    """Return the texts of the found posts without the word that all of them hold."""
    params = {"query": "fox"} | params
    posts = provider.pages(V2, "posts", **params, limit=3)
    texts = [post["record"]["text"] for post in posts]
    assert len(texts) == len({*texts})
    return {text.removeprefix("fox ") for text in texts}


ALL = {"plain", "tagged", "image", "video", "link", "mention", "quote", "reply", "deep"}
OTHERS = {"of mal", "of blocked", "of vera"}


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("Authors", ["ann.test", did("cyd")], "plain tagged deep link mention quote"),
        ("Mentions", ["ann.test"], "mention"),
        ("Domains", ["paper.example"], "link"),
        ("Urls", ["HTTPS://www.paper.example/a", "https://a.example"], "link"),
        ("Hashtags", ["zoo", "none"], "tagged"),
        ("Languages", ["fi-FI", "sw"], "plain tagged"),
    ],
)
def test_lists_find_any_of_their_values_and_exclude_them(
    provider: Provider, name: str, values: list[str], expected: str
) -> None:
    included = found(provider, **{name[0].lower() + name[1:]: values})
    assert included == {*expected.split()}
    assert found(provider, **{f"exclude{name}": values}) == (ALL | OTHERS) - included


def test_embedded_records_are_named_by_handle_too(provider: Provider) -> None:
    uri = provider.uris["plain"]
    for each in (uri, uri.replace(did("ann"), "ann.test")):
        assert found(provider, embeddedAtUris=[each]) == {"quote"}
    out = found(provider, excludeEmbeddedAtUris=[uri])
    assert out == (ALL | OTHERS) - {"quote"}


def test_flags_and_threads(provider: Provider) -> None:
    uris = provider.uris
    assert found(provider, hasMedia="true") == {"image", "video"}
    assert found(provider, hasVideo="true") == {"video"}
    assert found(provider, hasVideo="false") == ALL | OTHERS
    assert found(provider, repliesOnly="true") == {"reply", "deep"}
    assert found(provider, excludeReplies="true") == (ALL | OTHERS) - {"reply", "deep"}
    assert found(provider, replyParentUri=uris["reply"]) == {"deep"}
    thread = {"plain", "reply", "deep"}
    assert found(provider, threadRootUri=uris["plain"], query="") == thread
    assert found(provider, allTime="true") == ALL | OTHERS


def test_viewer_sees_no_blocked_posts_and_own_ones(provider: Provider) -> None:
    shown = (ALL | OTHERS) - {"of mal", "of blocked"}
    assert found(provider, viewer="vera") == shown
    assert found(provider, viewer="vera", following="true") == {
        *("image", "video", "reply")
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("in:following", "image video reply"),
        ("in:likes", "image"),
        ("in:list", "link mention quote"),
        ("-in:list -in:following", "plain tagged deep of.vera"),
        ("from:me", "of.vera"),
    ],
)
def test_sets_of_the_viewer_narrow_a_search(
    provider: Provider, text: str, expected: str
) -> None:
    own = found(provider, query=f"fox {text}", viewer="vera")
    assert own == {name.replace(".", " ") for name in expected.split()}
    shared = provider.skeleton(SKELETON, of="vera", q=f"fox {text}", limit=100)
    assert len(shared["posts"]) == len(own)


def test_list_is_named_by_its_uri(provider: Provider) -> None:
    query = f"fox in:{provider.uris['list']}"
    assert found(provider, query=query) == {"link", "mention", "quote", "of mal"}
    assert found(provider, query=query.replace("list/", "list/x")) == set()


def test_default_order_is_by_rank_and_recent_by_time(provider: Provider) -> None:
    def texts(**params: Any) -> list[str]:
        posts = provider.get(V2, query="fox", limit=3, **params)["posts"]
        return [post["record"]["text"] for post in posts]

    assert "fox link" in texts()
    assert texts() == texts(sort="top")
    assert texts(sort="recent") == ["fox of vera", "fox of blocked", "fox of mal"]
    newest = provider.get(V1, q="fox", limit=1)["posts"][0]["record"]["text"]
    assert newest == "fox of vera"


def test_times_compare_the_time_that_views_show(provider: Provider) -> None:
    posts = provider.get(V2, query="fox", sort="recent", limit=100)["posts"]
    assert posts[3]["indexedAt"] < posts[2]["indexedAt"]
    params = {"since": posts[5]["indexedAt"], "until": posts[2]["indexedAt"]}
    between = provider.get(V2, query="fox", sort="recent", **params)["posts"]
    assert [p["uri"] for p in between] == [p["uri"] for p in posts[3:6]]


def test_number_of_hits_is_sent_with_the_last_page(provider: Provider) -> None:
    assert provider.get(V2, query="nothinglikethis") == {"posts": [], "hitsTotal": 0}
    assert provider.get(V2, query="fox", limit=100)["hitsTotal"] == len(ALL | OTHERS)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "the query holds no word"),
        ({"query": "  "}, "the query holds no word"),
        ({"query": "fox", "repliesOnly": "true", "excludeReplies": "true"}, "exclude"),
        ({"query": "fox", "following": "true"}, "signed-in"),
        ({"query": "in:likes"}, "signed-in"),
        ({"query": "fox", "since": "yesterday"}, "yesterday"),
        ({"query": "x" * 1_025}, "1024 bytes"),
        ({"urls": [f"https://a.example/{n}" for n in range(201)]}, "200 values"),
    ],
)
def test_malformed_queries_are_refused(
    provider: Provider, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(RefusedError) as refused:
        provider.get(V2, **params)
    assert (refused.value.status, refused.value.name) == (400, "BadQueryString")
    assert message in refused.value.message


@pytest.mark.parametrize("nsid", [V1, V2, SKELETON])
@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": 101}, {"cursor": "x"}])
def test_bad_limits_and_cursors_are_refused(
    provider: Provider, nsid: str, params: dict[str, Any]
) -> None:
    with pytest.raises(RefusedError) as refused:
        provider.get(nsid, q="fox", query="fox", **params)
    assert refused.value.status == 400


def test_cursor_of_another_method_is_refused(provider: Provider) -> None:
    cursor = provider.get(V1, q="fox", limit=1)["cursor"]
    for nsid in (V2, SKELETON):
        with pytest.raises(RefusedError) as refused:
            provider.get(nsid, q="fox", query="fox", limit=1, cursor=cursor)
        assert refused.value.name == "InvalidCursor"


def test_skeleton_of_posts_equals_the_search(provider: Provider) -> None:
    for viewer in (None, "vera", "stranger"):
        whole = provider.pages(V1, "posts", q="fox", limit=2, viewer=viewer)
        found: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = provider.skeleton(SKELETON, of=viewer, q="fox", limit=2, **cursor)
            assert page["posts"]
            found += [post["uri"] for post in page["posts"]]
            if "cursor" not in page:
                break
            cursor = {"cursor": page["cursor"]}
        assert found == [post["uri"] for post in whole]


def test_skeleton_of_accounts_and_typeahead(provider: Provider) -> None:
    nsid = "app.bsky.unspecced.searchActorsSkeleton"
    for typed in ("true", "false"):
        page = provider.skeleton(nsid, q="fan", typeahead=typed, limit=1)
        more = provider.skeleton(
            nsid, q="fan", typeahead=typed, limit=9, cursor=page["cursor"]
        )
        dids = [actor["did"] for actor in page["actors"] + more["actors"]]
        assert {*dids} == {did("fan1"), did("fan2")}
    hidden = provider.skeleton(nsid, of="vera", q="blocked")
    assert hidden["actors"] == []


@pytest.mark.parametrize("name", ["searchActors", "searchActorsTypeahead"])
def test_exact_handle_comes_first_then_followed_accounts(
    provider: Provider, name: str
) -> None:
    def handles(**params: Any) -> list[str]:
        actors = provider.get(f"app.bsky.actor.{name}", **params)["actors"]
        return [actor["handle"].removesuffix(".test") for actor in actors]

    assert handles(q="ben.test")[0] == "ben"
    assert handles(q="@BEN.test ")[0] == "ben"
    assert handles(q="fan") == ["fan2", "fan1"]
    assert handles(q="fan", viewer="ann") == ["fan1", "fan2"]


def test_accounts_without_a_profile_are_found(provider: Provider) -> None:
    for nsid in ("searchActors", "searchActorsTypeahead"):
        for term in ("ann.test", "@ann.test", "ANN", did("ann")):
            actors = provider.get(f"app.bsky.actor.{nsid}", q=term)["actors"]
            assert [actor["handle"] for actor in actors][:1] == ["ann.test"]
        assert provider.get(f"app.bsky.actor.{nsid}", q=did("nobody"))["actors"] == []


@pytest.mark.parametrize("version", ["", "V2"])
def test_starter_packs_are_found_by_words_and_prefix(
    provider: Provider, version: str
) -> None:
    nsid = f"app.bsky.graph.searchStarterPacks{version}"
    for term in ("fox pack", "pac"):
        packs = provider.pages(nsid, "starterPacks", q=term, limit=2)
        assert len({pack["uri"] for pack in packs}) == len(packs) == 5
    own = provider.pages(nsid, "starterPacks", q="fox", limit=3, viewer="vera")
    assert len(own) == 4
    skeleton = provider.skeleton(
        "app.bsky.unspecced.searchStarterPacksSkeleton", of="vera", q="fox"
    )
    assert [p["uri"] for p in skeleton["starterPacks"]] == [p["uri"] for p in own]


def test_feeds_are_found_by_a_query(provider: Provider) -> None:
    feeds = provider.pages(FEEDS, "feeds", query="foxe", limit=2)
    assert {feed["displayName"] for feed in feeds} == {f"Foxes {n}" for n in range(5)}
    assert len(provider.pages(FEEDS, "feeds", query="fox", viewer="vera", limit=9)) == 4
    assert provider.get(FEEDS, query="nothinglikethis")["feeds"] == []
    with pytest.raises(RefusedError) as refused:
        provider.get(FEEDS, query="in:likes", viewer="vera")
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("text", "hint", "expected"),
    [
        ("fox", None, []),
        ("東京", None, ["zh"]),
        ("東京", "ja", ["ja"]),
        ("東京タワー", None, ["ja"]),
        ("東京タワー", "ko", ["ja"]),
        ("서울", None, ["ko"]),
        ("กรุงเทพ", None, ["th"]),
        ("القاهرة", None, ["ar"]),
        ("fox", "ja", []),
    ],
)
def test_query_languages_follow_the_script(
    text: str, hint: str | None, expected: list[str]
) -> None:
    assert query_languages(text, hint) == expected
