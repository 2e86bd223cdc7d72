"""Links of the search page: tabs, and chips that add and remove operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from search.query.operator_parts import OperatorPart, add_operator, find_operators

TABS: Final = {
    "top": "Top",
    "latest": "Latest",
    "people": "People",
    "feeds": "Feeds",
    "any": "Any collection",
}
POST_TABS: Final = ("top", "latest")
_TOGGLES: Final = {
    "Images": "has:images",
    "Video": "has:video",
    "Links": "has:link",
    "Replies": "is:reply",
}
_AGES: Final = {"Last day": 1, "Last week": 7, "Last month": 30}
_LANGUAGES: Final = {
    "en": "English",
    "ja": "Japanese",
    "pt": "Portuguese",
    "de": "German",
    "es": "Spanish",
    "fr": "French",
    "ko": "Korean",
    "zh": "Chinese",
    "ar": "Arabic",
    "hi": "Hindi",
    "th": "Thai",
    "it": "Italian",
    "nl": "Dutch",
    "tr": "Turkish",
    "ru": "Russian",
    "uk": "Ukrainian",
    "he": "Hebrew",
    "pl": "Polish",
}
_SHOWN_LANGUAGES: Final = 4
_SHOWN_COLLECTIONS: Final = 5
# Form fields that become operators of the query.
_FIELDS: Final = {
    "author": "from",
    "mentions": "mentions",
    "domain": "domain",
    "lang": "lang",
    "since": "since",
    "until": "until",
}
_LONGEST_LABEL: Final = 60


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter as a link; an active one is removed by a click."""

    label: str
    href: str
    active: bool = False


def page_link(tab: str, query: str, collection: str = "") -> str:
    """Return the link to the results of a query, perhaps of one collection."""
    only = {"collection": collection} if collection else {}
    return "?" + urlencode({"q": query, "tab": tab} | only)


def read_tab(asked: Any, has_query: bool) -> str:
    """Return the tab of a request; `kind` and `sort` are from old links."""
    tab: str = asked.get("tab", "")
    if tab in TABS:
        return tab
    if asked.get("kind") == "people":
        return "people"
    if asked.get("sort") in POST_TABS:
        return str(asked["sort"])
    return "top" if has_query else "latest"


def fold_fields(query: str, asked: Any) -> str:
    """Return the query with the form fields of a request as operators."""
    for name, operator in _FIELDS.items():
        value = asked.get(name, "").strip().replace('"', "")
        if value:
            quoted = f'"{value}"' if any(map(str.isspace, value)) else value
            query = add_operator(query, f"{operator}:{quoted}")
    return query


def words_only(query: str) -> str:
    """Return a query without operators, which accounts are not searched by."""
    parts = find_operators(query)
    return parts.without(*parts.operators)


def make_tabs(query: str, current: str) -> list[tuple[str, str, bool]]:
    """Return label, link and state of each tab."""
    return [
        (label, page_link(name, query), name == current) for name, label in TABS.items()
    ]


def collection_chips(query: str, only: str, found: Iterable[str]) -> list[Chip]:
    """Return the chosen collection, or the most common ones of the results."""
    if only:
        return [Chip(only[:_LONGEST_LABEL], page_link("any", query), active=True)]
    common = Counter(found).most_common(_SHOWN_COLLECTIONS)
    return [Chip(name, page_link("any", query, name)) for name, _ in common]


def make_chips(
    query: str,
    tab: str,
    languages: Iterable[str],
    today: datetime,
    collection: str = "",
) -> list[Chip]:
    """Return the active operators of a query, then those that a click adds."""
    parts = find_operators(query)

    def link(text: str) -> str:
        return page_link(tab, text, collection)

    chips = [
        Chip(_label(query, part), link(parts.without(part)), active=True)
        for part in parts.operators
    ]

    def add(label: str, operator: str, text: str = query) -> None:
        if parts.find(operator) is None:
            chips.append(Chip(label, link(add_operator(text, operator))))

    if tab in ("people", "feeds"):
        return chips
    if tab in POST_TABS:
        for label, operator in _TOGGLES.items():
            add(label, operator)
    for language in _choose(languages):
        add(_LANGUAGES.get(language, language), f"lang:{language}")
    since = [part for part in parts.operators if part.name == "since"]
    for label, days in _AGES.items():
        day = (today - timedelta(days)).date().isoformat()
        add(label, f"since:{day}", parts.without(*since))
    return chips


def _label(query: str, part: OperatorPart) -> str:
    text = query[part.start : part.end]
    return text if len(text) <= _LONGEST_LABEL else text[:_LONGEST_LABEL] + "…"


def _choose(found: Iterable[str]) -> Sequence[str]:
    """Return the most common languages of the results, then usual ones."""
    counted = Counter(found)
    order = [*(name for name, _ in counted.most_common()), *_LANGUAGES]
    return [*dict.fromkeys(order)][:_SHOWN_LANGUAGES]


def show_total(total: int | None, shown: int, is_whole: bool) -> str | None:
    """Return the number of results for people; None if it is not known.

    `is_whole` is True if the page has all results: `total` counts hidden ones.
    """
    if is_whole:
        return f"{shown:,}"
    if total is None:
        return None
    if total < 100:
        return f"about {total:,}"
    step = 10 ** (len(str(total)) - 2)
    return f"about {round(total / step) * step:,}"
