"""The nodes of Graze's filter trees, as conditions and sources."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from feeds.importing import graze_values
from feeds.importing.conditions import Table, all_of, any_of, negate
from feeds.importing.pattern_texts import (
    adapt_pattern,
    escape,
    plain_words,
    word_pattern,
    word_queries,
)
from search.text.tags import normalize_tag

_POSITIVE: Final = frozenset({"in", "is_in", "=="})
_NEGATIVE: Final = frozenset({"not_in", "is_not_in", "!="})
_ABOVE: Final = frozenset({">", ">="})
_BELOW: Final = frozenset({"<", "<="})
_MAX_WORDS: Final = 500
_ANCHOR_WORDS: Final = 12


class UnmappedError(ValueError):
    """A part of a feed has no counterpart in a recipe; the message says why."""


@dataclass(frozen=True, slots=True)
class Part:
    """The meaning of a node.

    `condition` is a filter on the text, `live` one that only the whole feed can have.
    One of `sources` holds at least where the node does; `exact` if only there. `rough`
    is the difference to the node, in words.
    """

    condition: Table | None = None
    sources: tuple[Table, ...] = ()
    exact: bool = True
    live: Table | None = None
    rough: str = ""


@dataclass(frozen=True, slots=True)
class Nodes:
    """The reader of nodes that hold no others."""

    resolve: graze_values.ResolveHandle

    def read(self, kind: str, values: Any) -> Part:
        """Return the meaning of a node. Raises ValueError for one without any."""
        read = _READERS.get(kind)
        if read is None:
            raise UnmappedError(_REASONS.get(kind, "this kind of node is not known"))
        if not isinstance(values, list):
            raise UnmappedError("its values are no list")
        return read(self, values + [None] * 4)


def _attribute(nodes: Nodes, values: list[Any]) -> Part:
    name, operator, target = _variable(values[0]), str(values[1]), values[2]
    is_same = _is_positive(operator)
    if name == "reply" and target is None:
        return Part({"replies": "no" if is_same else "only"})
    if name == "embed" and target is None:
        found = graze_values.ANY_EMBED
        return Part(negate(found) if is_same else dict(found))
    targets = target if isinstance(target, list) else [target]
    if not targets or not all(isinstance(one, str) and one for one in targets):
        raise UnmappedError(f"{name} cannot be compared with {target}")
    if name == "text":
        found = {"regex": [f"^{escape(one)}$" for one in targets]}
    elif name in ("hydrated_metadata.user.handle", "did", "author", "repo"):
        found = {"authors": [*map(graze_values.account_name, targets)]}
    elif name == "hydrated_metadata.mentions[*].handle":
        found = _accounts_query("mentions", targets)
    elif re.fullmatch(r"langs(\[.\])?", name):
        found = {"languages": targets}
    elif name == "embed.$type" and all(t in graze_values.EMBED_TYPES for t in targets):
        found = any_of([graze_values.EMBED_TYPES[one] for one in targets])
    elif name in ("embed.external.uri", "facets[*].features[*].uri"):
        found = {"search": " OR ".join(f"url:{one}" for one in targets)}
    else:
        raise UnmappedError(f"a recipe cannot compare {name}")
    sources = (_as_source(found),) if is_same else ()
    return Part(found if is_same else negate(found), tuple(s for s in sources if s))


def _as_source(found: Table) -> Table:
    """Return a filter as a source, empty if it cannot be one."""
    names = {"authors": "accounts", "search": "search"}
    return {names[k]: value for k, value in found.items() if k in names}


def _embed(nodes: Nodes, values: list[Any]) -> Part:
    if (found := graze_values.EMBEDS.get(str(values[1]))) is None:
        raise UnmappedError(f"embeds of type {values[1]} are not told apart")
    grouped = "a single image counts too" if values[1] == "image_group" else ""
    positive = _is_positive(str(values[0]))
    return Part(dict(found) if positive else negate(found), rough=grouped)


def _post_type(nodes: Nodes, values: list[Any]) -> Part:
    kinds = values[1] if isinstance(values[1], list) else [values[1]]
    if not kinds or not all(kind in graze_values.POST_TYPES for kind in kinds):
        raise UnmappedError("only reply and quote are known")
    types = [graze_values.POST_TYPES[kind] for kind in kinds]
    if _is_positive(str(values[0])):
        return Part(any_of(types))
    return Part(all_of([*map(negate, types)]))


def _entity(nodes: Nodes, values: list[Any], *, positive: bool) -> Part:
    kind, texts = str(values[0]), _texts(values[1])
    if kind == "labels":
        return Part(live={"labels" if positive else "not_labels": texts})
    if kind == "hashtags":
        found: Table = {"tags": [t for t in map(normalize_tag, texts) if t]}
    elif kind == "langs":
        found = {"languages": texts}
    elif kind == "domains":
        found = {"domains": [text.removeprefix("www.") for text in texts]}
    elif kind == "urls":
        found = {"search": " OR ".join(f"url:{text}" for text in texts)}
    elif kind == "mentions":
        found = _accounts_query("mentions", texts)
    else:
        raise UnmappedError(f"entities of type {kind} are not known")
    if not positive:
        return Part(negate(found))
    is_source = kind not in ("langs",)
    return Part(found, (dict(found),) if is_source else ())


def _regex(nodes: Nodes, values: list[Any], *, positive: bool) -> Part:
    patterns = [values[1]] if isinstance(values[1], str) else values[1]
    return _patterns(values[0], _texts(patterns), values[2], positive)


def _word_list(nodes: Nodes, values: list[Any], *, positive: bool) -> Part:
    if values[3]:
        return _patterns(values[0], _texts(values[1]), values[2], positive)
    return _words(_variable(values[0]), _texts(values[1]), positive)


def _patterns(field: Any, texts: list[str], any_case: Any, positive: bool) -> Part:
    name = _variable(field)
    words = [plain_words(text) for text in texts]
    known = [word for some in words if some for word in some]
    if name != "text":
        if not known or not all(words):
            raise UnmappedError(f"regular expressions look into the text, not {name}")
        return _words(name, known, positive)
    rough = "upper and lower case are not told apart" if any_case is False else ""
    try:
        found: Table = {"regex": [p for text in texts for p in adapt_pattern(text)]}
    except ValueError as error:
        queries = word_queries(known) if known and all(words) else None
        if queries is None:
            raise UnmappedError(str(error)) from error
        return _searched(queries, positive)
    sources = None
    if positive and all(plain_words(text, whole=True) for text in texts):
        sources = word_queries(known)
    return Part(
        found if positive else negate(found),
        tuple({"search": query} for query in sources or ()),
        exact=False,
        rough=rough,
    )


def _words(name: str, words: list[str], positive: bool) -> Part:
    """Return the meaning of a list of words, in which #birds is a tag."""
    tags = [t for t in (normalize_tag(w) for w in words if w[:1] in "#＃") if t]
    words = [word for word in words if word[:1] not in "#＃"]
    parts: list[Table] = [{"tags": tags}] if tags else []
    sources: list[Table] = [{"tags": tags}] if tags else []
    queries = word_queries(words)
    rough = ""
    if words and name == "text":
        try:
            parts.append({"regex": word_pattern(words)})
        except ValueError:
            if queries is None:
                raise
            parts += [{"search": query} for query in queries]
            rough = _SEARCHED
    elif words:
        if queries is None or not _is_searched(name):
            raise UnmappedError(f"words are found in the text, not in {name}")
        parts += [{"search": query} for query in queries]
        rough = _SEARCHED
    sources += [{"search": query} for query in queries or ()]
    found = any_of(parts)
    if not positive:
        return Part(negate(found), rough=rough)
    complete = not words or queries is not None
    return Part(found, tuple(sources) if complete else (), bool(rough), rough=rough)


def _searched(queries: list[str], positive: bool) -> Part:
    found = any_of([{"search": query} for query in queries])
    if not positive:
        return Part(negate(found), rough=_SEARCHED)
    return Part(found, tuple({"search": q} for q in queries), rough=_SEARCHED)


_SEARCHED: Final = "searched as words, also in alt texts and link cards"


def _is_searched(name: str) -> bool:
    return name in ("embed", "embed.external.title", "embed.external.description") or (
        "alt" in name
    )


def _social_graph(nodes: Nodes, values: list[Any]) -> Part:
    account = graze_values.account_name(values[0])
    if values[2] != "follows":
        raise UnmappedError("the followers of an account are no source; make a list")
    if not _is_positive(str(values[1])):
        raise UnmappedError("follows of an account cannot be left out; make a list")
    return Part(sources=({"follows_of": account},))


def _social_list(nodes: Nodes, values: list[Any]) -> Part:
    accounts = [*map(graze_values.account_name, _texts(values[0]))]
    if _is_positive(str(values[1])):
        return Part({"authors": accounts}, ({"accounts": accounts},))
    return Part({"not_authors": accounts})


def _list_member(nodes: Nodes, values: list[Any]) -> Part:
    uri = graze_values.list_uri(values[0], nodes.resolve)
    if _is_positive(str(values[1])):
        return Part(sources=({"list": uri},), live={"lists": [uri]})
    return Part(live={"not_lists": [uri]})


def _starter_pack(nodes: Nodes, values: list[Any]) -> Part:
    uri = graze_values.pack_uri(values[0], nodes.resolve)
    if not _is_positive(str(values[1])):
        raise UnmappedError("members of a starter pack cannot be left out; name a list")
    return Part(sources=({"starter_pack": uri},))


def _similarity(nodes: Nodes, values: list[Any]) -> Part:
    settings = values[1] if isinstance(values[1], Mapping) else {}
    return _about(str(settings.get("anchor_text", "")), str(values[2]))


def _topic(nodes: Nodes, values: list[Any]) -> Part:
    return _about(str(values[0]), str(values[1]))


def _image_topic(nodes: Nodes, values: list[Any]) -> Part:
    part = _about(str(values[0]), str(values[1]))
    assert part.condition is not None
    return Part(part.condition | {"media": ["images"]}, part.sources, rough=part.rough)


def _about(text: str, operator: str) -> Part:
    """Return posts with words of a text, which a model compares here and there."""
    if operator not in _ABOVE:
        raise UnmappedError("there is no model that leaves out similar posts")
    words = [w for w in re.findall(r"[^\W\d_]+", text) if len(w) > 2]
    queries = word_queries(dict.fromkeys(words[:_ANCHOR_WORDS]))
    if queries is None:
        raise UnmappedError("its text has no words to search for")
    query = queries[0]
    rough = f"no model: posts with one of its words ({query})"
    return Part({"search": query}, ({"search": query},), rough=rough)


def _language(nodes: Nodes, values: list[Any]) -> Part:
    code = graze_values.LANGUAGES.get(str(values[0]).lower())
    if code is None:
        raise UnmappedError(f"the language {values[0]} is not known")
    found: Table = {"languages": [code]}
    return Part(found if _is_above(str(values[1])) else negate(found))


def _moderation(nodes: Nodes, values: list[Any]) -> Part:
    category = str(values[0]).lower()
    wanted = _is_above(str(values[1])) != (category == "ok")
    return _labels(graze_values.MODERATION.get(category), wanted)


def _toxicity(nodes: Nodes, values: list[Any]) -> Part:
    labels = graze_values.TOXICITY.get(str(values[0]).lower())
    return _labels(labels, _is_above(str(values[1])))


def _image_nsfw(nodes: Nodes, values: list[Any]) -> Part:
    is_safe = str(values[0]).lower() == "sfw"
    return _labels(graze_values.ADULT, _is_above(str(values[1])) != is_safe)


def _labels(labels: list[str] | None, wanted: bool) -> Part:
    if labels is None:
        raise UnmappedError("this category is not known")
    rough = f"no model: the labels {', '.join(labels)} decide"
    return Part(live={"labels" if wanted else "not_labels": [*labels]}, rough=rough)


def _accounts_query(operator: str, names: list[str]) -> Table:
    accounts = map(graze_values.account_name, names)
    return {"search": " OR ".join(f"{operator}:{name}" for name in accounts)}


def _variable(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value.get("var")
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not value or len(value) > _MAX_WORDS:
        raise UnmappedError(f"it needs a list of 1 to {_MAX_WORDS} texts")
    if not all(isinstance(one, str) and one.strip() for one in value):
        raise UnmappedError("one of its values is no text")
    if any(one.startswith("$") for one in value):
        raise UnmappedError("it needs the parameters of a custom node")
    return [one.strip() for one in value]


def _is_positive(operator: str) -> bool:
    if operator not in _POSITIVE | _NEGATIVE:
        raise UnmappedError(f"{operator} cannot be checked")
    return operator in _POSITIVE


def _is_above(operator: str) -> bool:
    if operator not in _ABOVE | _BELOW:
        raise UnmappedError(f"{operator} cannot be checked")
    return operator in _ABOVE


_Reader = Callable[[Nodes, list[Any]], Part]
_READERS: Final[dict[str, _Reader]] = {
    "attribute_compare": _attribute,
    "embed_type": _embed,
    "post_type": _post_type,
    "entity_matches": lambda n, v: _entity(n, v, positive=True),
    "entity_excludes": lambda n, v: _entity(n, v, positive=False),
    "regex_matches": lambda n, v: _regex(n, v, positive=True),
    "regex_negation_matches": lambda n, v: _regex(n, v, positive=False),
    "regex_any": lambda n, v: _word_list(n, v, positive=True),
    "regex_none": lambda n, v: _word_list(n, v, positive=False),
    "social_graph": _social_graph,
    "user_network": _social_graph,
    "social_list": _social_list,
    "list_member": _list_member,
    "starter_pack_member": _starter_pack,
    "text_similarity": _similarity,
    "topic_analysis": _topic,
    "text_arbitrary": _topic,
    "image_arbitrary": _image_topic,
    "language_analysis": _language,
    "content_moderation": _moderation,
    "toxicity_analysis": _toxicity,
    "image_nsfw": _image_nsfw,
}
_NO_MODEL: Final = "there is no such model here"
_REASONS: Final = {
    "magic_audience": "the accounts of the audience are known to Graze only; make a"
    " list of them",
    "model_probability": _NO_MODEL,
    "sentiment_analysis": _NO_MODEL,
    "emotion_sentiment_analysis": _NO_MODEL,
    "financial_sentiment_analysis": _NO_MODEL,
    "param_compare": "it needs the parameters of a custom node",
    "each": "it needs the parameters of a custom node",
}
