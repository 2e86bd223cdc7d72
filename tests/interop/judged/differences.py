"""Intended differences between both indexers, and required fields."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from judged.compare import Difference, Rule
from judged.judgements import judgements
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
        *judgements(stage),
        Rule("cursors are opaque", ".*", r"\.cursor", _always),
        Rule(
            "pictures come from another host",
            ".*",
            r".*\.(avatar|banner|thumb|fullsize|playlist|thumbnail)",
            _same_picture,
        ),
        Rule(
            "a time of indexing is each indexer's own",
            ".*",
            r".*\.(indexedAt|seenAt)"
            r"|\.(drafts|bookmarks)\[\d+\]\.(createdAt|updatedAt)",
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
            lambda d: stage.did("heidi") in d.about,
        ),
        Rule(
            "a post written anew starts with what names its new version",
            r"app\.bsky\.feed\..*",
            r".*(Count|\.likes|\.repostedBy|\.replies|\.viewer\.(like|repost))",
            lambda d: d.about == stage.refs["again"]["uri"],
        ),
        Rule(
            "what names an earlier version of a post does not bring the new one",
            r"app\.bsky\.feed\.get(ActorLikes|AuthorFeed|Timeline)",
            r"\.feed",
            lambda d: all(
                str(name).startswith(stage.refs["again"]["uri"])
                for name in d.theirs or d.ours
            ),
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
