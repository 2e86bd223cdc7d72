"""Parts of a query as text of the search language, for people."""

from __future__ import annotations

from typing import Final

from search.query.nodes import AllOf, AnyOf, Filter, Kind, Node, Not, Words

_OPERATORS: Final = {
    Kind.AUTHOR: "from:",
    Kind.MENTION: "mentions:",
    Kind.DOMAIN: "domain:",
    Kind.URL: "url:",
    Kind.TAG: "#",
    Kind.LANG: "lang:",
    Kind.FEATURE: "has:",
    Kind.PARENT: "reply to ",
    Kind.ROOT: "in the thread of ",
    Kind.QUOTE: "quotes ",
    Kind.RECORD: "record ",
}
_MOST_SHOWN: Final = 5


def render_node(node: Node) -> str:
    """Return a condition as text; of a long group only the first parts."""
    if isinstance(node, Words):
        return _render_words(node)
    if isinstance(node, Filter):
        return _OPERATORS[node.kind] + node.value
    if isinstance(node, Not):
        return "-" + render_node(node.item)
    assert isinstance(node, AllOf | AnyOf)
    word = " " if isinstance(node, AllOf) else " OR "
    shown = [render_node(item) for item in node.items[:_MOST_SHOWN]]
    if len(node.items) > _MOST_SHOWN:
        shown.append("…")
    return f"({word.join(shown)})"


def _render_words(words: Words) -> str:
    text = " ".join(words.tokens) + ("*" if words.prefix else "")
    return f'"{text}"' if len(words.tokens) > 1 else text
