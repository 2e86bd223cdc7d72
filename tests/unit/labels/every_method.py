"""Calls of every query of the read side, and traces of a subject in the answers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from appview_world import Provider, RefusedError
from small_world import SERVICE, World, did
from small_world import fill as fill_small

from appview.server import find_methods
from protocol.lexicon import Catalog

CATALOG: Final = Catalog.load()
MARKER: Final = "zorilla"
"""A word in everything of the account and the records that are taken down."""
MAL: Final = did("mal")
_IDENTITY: Final = (
    "com.atproto.identity.",
    "com.atproto.lexicon.",
    "com.atproto.repo.",
    "com.atproto.sync.",
)
"""Methods of the mirror and the directory, which takedowns of records leave alone."""
_PAGES: Final = 10
_ABSENT: Final = ("#threadItemNotFound", "#threadItemBlocked")
_GONE: Final = ("notFound", "blocked", "detached")


def fill(world: World) -> dict[str, str]:
    """Let `mal` and some records of Carol stand in every place of the small world."""
    uris = fill_small(world)
    profile = {"displayName": "Mal zorilla", "description": "quokka zorilla"}
    world.write("mal", "app.bsky.actor.profile", profile, "self")
    world.write(
        "mal", "app.bsky.labeler.service", {"policies": {"labelValues": []}}, "self"
    )
    for name in ("mal", "carol"):
        uris |= _things(world, name, uris["hello"])
        world.like("alice", uris[f"{name} post"])
        world.repost("bob", uris[f"{name} post"])
        world.quote("alice", uris[f"{name} post"], "a quote, quokka")
        world.quote("alice", uris[f"{name} list"], "a list, quokka")
        world.reply("alice", uris[f"{name} post"])
        world.like("alice", uris[f"{name} feed"])
        uris[f"{name} join"] = world.write(
            f"joined{name}",
            "app.bsky.actor.profile",
            {
                "joinedViaStarterPack": world.reference(uris[f"{name} pack"]),
                "pinnedPost": world.reference(uris[f"{name} post"]),
            },
            "self",
        )
    for other in ("alice", "bob"):
        world.follow("mal", other)
        world.follow(other, "mal")
    world.like("mal", uris["hello"])
    world.repost("mal", uris["hello"])
    member = {"subject": MAL, "list": uris["list"]}
    world.write("carol", "app.bsky.graph.listitem", member)
    uris["mal mention"] = world.post("alice", "quokka with a mention")
    return uris


def _things(world: World, name: str, root: str) -> dict[str, str]:
    post = world.post(name, "quokka zorilla", langs=["en"])
    world.reply(name, root, text="quokka zorilla replies")
    quote = world.quote(name, root, "quokka zorilla quotes")
    made = world.write(
        name,
        "app.bsky.graph.list",
        {"name": "zorilla list", "purpose": "app.bsky.graph.defs#curatelist"},
    )
    feed = world.write(
        name,
        "app.bsky.feed.generator",
        {"did": SERVICE, "displayName": "zorilla quokka"},
        "popular" if name == "mal" else "zorilla",
    )
    pack = world.write(
        name, "app.bsky.graph.starterpack", {"name": "zorilla quokka", "list": made}
    )
    things = {"post": post, "quote": quote, "list": made, "feed": feed, "pack": pack}
    return {f"{name} {kind}": uri for kind, uri in things.items()}


def records_of(world: World, name: str) -> list[str]:
    """Return the AT-URIs of the records of an account that hold the marker."""
    return [
        f"at://{did(name)}/{path}"
        for path, record in world.records[name].items()
        if MARKER in str(record)
    ]


@dataclass(frozen=True, slots=True)
class Focus:
    """Values of the parameters, around one account."""

    name: str

    def values(self, provider: Provider, nsid: str) -> dict[str, Any]:
        uris, who = provider.uris, did(self.name)
        mine = self.name if self.name in ("mal", "carol") else ""
        post = uris[f"{mine} post"] if mine else uris["hello"]
        made = uris[f"{mine} list"] if mine else uris["list"]
        feed = uris[f"{mine} feed"] if mine else uris["feed_latest"]
        pack = uris[f"{mine} pack"] if mine else uris["carol pack"]
        uri = pack if nsid.endswith("getStarterPacks") else post
        return {
            "actor": who,
            "actors": [who, MAL, did("joinedmal"), did("joinedcarol")],
            "anchor": post,
            "collection": "app.bsky.feed.post",
            "countryCode": "DE",
            "dids": [MAL, who],
            "feed": feed if "getFeedGenerator" in nsid else uris["feed_latest"],
            "feeds": [feed, uris["feed_latest"]],
            "list": made,
            "pathToOther": "reply.root.uri",
            "q": "quokka",
            "query": "quokka",
            "source": "app.bsky.feed.post:reply.parent.uri",
            "starterPack": pack,
            "subject": post,
            "uri": uri,
            "uriPatterns": ["*"],
            "uris": [uri, uris["hello"]],
            "url": "https://example.com/x",
        }


def queries() -> Iterator[str]:
    """Yield every query that the read side serves."""
    for nsid, _ in find_methods():
        method = CATALOG.method(nsid)
        assert method is not None, nsid
        if method.kind == "query" and not nsid.startswith(_IDENTITY):
            yield nsid


def answers(provider: Provider, nsid: str, focus: Focus) -> Iterator[Mapping[str, Any]]:
    """Yield the pages of a query, for Alice and without a viewer."""
    method = CATALOG.method(nsid)
    assert method is not None
    schema = method.params or {}
    fields = schema.get("properties", {})
    known = focus.values(provider, nsid)
    required = {*schema.get("required", ())}
    lacking = required - known.keys()
    assert not lacking, f"{nsid}: give a value of {lacking} in Focus.values"
    wanted = required | ({"q", "query", "actor"} & fields.keys())
    params = {name: known[name] for name in wanted}
    # A skeleton names its viewer in a parameter.
    get = provider.get
    if "viewer" in fields:

        def get(nsid: str, *, viewer: str | None, **params: Any) -> Any:
            return provider.skeleton(nsid, of=viewer, **params)

    for viewer in ("alice", None):
        cursor: dict[str, str] = {}
        for _ in range(_PAGES):
            try:
                page = get(nsid, viewer=viewer, **params, **cursor)
            except RefusedError:
                break
            yield {k: v for k, v in page.items() if v != params.get(k)}
            if "cursor" not in page:
                break
            cursor = {"cursor": page["cursor"]}


def traces(value: Any, subjects: Collection[str]) -> Iterator[str]:
    """Yield what an answer says of subjects, DIDs or AT-URIs.

    What other people's records hold is theirs, and a place may stay empty.
    """
    if isinstance(value, Mapping):
        if any(value.get(mark) is True for mark in _GONE):
            return
        # An item of a thread whose post is not there.
        item = value.get("value")
        if isinstance(item, Mapping) and str(item.get("$type")).endswith(_ABSENT):
            return
        for key, inner in value.items():
            if key in ("record", "value") and "$type" in inner and "uri" not in inner:
                if MARKER in str(inner):
                    yield f"{key}: {inner}"
            elif key not in ("cursor", "viewer"):
                yield from traces(inner, subjects)
    elif isinstance(value, list):
        for inner in value:
            yield from traces(inner, subjects)
    elif isinstance(value, str):
        if MARKER in value or (value == "mal.test" and MAL in subjects):
            yield value
        for subject in subjects:
            if value == subject or value.startswith(f"at://{subject}/"):
                yield value


def shown(provider: Provider, subjects: Collection[str]) -> dict[str, list[str]]:
    """Return query -> traces of subjects in its answers."""
    found: dict[str, list[str]] = {}
    for nsid in queries():
        for name in ("alice", "carol", "mal"):
            for page in answers(provider, nsid, Focus(name)):
                for trace in traces(page, subjects):
                    found.setdefault(nsid, []).append(f"{name}: {trace[:160]}")
    return found
