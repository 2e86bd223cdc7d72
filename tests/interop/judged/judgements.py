"""Intended differences in lists, notices, private state, settings and headers."""

from __future__ import annotations

from typing import Final

from judged.compare import Difference, Rule
from judged.stage import Stage

_BELOW_GONE: Final = ("bob to mallory", "bob to niaj", "bob to judy")
"""Posts whose parents are of accounts that went."""


def _is_extra(difference: Difference) -> bool:
    return difference.kind == "extra"


def judgements(stage: Stage) -> tuple[Rule, ...]:
    """Return these differences, each with its reason."""
    return (
        Rule(
            "we name the revision of the viewer's repo in every reply",
            ".*",
            r"\.header atproto-repo-rev",
            _is_extra,
        ),
        Rule(
            "we name the labelers in every reply",
            ".*",
            r"\.header atproto-content-labelers",
            _is_extra,
        ),
        Rule(
            "a search of theirs without its own backend has no total",
            r"app\.bsky\.(feed\.searchPosts|graph\.searchStarterPacksV2)",
            r"\.hitsTotal",
            lambda _: True,
        ),
        Rule(
            "a search reads what is quoted and linked; theirs reads only the text",
            r"app\.bsky\.feed\.searchPosts",
            r"\.posts",
            lambda d: d.kind == "items added",
        ),
        Rule(
            "the package of theirs has no index of site.standard records",
            ".*",
            r".*\.external\.(associatedProfiles|createdAt|readingTime|source|updatedAt)"
            r"|.*\.external\.(title|description)"
            r"|\.(associatedRecords|associatedRefs|view)",
            lambda d: d.kind in ("extra", "value"),
        ),
        Rule(
            "the configuration is each operator's own",
            r"app\.bsky\.(unspecced|ageassurance)\.getConfig",
            r"\.(checkEmailConfirmed|topicsEnabled|liveNow|regions|\$type)",
            lambda _: True,
        ),
        Rule(
            "we cut no pictures out of videos",
            ".*",
            r".*\.thumbnail",
            lambda d: d.kind == "lacks" and "/vid/" in str(d.theirs),
        ),
        Rule(
            "quotes of a deleted post stay its quotes",
            r"app\.bsky\.feed\.getQuotes",
            r"\.posts",
            lambda d: (
                d.kind == "items added"
                and dict(d.question.params)["uri"] == stage.refs["short lived"]["uri"]
            ),
        ),
        Rule(
            "a block by a list that is not for blocks blocks nobody",
            r"app\.bsky\.graph\.getRelationships",
            r"\.relationships\[\d+\]\.(blockingByList|blockedByList)",
            lambda d: d.theirs == stage.refs["friends"]["uri"],
        ),
        Rule(
            "an account that is gone is refused: their page lacks the required subject",
            r"app\.bsky\.graph\.getKnownFollowers",
            "",
            lambda d: d.ours[:2] == [400, "InvalidRequest"] and d.theirs == [200],
        ),
        Rule(
            "they lose own posts of the viewer after ten of a page",
            r"app\.bsky\.feed\.getTimeline",
            r"\.feed",
            lambda d: (
                d.kind == "items added"
                and all(
                    d.question.viewer in str(name).split(" ")[-1] for name in d.ours
                )
            ),
        ),
        Rule(
            "they repeat accounts that are followed or listed twice",
            r"app\.bsky\.feed\.get(Timeline|ListFeed)",
            r"\.feed",
            lambda d: d.kind == "repeats" and set(d.ours.values()) == {1},
        ),
        Rule(
            "drafts are named by each service",
            r"app\.bsky\.draft\..*",
            r".*\.id",
            lambda d: d.kind == "value",
        ),
        Rule(
            "bookmarks are sealed, so nobody counts them",
            ".*",
            r".*\.bookmarkCount",
            lambda d: d.kind == "lacks",
        ),
        Rule(
            "a refusal is told in each one's own words",
            r"app\.bsky\.bookmark\..*",
            "",
            lambda d: d.ours[:2] == d.theirs[:2] == [400, "UnsupportedCollection"],
        ),
        Rule(
            "every view of an account names the viewer's subscription to it",
            ".*",
            r".*\.viewer\.activitySubscription",
            lambda d: d.kind == "extra",
        ),
        Rule(
            "known followers have pages; theirs end after the first, in no order",
            r"app\.bsky\.graph\.getKnownFollowers",
            r"\.followers",
            lambda d: (
                d.kind == "order"
                or (d.kind == "items added" and bool(d.question.pages))
            ),
        ),
        Rule(
            "some followers that the viewer follows stand in no order of theirs",
            ".*",
            r".*\.knownFollowers\.followers",
            lambda d: d.kind == "order",
        ),
        Rule(
            "muted lists stand in the order of muting, theirs of making",
            r"app\.bsky\.graph\.getListMutes",
            r"\.lists",
            lambda d: d.kind == "order",
        ),
        Rule(
            "the labels of a labeler's own record are shown",
            ".*",
            r".*\.(record|views\[\d+\])\.labels",
            lambda d: (
                d.kind == "items added"
                and d.ours == [f"{stage.refs['labeler lila']['uri']} rude"]
            ),
        ),
        Rule(
            "a parent that is gone blocks no root",
            ".*",
            r".*\.reply\.root",
            lambda d: (
                d.kind == "type"
                and d.ours["uri"] == stage.refs["thread"]["uri"]
                and "blocked" in d.theirs
            ),
        ),
        Rule(
            "a post whose root is blocked is hidden, also if its parent is gone",
            r"app\.bsky\.feed\.get(Timeline|ListFeed)",
            r"\.feed",
            lambda d: (
                d.kind == "items absent" and set(d.theirs) <= stage.uris_of(_BELOW_GONE)
            ),
        ),
        Rule(
            "muting a thread hides what it told before",
            r"app\.bsky\.notification\.listNotifications",
            r"\.notifications",
            lambda d: (
                d.kind == "items absent" and d.question.viewer == stage.did("bob")
            ),
        ),
        Rule(
            "nobody is told of own follows",
            r"app\.bsky\.notification\.listNotifications",
            r"\.notifications",
            lambda d: (
                d.kind == "items absent"
                and d.question.viewer == stage.did("heidi")
                and all(stage.did("heidi") in uri for uri in d.theirs)
            ),
        ),
        Rule(
            "unread are the notices that are shown; theirs counts hidden ones too",
            r"app\.bsky\.notification\.getUnreadCount",
            r"\.count",
            lambda d: int(d.ours) <= int(d.theirs),
        ),
        Rule(
            "a setting marks nothing as seen",
            r"app\.bsky\.notification\.(listNotifications|getUnreadCount)",
            r"\.(seenAt|count|notifications\[\d+\]\.isRead)",
            lambda d: d.question.viewer in (stage.did("carol"), stage.did("erin")),
        ),
        Rule(
            "a verification that was withdrawn tells of its end only",
            r"app\.bsky\.notification\.listNotifications",
            r"\.(notifications|seenAt)",
            lambda d: (
                d.question.viewer == stage.did("grace")
                and (
                    d.theirs == [stage.refs["quinn verifies grace"]["uri"]]
                    or dict(d.question.params).get("reasons") == ["verified"]
                )
            ),
        ),
        Rule(
            "the records of a deleted account go some time later",
            r"app\.bsky\.graph\.getRelationships",
            r".*\.(following|followedBy)",
            lambda d: stage.did("niaj") in (str(d.ours) + str(d.question.params)),
        ),
        Rule(
            "the data plane of their package has no order by rank",
            r"app\.bsky\.graph\.(getFollowers|getFollows)",
            r"\.(followers|follows)",
            lambda d: d.kind == "order" and ("sort", "top") in d.question.params,
        ),
        Rule(
            "they leave out known followers that take longer than 100 ms",
            r"app\.bsky\.actor\..*",
            r".*\.viewer\.knownFollowers",
            _is_extra,
        ),
        Rule(
            "nothing is seen in the future",
            r"app\.bsky\.notification\.listNotifications",
            r"\.seenAt",
            lambda d: str(d.theirs).startswith("2148"),
        ),
    )
