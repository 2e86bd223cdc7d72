"""Every method that we serve: its replies by the official validator, its refusals.

Needs `tests/interop/reference/install`; see docs/explanation/reference-servers.md.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import urllib.parse
from contextlib import closing
from typing import Any, Final

import pytest
from judged.question import Question, Server
from judged.questions import questions, sample
from judged.world import World
from reference_network import FOLDER, NODE, is_installed

from protocol.lexicon import Catalog

pytestmark = [
    pytest.mark.reference,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not is_installed(),
        reason="the reference servers are not installed: "
        "run tests/interop/reference/install",
    ),
]

CATALOG: Final = Catalog.load()
PUBLIC_PROCEDURES: Final = frozenset(
    {
        "com.atproto.sync.requestCrawl",
        "com.atproto.sync.notifyOfUpdate",
        "com.atproto.identity.refreshIdentity",
    }
)
ONLY_THEIRS: Final = frozenset(
    {
        # Methods of an operator with the service's password; ours are commands.
        "com.atproto.admin.getAccountInfos",
        "com.atproto.admin.getSubjectStatus",
        "com.atproto.admin.updateSubjectStatus",
    }
)
"""Methods of the reference AppView that we leave out."""
CONTACTS: Final = "app.bsky.contact."
"""Phone numbers are nothing for an index of public records."""
_UNSPECCED: Final = "app.bsky.unspecced."


def served(url: str) -> dict[str, tuple[int, Any]]:
    """Return the replies to every known method without parameters or a token."""
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    connection = http.client.HTTPConnection(host, parts.port, timeout=30)
    found = {}
    for nsid in CATALOG.methods():
        method = CATALOG.method(nsid)
        assert method is not None
        is_query = method.kind == "query"
        if method.kind == "subscription":
            continue
        headers = {} if is_query else {"content-type": "application/json"}
        connection.request(
            "GET" if is_query else "POST",
            f"/xrpc/{nsid}",
            None if is_query else b"{}",
            headers,
        )
        answer = connection.getresponse()
        body = answer.read()
        is_json = "json" in answer.headers.get("content-type", "")
        found[str(nsid)] = answer.status, json.loads(body) if is_json else body
    connection.close()
    return found


def is_served(reply: tuple[int, Any]) -> bool:
    return reply[0] not in (404, 501)


def test_served_methods_are_at_least_those_of_the_reference(world: World) -> None:
    ours, theirs = served(world.ours.url), served(world.theirs.url)
    unserved = {
        nsid
        for nsid, reply in theirs.items()
        if is_served(reply) and not is_served(ours[nsid])
    }
    assert {n for n in unserved if not n.startswith(CONTACTS)} <= ONLY_THEIRS


def test_unserved_methods_are_refused_by_name(world: World) -> None:
    replies = served(world.ours.url)
    assert len(replies) > 200
    for reply in replies.values():
        if not is_served(reply):
            assert reply[0] == 501
            assert reply[1]["error"] == "MethodNotImplemented"
    unknown = Question("app.bsky.feed.noSuchMethod")
    status, body = world.ours.ask(unknown)
    assert (status, body["error"]) == (501, "MethodNotImplemented")


def test_procedures_refuse_without_a_token_by_name(world: World) -> None:
    refused = 0
    for nsid, (status, body) in served(world.ours.url).items():
        method = CATALOG.method(nsid)
        assert method is not None
        if method.kind != "procedure" or not is_served((status, body)):
            continue
        if nsid not in PUBLIC_PROCEDURES:
            assert (nsid, status, body["error"]) == (nsid, 401, "AuthMissing")
            refused += 1
    assert refused >= 20


def others(world: World) -> list[Question]:
    """Return questions on the methods that the judge does not ask."""
    stage = world.stage
    alice, post = stage.did("alice"), stage.refs["thread"]["uri"]
    feed = f"at://{world.did}/app.bsky.feed.generator/latest"
    posts = "app.bsky.feed.post"
    asked: list[tuple[str, dict[str, Any]]] = [
        ("app.bsky.actor.getPreferences", {}),
        ("app.bsky.actor.getSuggestions", {}),
        ("app.bsky.feed.describeFeedGenerator", {}),
        ("app.bsky.feed.getActorLikes", {"actor": alice}),
        ("app.bsky.feed.getFeedSkeleton", {"feed": feed}),
        ("app.bsky.feed.getSuggestedFeeds", {}),
        ("app.bsky.feed.searchPostsV2", {"query": "wombat"}),
        ("app.bsky.graph.getSuggestedFollowsByActor", {"actor": alice}),
        ("com.atproto.label.queryLabels", {"uriPatterns": [post, f"at://{alice}/*"]}),
        ("com.atproto.temp.fetchLabels", {}),
        ("com.atproto.repo.describeRepo", {"repo": alice}),
        (
            "com.atproto.repo.listRecords",
            {"repo": alice, "collection": posts},
        ),
        ("com.atproto.sync.getLatestCommit", {"did": alice}),
        ("com.atproto.sync.getRepoStatus", {"did": alice}),
        ("com.atproto.sync.listRepos", {}),
        (
            "com.atproto.sync.listReposByCollection",
            {"collection": posts},
        ),
        ("com.atproto.sync.listHosts", {}),
        ("com.atproto.identity.resolveDid", {"did": alice}),
        ("com.atproto.identity.resolveIdentity", {"identifier": alice}),
    ]
    asked += [(_UNSPECCED + name, {}) for name in _SUGGESTIONS]
    asked += [
        (_UNSPECCED + f"search{name}Skeleton", {"q": "wombat"})
        for name in ("Posts", "Actors", "StarterPacks")
    ]
    viewers = ("", alice)
    return [
        Question(nsid, tuple(params.items()), viewer)
        for nsid, params in asked
        for viewer in viewers
    ]


_SUGGESTIONS: Final = (
    "getOnboardingSuggestedStarterPacks",
    "getOnboardingSuggestedStarterPacksSkeleton",
    "getOnboardingSuggestedUsersSkeleton",
    "getPopularFeedGenerators",
    "getSuggestedFeeds",
    "getSuggestedFeedsSkeleton",
    "getSuggestedOnboardingUsers",
    "getSuggestedStarterPacks",
    "getSuggestedStarterPacksSkeleton",
    "getSuggestedUsers",
    "getSuggestedUsersForDiscover",
    "getSuggestedUsersForDiscoverSkeleton",
    "getSuggestedUsersForExplore",
    "getSuggestedUsersForExploreSkeleton",
    "getSuggestedUsersForSeeMore",
    "getSuggestedUsersForSeeMoreSkeleton",
    "getSuggestedUsersSkeleton",
    "getSuggestionsSkeleton",
    "getTaggedSuggestions",
    "getTrendingTopics",
    "getTrends",
    "getTrendsSkeleton",
)
UNASKED: Final = frozenset(
    {
        # Their replies are no JSON.
        "com.atproto.sync.getRepo",
        "com.atproto.sync.getRecord",
        "com.atproto.sync.getBlocks",
        "com.atproto.sync.getBlob",
        "com.atproto.sync.getCheckout",
        # Need records or hosts that this network does not have.
        "com.atproto.lexicon.resolveLexicon",
        "com.atproto.sync.getHostStatus",
        "com.atproto.sync.listBlobs",
        "com.atproto.sync.getHead",
    }
)


def validate(lines: str) -> dict[str, Any]:
    """Return the judgement of the official validator on lines of responses."""
    done = subprocess.run(
        [str(NODE), str(FOLDER / "validate.mjs")],
        input=lines,
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
        cwd=FOLDER,
    )
    judged: dict[str, Any] = json.loads(done.stdout)
    return judged


def test_replies_pass_the_official_validator(world: World, long: bool) -> None:
    asked = sample(questions(world.stage, whole=long), 200 if long else 4)
    for question in [*asked, *others(world)]:
        status, body = world.ours.read(question)
        assert status < 500 or status == 501, (question, body)
        if status >= 400:
            assert body.keys() == {"error", "message"}, question
    world.ours.close()
    assert world.ours.record is not None
    world.ours.record.flush()
    judged = validate(world.records.read_text())
    assert judged["refused"] == {}
    assert judged["responses"] > (500 if long else 300)
    queries = {
        nsid
        for nsid, reply in served(world.ours.url).items()
        if is_served(reply) and _is_public_query(nsid)
    }
    assert queries - judged["methods"].keys() - UNASKED == set()


def _is_public_query(nsid: str) -> bool:
    method = CATALOG.method(nsid)
    foreign = not nsid.startswith(("app.bsky.", "com.atproto."))
    return method is not None and method.kind == "query" and not foreign


def test_the_validator_refuses_an_invalid_reply(world: World) -> None:
    question = Question(
        "app.bsky.actor.getProfile", (("actor", world.stage.did("alice")),)
    )
    with closing(Server(world.ours.url, "", {})) as server:
        status, body = server.ask(question)
    assert status == 200
    parts: list[dict[str, Any]] = [
        {"did": "no did"},
        {"indexedAt": "yesterday"},
        {"labels": [{}]},
    ]
    for part in parts:
        line = json.dumps({"nsid": question.nsid, "body": body | part})
        assert validate(line)["refused"].keys() == {question.nsid}
