"""Feeds of SkyFeed: blocks that run in order over a growing list of posts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from feeds.importing.conditions import Table, all_of, any_of, negate
from feeds.importing.graze_nodes import UnmappedError
from feeds.importing.graze_values import ResolveHandle, account_name, list_uri
from feeds.importing.ledger import Ledger
from feeds.importing.pattern_texts import adapt_pattern, plain_words, word_queries
from feeds.importing.recipe_draft import RecipeDraft

MAX_BLOCKS: Final = 200
_COUNTS: Final = {
    "like_count": "likes",
    "repost_count": "reposts",
    "reply_count": "replies",
    "quote_count": "quotes",
}
_EMBEDS: Final[dict[str, Table]] = {
    "image": {"media": ["images"]},
    "images": {"media": ["images"]},
    "video": {"media": ["video"]},
    "link": {"media": ["link"]},
    "external": {"media": ["link"]},
    "post": {"quotes": "only"},
    "record": {"quotes": "only"},
}
_LABELS: Final = ["porn", "sexual", "nudity", "graphic-media"]
_WEIGHTS: Final = ("likes", "reposts", "replies", "quotes")


@dataclass(slots=True)
class _Input:
    """An input block, and the filters that its posts have passed."""

    path: str
    source: Table
    condition: Table | None
    """The source as a filter; None if it cannot be one."""
    passed: list[tuple[str, Table]] = field(default_factory=list)


@dataclass(slots=True)
class _Blocks:
    """The state while blocks are read: the inputs now, and those that are stashed."""

    draft: RecipeDraft
    ledger: Ledger
    resolve: ResolveHandle
    inputs: list[_Input] = field(default_factory=list)
    stashed: dict[str, list[_Input]] = field(default_factory=dict)
    sticky: list[str] = field(default_factory=list)
    queries: dict[str, list[str]] = field(default_factory=dict)
    """Queries that find what regular expressions do, by their paths."""
    images: dict[str, str] = field(default_factory=dict)
    """Numbers of images that are removed, with their paths."""


def read_blocks(
    values: Mapping[str, Any], ledger: Ledger, resolve: ResolveHandle
) -> RecipeDraft:
    """Return the recipe of a list of blocks, or of a generator record that has one."""
    inner = values.get("skyfeedBuilder")
    builder = inner if isinstance(inner, Mapping) else values
    title = builder.get("displayName") or values.get("displayName")
    draft = RecipeDraft(ledger, title, values.get("description"))
    state = _Blocks(draft, ledger, resolve)
    blocks = builder.get("blocks")
    for number, block in enumerate(blocks if isinstance(blocks, list) else []):
        path = f"blocks[{number}]"
        if number >= MAX_BLOCKS:
            ledger.leave_out(path, "block", f"only {MAX_BLOCKS} blocks are read")
            break
        kind = _kind_of(block)
        try:
            _READERS.get(kind.split("/")[0], _unknown)(state, path, kind, block)
        except (ValueError, TypeError) as error:
            ledger.leave_out(path, kind, str(error))
    _remove_images(state)
    _add_inputs(state)
    return draft


def _kind_of(block: Any) -> str:
    """Return the kind of a block: `remove/like_count`."""
    if not isinstance(block, Mapping):
        return "block"
    names = {"input": "inputType", "remove": "subject", "sort": "sortType"}
    kind = str(block.get("type"))[:50]
    detail = block.get(names.get(kind, ""))
    return f"{kind}/{str(detail)[:50]}" if kind in names else kind


def _unknown(state: _Blocks, path: str, kind: str, block: Any) -> None:
    raise UnmappedError("this kind of block is not known")


def _input(state: _Blocks, path: str, kind: str, block: Mapping[str, Any]) -> None:
    source: Table
    condition: Table | None
    name = kind.partition("/")[2]
    if name == "post":
        state.ledger.exact(path, kind)
        state.sticky.append(str(block.get("postUri")))
        if not state.draft.set(path, {"sticky": [*state.sticky]}):
            state.sticky.pop()
        return
    if name in ("firehose", "network"):
        source, condition = {"everything": True}, {}
    elif name == "tags":
        source = condition = {"tags": block.get("tags")}
    elif name == "list":
        uri = list_uri(block.get("listUri"), state.resolve)
        source, condition = {"list": uri}, None
    elif name in ("did", "user", "author"):
        source, condition = _account(state, path, kind, block)
    elif name == "search":
        source = condition = {"search": block.get("value") or block.get("query")}
    elif name == "feed":
        raise UnmappedError("another feed is no source; import it, and join both")
    else:
        raise UnmappedError("this input is not known")
    state.ledger.exact(path, kind)
    state.inputs.append(_Input(path, source, condition))
    seconds = block.get("firehoseSeconds") or block.get("historySeconds")
    if isinstance(seconds, int) and not isinstance(seconds, bool) and seconds > 0:
        known = int(str(state.draft.table.get("window", "0h"))[:-1])
        hours = min(max(-(-seconds // 3_600), known), 8_760)
        state.draft.set(path, {"window": f"{hours}h"})


def _account(
    state: _Blocks, path: str, kind: str, block: Mapping[str, Any]
) -> tuple[Table, Table | None]:
    account = account_name(block.get("did") or block.get("user"))
    taken = str(block.get("collection") or "post").split("|")
    if taken == ["like"]:
        raise UnmappedError("the likes of an account are no source")
    source: Table = {"accounts": [account]}
    condition: Table = {"authors": [account]}
    if "repost" in taken:
        source["reposts"] = True
    if "reply" not in taken or "post" not in taken:
        state.ledger.rough(path, kind, "all posts of the account, with its replies")
    return source, None if "repost" in taken else condition


def _regex(state: _Blocks, path: str, kind: str, block: Mapping[str, Any]) -> None:
    text, invert = block.get("value"), block.get("invert") is True
    if not isinstance(text, str) or not text:
        raise UnmappedError("it has no regular expression")
    targets = str(block.get("target") or "text").split("|")
    words = plain_words(text)
    queries = word_queries(words) if words else None
    rough = ""
    try:
        found: Table = {"regex": adapt_pattern(text)}
        if targets != ["text"]:
            # A query of words covers links and alt texts as well.
            parts = [{"search": query} for query in queries or []]
            found = any_of([found, *parts] if "text" in targets else parts or [found])
            rough = "" if queries else "looked for in the text only"
            rough = "alt texts and links are searched as words" if queries else rough
            if "text" not in targets and not queries:
                raise UnmappedError("regular expressions look into the text only")
    except UnmappedError:
        raise
    except ValueError as error:
        if queries is None:
            raise UnmappedError(str(error)) from error
        found = any_of([{"search": query} for query in queries])
        rough = "searched as words, also in alt texts and link cards"
    if block.get("caseSensitive") is True:
        rough = rough or "upper and lower case are not told apart"
    state.ledger.exact(path, kind)
    if rough:
        state.ledger.rough(path, kind, rough)
    if queries and not invert and plain_words(text, whole=True):
        state.queries[path] = queries
    _pass(state, path, negate(found) if invert else found)


def _remove(state: _Blocks, path: str, kind: str, block: Mapping[str, Any]) -> None:
    subject, value = kind.partition("/")[2], block.get("value")
    state.ledger.exact(path, kind)
    if subject == "item":
        _remove_item(state, path, kind, str(value or "reply"))
    elif subject == "image_count":
        state.images[str(value or "0")] = path
    elif subject in _COUNTS:
        state.draft.add_live(path, _count(_COUNTS[subject], block))
    elif subject == "language":
        language = {"languages": [str(block.get("language") or "en")]}
        keeps = str(block.get("operator") or "!=") == "!="
        _pass(state, path, language if keeps else negate(language))
    elif subject == "list":
        uri = list_uri(block.get("listUri"), state.resolve)
        state.draft.add_live(path, {"not_lists": [uri]})
    elif subject == "embed":
        _remove_embed(state, path, str(value or "none"))
    elif subject in ("labels", "label"):
        labels = value if isinstance(value, list) else [value]
        state.draft.add_live(path, {"not_labels": labels})
    elif subject != "duplicates":  # each post is in a feed once
        raise UnmappedError("this subject is not known")


def _remove_item(state: _Blocks, path: str, kind: str, value: str) -> None:
    if value in ("reply", "post"):
        _pass(state, path, {"replies": "no" if value == "reply" else "only"})
    elif value == "repost":
        for each in state.inputs:
            each.source.pop("reposts", None)
    elif value in ("has_labels", "has_no_labels"):
        wanted = "labels" if value == "has_no_labels" else "not_labels"
        state.draft.add_live(path, {wanted: _LABELS})
        state.ledger.rough(path, kind, f"the labels {', '.join(_LABELS)} only")
    else:
        raise UnmappedError(f"{value} is not told apart from other posts")


def _remove_embed(state: _Blocks, path: str, value: str) -> None:
    if value == "none":
        any_embed = [{"media": ["images", "video", "link"]}, {"quotes": "only"}]
        _pass(state, path, {"any": any_embed})
    elif value in _EMBEDS:
        _pass(state, path, negate(_EMBEDS[value]))
    else:
        raise UnmappedError(f"embeds of type {value} are not told apart")


def _remove_images(state: _Blocks) -> None:
    """Add the filter of all blocks that remove posts by their number of images."""
    kind = "remove/image_count"
    some = {value for value in state.images if value != "0"}
    for value, path in state.images.items():
        if value == "0":
            _pass_all(state, path, {"media": ["images"]})
        elif {"1", "2+"} <= some:
            _pass_all(state, path, {"not_media": ["images"]})
        else:
            state.ledger.leave_out(path, kind, "images are not counted, only found")


def _count(name: str, block: Mapping[str, Any]) -> Table:
    """Return the numbers of reactions that are left when others are removed."""
    value, operator = block.get("value"), str(block.get("operator") or "<")
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise UnmappedError("it needs a whole number")
    least, most = f"min_{name}", f"max_{name}"
    if operator == "<":
        return {least: value}
    if operator == ">":
        return {most: value}
    if operator == "!=":
        return {least: value, most: value}
    if operator == "==" and value == 0:
        return {least: 1}
    raise UnmappedError(f"one number of {name} cannot be left out")


def _sort(state: _Blocks, path: str, kind: str, block: Mapping[str, Any]) -> None:
    name, rank = kind.partition("/")[2], dict.fromkeys(_WEIGHTS, 0.0)
    if str(block.get("sortDirection") or "desc") != "desc":
        raise UnmappedError("a feed cannot begin with its oldest or least liked posts")
    state.ledger.exact(path, kind)
    if name == "created_at":
        state.draft.rank(path, {"by": "latest"})
    elif name == "random":
        state.draft.rank(path, {"by": "random"})
    elif name == "hn":
        gravity = float(str(block.get("gravity") or "1.8"))
        order = {"by": "popular", "gravity": gravity, "offset_hours": 2.0}
        state.draft.rank(path, rank | {"likes": 1.0} | order)
    elif name in ("likes", "like_count") or name in _COUNTS:
        counted = _COUNTS.get(name, "likes")
        order = {"by": "popular", "gravity": 0.0}
        state.draft.rank(path, rank | {counted: 1.0} | order)
    else:
        raise UnmappedError("this order is not known")


def _limit(state: _Blocks, path: str, kind: str, block: Mapping[str, Any]) -> None:
    count = block.get("count") or 100
    if not isinstance(count, int) or isinstance(count, bool):
        raise UnmappedError("it needs a whole number")
    state.draft.rank(path, {"pool": min(max(count, 10), 5_000)})
    reason = "that many posts are ordered among themselves, then older ones follow"
    state.ledger.rough(path, kind, reason)


def _stash(state: _Blocks, path: str, kind: str, block: Mapping[str, Any]) -> None:
    key = str(block.get("key"))
    state.ledger.exact(path, kind)
    if str(block.get("action") or "stash") == "stash":
        state.stashed[key], state.inputs = state.inputs, []
    elif key in state.stashed:
        state.inputs += state.stashed.pop(key)
    else:
        raise UnmappedError("there is no stash with this key")


def _replace(state: _Blocks, path: str, kind: str, block: Mapping[str, Any]) -> None:
    raise UnmappedError("posts cannot be replaced by others of their thread")


def _pass(state: _Blocks, path: str, condition: Table) -> None:
    """Let a filter hold for the inputs so far."""
    if not state.inputs:
        raise UnmappedError("there is no input before it")
    for each in state.inputs:
        each.passed.append((path, condition))


def _pass_all(state: _Blocks, path: str, condition: Table) -> None:
    if state.inputs:
        _pass(state, path, condition)
    else:
        state.ledger.leave_out(path, "remove", "there is no input before it")


def _add_inputs(state: _Blocks) -> None:
    """Add the sources, and the filter of each for its own posts."""
    for path in (each.path for some in state.stashed.values() for each in some):
        reason = "it was stashed and never taken back"
        state.ledger.leave_out_below(path, reason)
    for each in state.inputs:
        sources = [*state.draft.table["source"], each.source]
        if sources[0] == {"everything": True} and each is state.inputs[0]:
            sources = [each.source]
        unique = [s for n, s in enumerate(sources) if s not in sources[:n]]
        state.draft.set(each.path, {"source": unique})
    shared = [
        passed
        for passed in (state.inputs[0].passed if state.inputs else [])
        if all(passed in each.passed for each in state.inputs)
    ]
    for path, condition in shared:
        state.draft.add_filter(path, condition)
        queries = state.queries.get(path)
        if queries and state.draft.table["source"] == [{"everything": True}]:
            # The same posts, found by their words instead of among all.
            state.draft.set(path, {"source": [{"search": q} for q in queries]})
    rest = [
        (each, [p for p in each.passed if p not in shared]) for each in state.inputs
    ]
    own = [(path, condition) for _, passed in rest for path, condition in passed]
    if not own:
        return
    if any(each.condition is None for each, _ in rest):
        for path, _ in own:
            reason = "it would leave out posts of a later input"
            state.ledger.leave_out_below(path, reason)
        return
    groups = [
        all_of([each.condition or {}, *(condition for _, condition in passed)])
        for each, passed in rest
    ]
    if all(groups):
        state.draft.add_filter(own[0][0], any_of(groups))


_Reader = Callable[[_Blocks, str, str, Any], None]
_READERS: Final[dict[str, _Reader]] = {
    "input": _input,
    "regex": _regex,
    "remove": _remove,
    "sort": _sort,
    "limit": _limit,
    "stash": _stash,
    "replace": _replace,
}
