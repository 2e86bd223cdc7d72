"""Intended differences between both indexers, and required fields."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from judged.compare import Difference, Rule
from judged.stage import Stage


def _same_picture(difference: Difference) -> bool:
    """Return True if both URLs name the same blob of the same account."""
    texts = [str(url) for url in (difference.ours, difference.theirs)]
    words = [w for w in texts[1].replace("@", "/").replace("%3A", ":").split("/")]
    did = next((w for w in words if w.startswith("did:")), None)
    cid = next((w for w in words if w.startswith("bafk")), None)
    ours = texts[0].replace("%3A", ":")
    return did is not None and cid is not None and did in ours and cid in ours


def _times(difference: Difference) -> tuple[datetime, datetime]:
    ours, theirs = str(difference.ours), str(difference.theirs)
    return datetime.fromisoformat(ours), datetime.fromisoformat(theirs)


def _second_lost(difference: Difference) -> bool:
    if difference.kind != "value":
        return False
    ours, theirs = _times(difference)
    return ours.year < 1970 and ours - theirs == timedelta(seconds=1)


def _both_recent(difference: Difference) -> bool:
    """Return True if both are times of indexing, of today."""
    if difference.kind != "value":
        return False
    ours, theirs = _times(difference)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    return ours > yesterday and theirs > yesterday


_LEXICON_REFUSAL: Final = re.compile(" params: | at \\$|^Invalid |^Missing ")


def _always(_: Difference) -> bool:
    return True


def _equal_times(stage: Stage) -> Callable[[Difference], bool]:
    """Allow another order among posts of one time."""
    equal = {stage.refs[f"equal {number}"]["uri"] for number in range(6)}

    def allows(difference: Difference) -> bool:
        if difference.kind != "order":
            return False
        ours, theirs = (
            ["equal" if name in equal else name for name in names]
            for names in (difference.ours, difference.theirs)
        )
        return bool(ours == theirs)

    return allows


def rules(stage: Stage) -> tuple[Rule, ...]:
    """Return the intended differences, each with its reason."""
    return (
        Rule("cursors are opaque", ".*", r"\.cursor", _always),
        Rule(
            "we name the revision of the viewer's repo in every reply",
            ".*",
            r"\.header atproto-repo-rev",
            lambda d: d.kind == "extra",
        ),
        Rule(
            "we name the labelers in every reply",
            ".*",
            r"\.header atproto-content-labelers",
            lambda d: d.kind == "extra",
        ),
        Rule(
            "a search of theirs without its own backend has no total",
            r"app\.bsky\.(feed\.searchPosts|graph\.searchStarterPacksV2)",
            r"\.hitsTotal",
            _always,
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
            r"|\.(associatedRecords|associatedRefs|view)",
            lambda d: d.kind == "extra",
        ),
        Rule(
            "the configuration is each operator's own",
            r"app\.bsky\.(unspecced|ageassurance)\.getConfig",
            r"\.(checkEmailConfirmed|topicsEnabled|liveNow|regions|\$type)",
            _always,
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
            "pictures come from another host",
            ".*",
            r".*\.(avatar|banner|thumb|fullsize|playlist|thumbnail)",
            _same_picture,
        ),
        Rule(
            "a time of indexing is each indexer's own",
            ".*",
            r".*\.indexedAt",
            _both_recent,
        ),
        Rule(
            "they show times before 1970 that have a fraction a second too early",
            ".*",
            r".*\.indexedAt",
            _second_lost,
        ),
        Rule(
            "the type of a field that knows only one is optional",
            ".*",
            r".*\.embed\.record\.\$type",
            lambda d: "app.bsky.embed.record#view" in (d.ours, d.theirs),
        ),
        Rule(
            "posts of one time stand in the order of their keys, theirs of their CIDs",
            r"app\.bsky\.feed\.getAuthorFeed",
            r"\.feed",
            _equal_times(stage),
        ),
        Rule(
            "a foreign feed's repeated post is shown once, as the lexicon wants it",
            r"app\.bsky\.feed\.getFeed",
            r"\.feed",
            lambda d: d.kind == "repeats" and set(d.ours.values()) == {1},
        ),
        Rule(
            "what matches a search alike stands in each indexer's own order",
            r"app\.bsky\.actor\.searchActors(Typeahead)?",
            r"\.actors",
            lambda d: d.kind == "order",
        ),
        Rule(
            "a parameter that the lexicon refuses is named in each one's own words",
            ".*",
            "",
            lambda d: (
                d.ours[:2] == d.theirs[:2] == [400, "InvalidRequest"]
                and d.ours[2].startswith(("parameters: ", "body: "))
                and _LEXICON_REFUSAL.search(d.theirs[2]) is not None
            ),
        ),
        Rule(
            "they fail on AT-URIs with a handle",
            r"app\.bsky\.feed\.get(Posts|Likes|RepostedBy|FeedGenerator)",
            "",
            lambda d: d.theirs[0] == 500 and ".test/" in str(d.question.params),
        ),
        Rule(
            "an empty search says which query is missing",
            r"app\.bsky\.feed\.searchPosts",
            "",
            lambda d: d.ours[:2] == [400, "BadQueryString"] and d.theirs[0] == 400,
        ),
        Rule(
            "a pinned post is not shown again on a later page",
            r"app\.bsky\.feed\.getAuthorFeed",
            r"\.feed",
            lambda d: (
                d.kind == "items absent"
                and bool(d.question.pages)
                and d.theirs == [stage.refs["note 0 of the wombat"]["uri"]]
            ),
        ),
        Rule(
            "an account counts once for what it reposts, and its feed shows one",
            r"app\.bsky\.feed\.getAuthorFeed",
            r"\.feed",
            lambda d: d.kind == "repeats" and set(d.ours.values()) == {1},
        ),
        Rule(
            "of those reposts another one may be the one that counts",
            r"app\.bsky\.feed\.get(AuthorFeed|Timeline)",
            r"\.feed\[\d+\]\.reason\.(uri|cid|indexedAt)",
            lambda d: (
                stage.did("heidi") in (dict(d.question.params).get("actor"), "")
                or stage.did("heidi") in str(d.theirs)
            ),
        ),
        Rule(
            "a post written anew starts with what names its new version",
            r"app\.bsky\.feed\..*",
            r".*(Count|\.likes|\.repostedBy|\.replies|\.viewer\.(like|repost))",
            lambda d: d.about == stage.refs["again"]["uri"],
        ),
        Rule(
            "the sync specification has a status for deleted repos",
            r"com\.atproto\.sync\.getRepoStatus",
            "",
            lambda d: d.ours == [200] and d.theirs[1] == "RepoNotFound",
        ),
        Rule(
            "a ring of replies is cut: they repeat a post that is its own parent",
            r"app\.bsky\.feed\.getPostThread",
            r"\.thread(\.parent)*",
            lambda d: "/3kring" in str(dict(d.question.params)["uri"]),
        ),
        Rule(
            "a reply that names another root is shown where it is counted",
            r"app\.bsky\.feed\.getPostThread",
            r"\.thread.*\.replies",
            lambda d: (
                d.kind == "items added"
                and d.ours == [stage.refs["another root"]["uri"]]
            ),
        ),
        Rule(
            "we serve every record of a repo, they serve none that they do not index",
            r"com\.atproto\.repo\.getRecord",
            "",
            lambda d: d.ours == [200] and d.theirs[1] == "RecordNotFound",
        ),
    )


REQUIRED: Final = (
    r".*\.viewer",
    r".*\.viewer\.(like|repost|following|followedBy|blocking|blockedBy)",
    r".*\.viewer\.(blockingByList|replyDisabled|embeddingDisabled|threadMuted)",
    r".*\.reason\.cid",
    r".*\.labels\[\d+\]\.cid",
    r".*\.acceptsInteractions",
    r".*\.descriptionFacets",
    r".*\.joined\w+Count",
    r".*\.threadgate",
    r".*\.threadgate\..*",
    r".*\.embeds",
    r".*\.replies",
    r".*\.parent",
)
"""Fields that we must send where they do."""
