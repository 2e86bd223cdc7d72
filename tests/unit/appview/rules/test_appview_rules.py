from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from appview_world import Provider, RefusedError, serve_world
from rules_world import RELATIONS, STATUSES, fill
from small_world import did

from appview.rule_checks import Condition
from appview.rules import TABLE as TABLE_OF_RULES
from appview.rules import Place

# The effect on an account in each relation (columns), at each place (rows).
# + shown, . absent, b blocked, n not found, r a thread that is refused;
# 4 "Profile not found", t AccountTakedown, d AccountDeactivated, B BlockedActor,
# V BlockedByActor, A "Actor not found".
# The relations in order: none; the viewer blocks it, is blocked by it, blocks it by
# list, is blocked by it by list; the author of the topic likewise; taken down,
# suspended, deactivated, deleted; opted out of readers who are not signed in.
TABLE = """
profile          + ++++ ++++ ttd4 +
profiles         + ++++ ++++ .... +
actor search     + .... ++++ .... +
typeahead        + .... ++++ .... +
exact typeahead  + ++++ ++++ .... +
posts            + .... ++++ .... +
search           + .... ++++ .... +
feed             + .... ++++ .... +
timeline         + .... ++++ .... +
list feed        + .... .... .... +
own likes        + .... ++++ .... +
author feed      + BVBV ++++ 4444 +
follows of it    + ++++ ++++ AAAA +
record           + ++++ ++++ .... +
thread           + bbbb ++++ rrrr +
reply            + bbbb .... .... +
parent           + bbbb bbbb nnnn +
parent in feed   + bbbb bbbb nnnn +
item under it    + .... ++++ ++++ +
flat thread      + bbbb ++++ nnnn +
flat reply       + .... .... .... +
flat parent      + bbbb bbbb nnnn +
quote            + bbbb bbbb nnnn +
its quote        + .... bbbb .... +
quoting          + .... .... .... +
like             + .... .... .... +
repost           + .... ++++ .... +
repost in feed   + .... ++++ .... +
follower         + .... .... .... +
followed         + .... .... .... +
"""
FEED = "app.bsky.feed."
GRAPH = "app.bsky.graph."
ACTOR = "app.bsky.actor."


def _rows() -> dict[str, str]:
    lines = [line.rsplit(maxsplit=5) for line in TABLE.strip().splitlines()]
    return {place.strip(): "".join(cells) for place, *cells in lines}


ROWS = _rows()


@pytest.fixture(scope="module")
def provider(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(url, fill, STATUSES) as provider:
        with psycopg.connect(url) as conn:
            conn.execute(
                "UPDATE actor SET upstream_status = 'deleted' WHERE did = %s",
                (did("deleted"),),
            )
        yield provider
    databases.drop(url)


class Look:
    """Return, for each method, how the account `name` is shown at a place."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._uris = provider.uris

    def _get(self, nsid: str, **params: Any) -> Any:
        return self._provider.get(nsid, viewer="viewer", **params)

    def _is_there(self, name: str, actors: list[dict[str, Any]]) -> str:
        return "+" if did(name) in [actor["did"] for actor in actors] else "."

    def _has(self, uri: str, posts: list[dict[str, Any]]) -> str:
        return "+" if uri in [post["uri"] for post in posts] else "."

    def profile(self, name: str) -> str:
        try:
            self._get(f"{ACTOR}getProfile", actor=did(name))
        except RefusedError as refused:
            return {
                ("InvalidRequest", "Profile not found"): "4",
                ("AccountTakedown", "Account has been suspended"): "t",
                ("AccountDeactivated", "Account is deactivated"): "d",
            }[refused.name, refused.message]
        return "+"

    def profiles(self, name: str) -> str:
        found = self._get(f"{ACTOR}getProfiles", actors=[did(name)])
        return self._is_there(name, found["profiles"])

    def actor_search(self, name: str) -> str:
        found = self._get(f"{ACTOR}searchActors", q=name, limit=100)
        return self._is_there(name, found["actors"])

    def typeahead(self, name: str) -> str:
        found = self._get(f"{ACTOR}searchActorsTypeahead", q=name[:-1], limit=100)
        return self._is_there(name, found["actors"])

    def exact_typeahead(self, name: str) -> str:
        found = self._get(f"{ACTOR}searchActorsTypeahead", q=f"{name}.test")
        return self._is_there(name, found["actors"])

    def posts(self, name: str) -> str:
        uri = self._uris[name]
        return self._has(uri, self._get(f"{FEED}getPosts", uris=[uri])["posts"])

    def search(self, name: str) -> str:
        found = self._get(f"{FEED}searchPosts", q="quokka", limit=100)
        return self._has(self._uris[name], found["posts"])

    def feed(self, name: str) -> str:
        posts = [item["post"] for item in self._following()]
        return self._has(self._uris[name], posts)

    def _following(self) -> list[dict[str, Any]]:
        own = f"at://{self._provider.app.service_did}/app.bsky.feed.generator"
        items: list[dict[str, Any]] = self._provider.pages(
            f"{FEED}getFeed", "feed", feed=f"{own}/following", viewer="viewer"
        )
        return items

    def timeline(self, name: str) -> str:
        return self._in_pages(name, f"{FEED}getTimeline")

    def list_feed(self, name: str) -> str:
        members = self._uris["members"]
        return self._in_pages(name, f"{FEED}getListFeed", list=members)

    def own_likes(self, name: str) -> str:
        return self._in_pages(name, f"{FEED}getActorLikes", actor=did("viewer"))

    def _in_pages(self, name: str, nsid: str, **params: Any) -> str:
        items = self._provider.pages(nsid, "feed", viewer="viewer", **params)
        posts = [item["post"] for item in items if "reason" not in item]
        return self._has(self._uris[name], posts)

    def author_feed(self, name: str) -> str:
        try:
            found = self._get(f"{FEED}getAuthorFeed", actor=did(name), limit=100)
        except RefusedError as refused:
            return {
                "Profile not found": "4",
                f"Requester has blocked actor: {did(name)}": "B",
                f"Requester is blocked by actor: {did(name)}": "V",
            }[refused.message]
        return self._has(self._uris[name], [item["post"] for item in found["feed"]])

    def follows_of_it(self, name: str) -> str:
        for method in ("getFollows", "getFollowers"):
            try:
                self._get(f"{GRAPH}{method}", actor=did(name))
            except RefusedError as refused:
                return {f"Actor not found: {did(name)}": "A"}[refused.message]
        return "+"

    def record(self, name: str) -> str:
        place = {"collection": "app.bsky.actor.profile", "rkey": "self"}
        try:
            self._get("com.atproto.repo.getRecord", repo=did(name), **place)
        except RefusedError as refused:
            return {f"Could not find repo: {did(name)}": "."}[refused.message]
        return "+"

    def thread(self, name: str) -> str:
        try:
            found = self._get(f"{FEED}getPostThread", uri=self._uris[name])
        except RefusedError as refused:
            return {"NotFound": "r"}[refused.name]
        return _kind(found["thread"])

    def reply(self, name: str) -> str:
        found = self._get(f"{FEED}getPostThread", uri=self._uris["topic"])
        uri = self._uris[f"{name} reply"]
        kinds = {_uri(reply): _kind(reply) for reply in found["thread"]["replies"]}
        return kinds.get(uri, ".")

    def parent(self, name: str) -> str:
        found = self._get(f"{FEED}getPostThread", uri=self._uris[f"under {name}"])
        return _kind(found["thread"]["parent"])

    def parent_in_feed(self, name: str) -> str:
        items = self._provider.pages(
            f"{FEED}getAuthorFeed", "feed", actor=did("author"), viewer="viewer"
        )
        uri = self._uris[f"under {name}"]
        item = next(item for item in items if item["post"]["uri"] == uri)
        kinds = {_kind(item["reply"][end]) for end in ("parent", "root")}
        assert len(kinds) == 1
        return kinds.pop()

    def item_under_it(self, name: str) -> str:
        posts = [item["post"] for item in self._following()]
        return self._has(self._uris[f"under {name}"], posts)

    def flat_thread(self, name: str) -> str:
        return self._item(self._uris[name], 0)

    def flat_parent(self, name: str) -> str:
        return self._item(self._uris[f"under {name}"], -1)

    def flat_reply(self, name: str) -> str:
        items = self._flat(self._uris["topic"])
        uris = {item["uri"] for item in items}
        return "+" if self._uris[f"{name} reply"] in uris else "."

    def _item(self, uri: str, depth: int) -> str:
        [item] = [item for item in self._flat(uri) if item["depth"] == depth]
        kind = item["value"]["$type"].rpartition("#threadItem")[2]
        return {"Post": "+", "Blocked": "b", "NotFound": "n"}[kind]

    def _flat(self, uri: str) -> list[dict[str, Any]]:
        found = self._get("app.bsky.unspecced.getPostThreadV2", anchor=uri)
        items: list[dict[str, Any]] = found["thread"]
        return items

    def quoting(self, name: str) -> str:
        found = self._get(f"{FEED}getQuotes", uri=self._uris["topic"], limit=100)
        return self._has(self._uris[f"{name} quotes"], found["posts"])

    def quote(self, name: str) -> str:
        return self._quoted(self._uris[f"quote of {name}"])

    def its_quote(self, name: str) -> str:
        return self._quoted(self._uris[f"{name} quotes"])

    def _quoted(self, uri: str) -> str:
        posts = self._get(f"{FEED}getPosts", uris=[uri])["posts"]
        return _kind(posts[0]["embed"]["record"]) if posts else "."

    def like(self, name: str) -> str:
        found = self._get(f"{FEED}getLikes", uri=self._uris["topic"], limit=100)
        return self._is_there(name, [like["actor"] for like in found["likes"]])

    def repost(self, name: str) -> str:
        found = self._get(f"{FEED}getRepostedBy", uri=self._uris["topic"], limit=100)
        return self._is_there(name, found["repostedBy"])

    def repost_in_feed(self, name: str) -> str:
        by = [item["reason"]["by"] for item in self._following() if "reason" in item]
        return self._is_there(name, by)

    def follower(self, name: str) -> str:
        found = self._get(f"{GRAPH}getFollowers", actor=did("author"), limit=100)
        return self._is_there(name, found["followers"])

    def followed(self, name: str) -> str:
        found = self._get(f"{GRAPH}getFollows", actor=did("author"), limit=100)
        return self._is_there(name, found["follows"])


def _uri(view: dict[str, Any]) -> str:
    uri: str = view["post"]["uri"] if "post" in view else view["uri"]
    return uri


def _kind(view: dict[str, Any]) -> str:
    if "notFound" in view:
        return "n"
    if "blocked" in view:
        assert view["author"]["did"] == _uri(view).split("/")[2]
        assert isinstance(view["author"]["viewer"]["blockedBy"], bool)
        return "b"
    return "+"


@pytest.mark.parametrize("place", ROWS)
def test_rules_at_each_place(provider: Provider, place: str) -> None:
    look: Callable[[str], str] = getattr(Look(provider), place.replace(" ", "_"))
    seen = {name: look(name) for name in RELATIONS}
    assert seen == dict(zip(RELATIONS, ROWS[place], strict=True))


def test_viewer_state_names_records_and_lists(provider: Provider) -> None:
    def state(name: str) -> dict[str, Any]:
        profile = provider.get(f"{ACTOR}getProfile", actor=did(name), viewer="viewer")
        viewer: dict[str, Any] = profile["viewer"]
        viewer.pop("knownFollowers", None)
        return viewer

    assert state("none")["following"].startswith(f"at://{did('viewer')}/")
    blocking = state("blocking")
    unmuted = dict.fromkeys(("muted", "mutedOnlyReposts", "mutedOnlyQuoteposts"), False)
    assert blocking.keys() == {*unmuted, "blockedBy", "blocking"}
    assert blocking["blocking"] == f"at://{did('viewer')}/{GRAPH}block/my-block"
    assert state("blockedby") == {**unmuted, "blockedBy": True}
    listing = state("listing")
    assert listing["blocking"] == listing["blockingByList"]["uri"]
    assert listing["blockingByList"]["name"] == "list of viewer"
    assert state("listedby") == {**unmuted, "blockedBy": True}


def test_third_party_blocks_apply_without_a_viewer(provider: Provider) -> None:
    thread = provider.get(f"{FEED}getPostThread", uri=provider.uris["topic"])["thread"]
    shown = {_uri(reply) for reply in thread["replies"]}
    assert provider.uris["none reply"] in shown
    assert provider.uris["blocking reply"] in shown
    for name in ("party", "partyof", "partylist", "partylistof"):
        assert provider.uris[f"{name} reply"] not in shown


def test_opted_out_accounts_carry_their_label(provider: Provider) -> None:
    want = ("!no-unauthenticated", did("opted"))
    profile = provider.get(f"{ACTOR}getProfile", actor=did("opted"))
    post = provider.get(f"{FEED}getPosts", uris=[provider.uris["opted"]])["posts"][0]
    hits = provider.get(f"{ACTOR}searchActors", q="opted")["actors"]
    for view in (profile, post["author"], hits[0]):
        assert want in [(label["val"], label["src"]) for label in view["labels"]]


def test_profile_of_a_merely_named_account_is_refused(provider: Provider) -> None:
    with pytest.raises(RefusedError) as refused:
        provider.get(f"{ACTOR}getProfile", actor=did("nobody"))
    assert refused.value.message == "Profile not found"


def test_table_has_every_place_and_every_condition() -> None:
    assert set(TABLE_OF_RULES) == set(Place)
    used = {condition for row in TABLE_OF_RULES.values() for condition, _ in row}
    assert used == set(Condition)


def test_handle_of_a_deleted_account_does_not_resolve(provider: Provider) -> None:
    resolve = "com.atproto.identity.resolveHandle"
    assert provider.get(resolve, handle="inactive.test")["did"] == did("inactive")
    with pytest.raises(RefusedError, match="Unable to resolve handle"):
        provider.get(resolve, handle="deleted.test")


def test_viewer_does_not_follow_itself(provider: Provider) -> None:
    profile = provider.get(f"{ACTOR}getProfile", actor=did("viewer"), viewer="viewer")
    assert not {"following", "followedBy"} & profile["viewer"].keys()
