"""Answers of an indexer that is behind, with what the user wrote since."""

from __future__ import annotations

from typing import Any

import pytest
from pds_provider import Provider, start_provider
from pds_world import Client, World, head, new_account, post, sign_up
from starlette.responses import JSONResponse, PlainTextResponse, Response

REV = "atproto-repo-rev"
LAG = "atproto-upstream-lag"
LONG_AGO = "2020-01-01T00:00:00.000Z"
FAR_AHEAD = "2148-01-01T00:00:00Z"
OTHER = {"did": "did:plc:" + "b" * 24, "handle": "bob.test"}
IMAGES = "https://cdn.example.com/{preset}/{did}/{cid}"


@pytest.fixture(scope="module")
def provider(world: World) -> Provider:
    return start_provider(world, "late")


@pytest.fixture(scope="module")
def server(world: World, provider: Provider) -> Client:
    return world.start_pds(
        default_indexer=f"{provider.did}#bigworld", cdn_url_pattern=IMAGES
    )


class Late:
    """An indexer with an account's repo up to a revision."""

    def __init__(self, client: Client, provider: Provider) -> None:
        self.client, self.provider = client, provider
        self.rev = head(client)["rev"]
        self.author = {"did": client.did, "handle": "invalid.test"}
        provider.answers.clear()
        provider.requests.clear()

    def answer(
        self, nsid: str, body: Any, status: int = 200, rev: str | None = None
    ) -> None:
        headers = {REV: rev or self.rev, "atproto-content-labelers": "did:plc:x"}
        self.provider.answers[nsid] = JSONResponse(body, status, headers)

    def write(self, record: dict[str, Any]) -> dict[str, str]:
        answer = self.client.create(record)
        assert answer.status == 200, answer.body
        found: dict[str, str] = answer.json
        return found

    def view(self, name: str, indexed_at: str, **record: Any) -> dict[str, Any]:
        uri = f"at://{OTHER['did']}/app.bsky.feed.post/{name}"
        return {
            "uri": uri,
            "cid": "bafyreibjo4xmgaevkgud7mbifn3dzp4v4lyaui4yvqp3f2bqwtxcjrdqg4",
            "author": OTHER,
            "record": post(name) | record,
            "indexedAt": indexed_at,
        }


@pytest.fixture
def late(server: Client, provider: Provider) -> Late:
    return Late(new_account(server), provider)


def blob(client: Client) -> dict[str, Any]:
    headers = {"content-type": "image/png"}
    path = "/xrpc/com.atproto.repo.uploadBlob"
    found: dict[str, Any] = client.send(
        "POST", path, body=b"\x89PNG\r\n\x1a\n", headers=headers
    ).json["blob"]
    return found


def put_profile(client: Client, **fields: Any) -> None:
    record = {"$type": "app.bsky.actor.profile"} | fields
    answer = client.post(
        "com.atproto.repo.putRecord",
        {
            "repo": client.did,
            "collection": "app.bsky.actor.profile",
            "rkey": "self",
            "record": record,
        },
    )
    assert answer.status == 200, answer.body


def texts(feed: list[Any]) -> list[str]:
    return [item["post"]["record"]["text"] for item in feed]


TIMELINE = "app.bsky.feed.getTimeline"
AUTHOR_FEED = "app.bsky.feed.getAuthorFeed"
THREAD = "app.bsky.feed.getPostThread"


def test_new_posts_are_inserted_at_their_places(late: Late) -> None:
    late.write(post("mine 1"))
    seen = late.write(post("mine 2"))
    feed = [
        {"post": late.view("pin", LONG_AGO), "reason": {"$type": _PIN}},
        {"post": late.view("ahead", FAR_AHEAD)},
        {"post": late.view("old", LONG_AGO)},
    ]
    late.answer(TIMELINE, {"feed": feed, "cursor": "next"})
    answer = late.client.get(TIMELINE)
    assert texts(answer.json["feed"]) == ["pin", "ahead", "mine 2", "mine 1", "old"]
    assert answer.json["cursor"] == "next"
    mine = answer.json["feed"][2]["post"]
    assert mine["author"]["did"] == late.client.did
    assert mine["author"]["handle"].endswith(".a.test")
    assert (mine["uri"], mine["likeCount"]) == (seen["uri"], 0)
    assert 0 <= int(answer.headers[LAG]) < 60_000
    assert answer.headers["atproto-content-labelers"] == "did:plc:x"
    # Newer posts belong to the first page.
    assert late.client.get(TIMELINE, cursor="next").json["feed"] == feed


_PIN = "app.bsky.feed.defs#reasonPin"


def test_indexer_that_is_not_behind_is_passed_through(late: Late) -> None:
    late.write(post("seen"))
    late.rev = head(late.client)["rev"]
    late.answer(TIMELINE, {"feed": []})
    answer = late.client.get(TIMELINE)
    assert answer.json == {"feed": []}
    assert LAG not in answer.headers


def test_post_that_the_answer_has_is_not_repeated(late: Late) -> None:
    uri = late.write(post("there already"))["uri"]
    view = late.view("x", LONG_AGO) | {"uri": uri}
    late.answer(TIMELINE, {"feed": [{"post": view}]})
    assert [i["post"]["uri"] for i in late.client.get(TIMELINE).json["feed"]] == [uri]


@pytest.mark.parametrize(
    "answer",
    [
        PlainTextResponse("no JSON", headers={REV: "2222222222222"}),
        JSONResponse({"feed": [{"post": 1}]}, headers={REV: "2222222222222"}),
        JSONResponse({"feed": []}, headers={REV: "no tid"}),
        JSONResponse({"feed": []}),
        JSONResponse({"error": "Odd", "message": "x"}, 400, {REV: "2222222222222"}),
    ],
)
def test_answers_that_cannot_be_updated_are_passed_through(
    late: Late, answer: Response
) -> None:
    late.write(post("mine"))
    late.provider.answers[TIMELINE] = answer
    got = late.client.get(TIMELINE)
    assert (got.status, got.body) == (answer.status_code, answer.body)


def test_only_the_newest_posts_are_shown(late: Late) -> None:
    for number in range(12):
        late.write(post(f"number {number}"))
    late.client.post(
        "com.atproto.repo.createRecord",
        {
            "repo": late.client.did,
            "collection": "app.bsky.feed.post",
            "record": {"$type": "app.bsky.feed.post", "text": 5},
            "validate": False,
        },
    )
    late.answer(TIMELINE, {"feed": []})
    shown = texts(late.client.get(TIMELINE).json["feed"])
    assert shown == [f"number {n}" for n in range(11, 2, -1)]


def test_author_feed_has_own_posts_by_its_filter(late: Late) -> None:
    root = late.write(post("root"))
    ref = {"uri": root["uri"], "cid": root["cid"]}
    late.write(post("self reply", reply={"root": ref, "parent": ref}))
    other = ref | {"uri": late.view("x", LONG_AGO)["uri"]}
    late.write(post("reply", reply={"root": other, "parent": other}))
    image = {"alt": "a", "image": blob(late.client)}
    embed = {"$type": "app.bsky.embed.images", "images": [image]}
    late.write(post("picture", embed=embed))
    late.answer(AUTHOR_FEED, {"feed": []})

    def ask(**params: str) -> list[str]:
        return texts(late.client.get(AUTHOR_FEED, **params).json["feed"])

    me = late.client.did
    assert ask(actor=me) == ["picture", "reply", "self reply", "root"]
    assert ask(actor=me, filter="posts_no_replies") == ["picture", "root"]
    threads = ask(actor=me, filter="posts_and_author_threads")
    assert threads == ["picture", "self reply", "root"]
    assert ask(actor=me, filter="posts_with_media") == ["picture"]
    assert ask(actor=me, filter="posts_with_video") == []
    assert ask(actor=OTHER["did"]) == []


def test_author_feed_by_handle_is_ones_own(server: Client, provider: Provider) -> None:
    late = Late(sign_up(server, "handled.a.test"), provider)
    late.write(post("mine"))
    late.answer(AUTHOR_FEED, {"feed": []})
    answer = late.client.get(AUTHOR_FEED, actor="Handled.A.test")
    assert texts(answer.json["feed"]) == ["mine"]


def test_new_profile_is_shown_wherever_the_user_is(late: Late) -> None:
    image = blob(late.client)
    put_profile(late.client, displayName="New", avatar=image, description="words")
    cid = image["ref"]["$link"]
    url = IMAGES.format(preset="avatar", did=late.client.did, cid=cid)
    shown = late.author | {"displayName": "Old", "banner": "https://x.test/b"}
    late.answer("app.bsky.actor.getProfile", shown | {"followersCount": 3})
    profile = late.client.get("app.bsky.actor.getProfile", actor=late.client.did)
    assert profile.json == late.author | {
        "displayName": "New",
        "avatar": url,
        "description": "words",
        "followersCount": 3,
    }
    late.answer("app.bsky.actor.getProfiles", {"profiles": [OTHER, shown]})
    both = late.client.get("app.bsky.actor.getProfiles", actors=["x.test", "y.test"])
    assert both.json["profiles"][0] == OTHER
    assert both.json["profiles"][1]["displayName"] == "New"
    liked = [{"post": late.view("a", LONG_AGO) | {"author": shown}}]
    liked.append({"post": late.view("b", LONG_AGO)})
    late.answer("app.bsky.feed.getActorLikes", {"feed": liked})
    likes = late.client.get("app.bsky.feed.getActorLikes", actor=late.client.did)
    authors = [item["post"]["author"] for item in likes.json["feed"]]
    assert [author.get("avatar") for author in authors] == [url, None]


def test_embeds_are_shown_with_records_of_the_indexer(late: Late) -> None:
    quoted = late.view("quoted", LONG_AGO, langs=["en"])
    ref = {"uri": quoted["uri"], "cid": quoted["cid"]}
    lost = ref | {"uri": quoted["uri"].replace("quoted", "lost")}
    record = {"$type": "app.bsky.embed.record", "record": ref}
    thumb = blob(late.client)
    card = {"uri": "https://x.test", "title": "t", "description": "d", "thumb": thumb}
    media = {"$type": "app.bsky.embed.external", "external": card}
    late.write(post("quote", embed=record))
    late.write(post("lost", embed=record | {"record": lost}))
    both = {"$type": "app.bsky.embed.recordWithMedia", "record": record, "media": media}
    late.write(post("both", embed=both))
    late.answer(TIMELINE, {"feed": []})
    late.answer("app.bsky.feed.getPosts", {"posts": [quoted]})
    feed = late.client.get(TIMELINE).json["feed"]
    with_media, absent, plain = (item["post"]["embed"] for item in feed)
    assert plain["record"]["value"]["text"] == "quoted"
    assert plain["record"]["author"] == OTHER
    assert absent["record"]["$type"] == "app.bsky.embed.record#viewNotFound"
    assert with_media["record"] == plain
    assert with_media["media"]["external"]["thumb"].endswith(thumb["ref"]["$link"])
    asked = [r for r, _ in late.provider.requests if r.url.path.endswith("getPosts")]
    assert len(asked) == 1
    assert asked[0].query_params.getlist("uris") == [quoted["uri"], lost["uri"]]
    # An indexer that fails costs the embeds only.
    late.answer("app.bsky.feed.getPosts", ["nonsense"])
    feed = late.client.get(TIMELINE).json["feed"]
    assert all("viewNotFound" in str(item["post"]["embed"]) for item in feed)


def reply_to(view: dict[str, Any], root: dict[str, Any], text: str) -> dict[str, Any]:
    refs = [{"uri": one["uri"], "cid": one["cid"]} for one in (root, view)]
    return post(text, reply={"root": refs[0], "parent": refs[1]})


_THREAD_POST = "app.bsky.feed.defs#threadViewPost"


def test_new_replies_are_inserted_into_threads(late: Late) -> None:
    root, below = late.view("root", LONG_AGO), late.view("below", LONG_AGO)
    first = late.write(reply_to(below, root, "first"))
    late.write(reply_to(first, root, "second"))
    late.write(post("elsewhere"))
    thread = {
        "$type": _THREAD_POST,
        "post": root,
        "replies": [{"$type": _THREAD_POST, "post": below}],
    }
    late.answer(THREAD, {"thread": thread})
    found = late.client.get(THREAD, uri=root["uri"]).json["thread"]
    [reply] = found["replies"][0]["replies"]
    assert reply["post"]["record"]["text"] == "first"
    assert texts(reply["replies"]) == ["second"]
    late.answer(THREAD, {"thread": found})
    assert late.client.get(THREAD, uri=root["uri"]).json["thread"] == found


def test_thread_of_a_post_that_the_indexer_lacks_is_made(late: Late) -> None:
    root = late.view("root", LONG_AGO)
    mine = late.write(reply_to(root, root, "mine"))
    late.write(reply_to(mine, root, "my next"))
    late.answer(THREAD, {"error": "NotFound", "message": "no"}, 400)
    answer = late.client.get(THREAD, uri=mine["uri"])
    assert answer.status == 200
    thread = answer.json["thread"]
    assert thread["post"]["uri"] == mine["uri"]
    assert texts(thread["replies"]) == ["my next"]
    assert "parent" not in thread
    unknown = late.client.get(THREAD, uri=mine["uri"] + "2")
    assert (unknown.status, unknown.error) == (400, "NotFound")
    assert late.client.get(THREAD, uri=root["uri"]).error == "NotFound"


def test_made_thread_has_the_parents_of_the_indexer(late: Late) -> None:
    root = late.view("root", LONG_AGO)
    mine = late.write(reply_to(root, root, "mine"))

    def answer(query: Any) -> Response:
        if query["uri"] == root["uri"]:
            assert (query["depth"], query["parentHeight"]) == ("0", "7")
            return JSONResponse({"thread": {"$type": _THREAD_POST, "post": root}})
        body = {"error": "NotFound", "message": "no"}
        return JSONResponse(body, 400, {REV: late.rev})

    late.provider.answers[THREAD] = answer
    thread = late.client.get(THREAD, uri=mine["uri"], parentHeight=7).json["thread"]
    assert thread["parent"]["post"] == root


@pytest.mark.parametrize("depth", [100, 120, 126, 130, 200, 250, 300])
def test_deep_thread_is_answered(late: Late, depth: int) -> None:
    root = late.view("root", LONG_AGO)
    thread: dict[str, Any] = {"$type": _THREAD_POST, "post": root}
    for _ in range(depth):
        thread = {"$type": _THREAD_POST, "post": root, "replies": [thread]}
    late.write(reply_to(late.view("elsewhere", LONG_AGO), root, "mine"))
    late.answer(THREAD, {"thread": thread})
    answer = late.client.get(THREAD, uri=root["uri"])
    assert (answer.status, answer.json) == (200, {"thread": thread})
