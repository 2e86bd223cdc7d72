"""Documents, tokens and filter values in a form that foreign engines keep unchanged.

Analyzers of engines differ by version and build. Text is cut by our tokenizer only: an
engine gets words that no analyzer splits, folds or removes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from search.documents import ActorDocument, RecordDocument
from search.query.nodes import AllOf, AnyOf, Filter, Kind, Node, Not, Words
from search.terms import FIELDS as TEXT_FIELDS
from search.terms import Terms, read_terms
from search.text.tokens import tokenize
from storage.postgres.instants import to_micros
from storage.records.addresses import Address

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuv"
_RKEY_SHIFT: Final = 2**63
_PLAIN_TOKEN: Final = re.compile(
    # ASCII, and letters of scripts that are written with spaces. No marks of scripts
    # that analyzers cut (Thai, Lao, Khmer, Hangul, Han, kana).
    r"[0-9a-z\u00df-\u00f6\u00f8-\u024f\u0370-\u03ff\u0400-\u052f\u0561-\u0587"
    r"\u05d0-\u05ea\u0621-\u064a\u066e-\u06d3\u10d0-\u10ff"
    r"\u0900-\u0963\u0966-\u096f\u0980-\u09f1\u0a01-\u0a75\u0a81-\u0aef"
    r"\u0b01-\u0b6f\u0b82-\u0bef\u0c00-\u0c6f\u0c80-\u0cef\u0d00-\u0d6f]{1,64}"
)
_PLAIN_VALUE: Final = re.compile(r"[0-9a-z][0-9a-z:._-]{0,199}")
_EXACT: Final = frozenset({Kind.URL, Kind.PARENT, Kind.ROOT, Kind.QUOTE})
"""Kinds whose values are long, or differ by case alone."""
FIELDS: Final[dict[Kind, str]] = {
    Kind.AUTHOR: "did",
    Kind.MENTION: "mentions",
    Kind.DOMAIN: "domains",
    Kind.URL: "urls",
    Kind.TAG: "tags",
    Kind.LANG: "langs",
    Kind.FEATURE: "features",
    Kind.PARENT: "parent",
    Kind.ROOT: "root",
    Kind.QUOTE: "quotes",
    Kind.RECORD: "id",
}
"""The field of a document for each kind of filter."""


def document_id(address: Address) -> str:
    """Return the ID of a record in an engine; IDs sort as addresses do."""
    actor, collection, rkey = address
    parts = (_digits(actor, 7), _digits(collection, 7), _digits(rkey + _RKEY_SHIFT, 13))
    return "-".join(parts)


def address_of(document_id: str) -> Address:
    """Return the address in the ID of a document."""
    actor, collection, rkey = (int(part, 32) for part in document_id.split("-"))
    return Address(actor, collection, rkey - _RKEY_SHIFT)


def _digits(number: int, width: int) -> str:
    digits = ""
    for _ in range(width):
        digits = _DIGITS[number & 31] + digits
        number >>= 5
    if number:
        raise ValueError("the number is too large for the ID of a document")
    return digits


def encode_token(token: str) -> str:
    """Return a token as one word of letters and digits.

    Words of scripts without spaces, emoji and words with signs become digits; a prefix
    of a token becomes a prefix of its digits.
    """
    if _PLAIN_TOKEN.fullmatch(token):
        return token
    return "x0" + "".join(f"{ord(char):05x}" for char in token[:40])


def is_plain(token: str) -> bool:
    """Return True if an encoded token is the word itself, which may hold a typo."""
    return _PLAIN_TOKEN.fullmatch(token) is not None


def encode_tokens(tokens: Sequence[str]) -> str:
    """Return tokens, encoded and joined by spaces."""
    return " ".join(map(encode_token, tokens))


def encode_value(kind: Kind, value: str) -> str:
    """Return the value of a filter; other than plain ones are digests.

    So neither length, case folding nor quotes inside of a value matter.
    """
    if kind is Kind.RECORD:
        actor, collection, rkey = (int(part) for part in value.split("/"))
        return document_id(Address(actor, collection, rkey))
    if kind not in _EXACT and _PLAIN_VALUE.fullmatch(value):
        return value
    digest = hashlib.blake2b(value.encode("utf-8", "replace"), digest_size=15)
    return "x0" + digest.hexdigest()


def micros(moment: datetime) -> int:
    """Return a time in microseconds as an engine holds it: as a double.

    That is exact from the year 1684 to 2255.
    """
    return int(float(to_micros(moment)))


def score_of(document: RecordDocument) -> int:
    """Return the reactions by which `top` sorts."""
    return (
        document.likes
        + 2 * document.reposts
        + document.replies
        + 2 * document.quote_count
    )


def tier_of(score: int) -> int:
    """Return the number of powers of four in a score: 1, 4, 16 and so on."""
    return (max(0, score).bit_length() + 1) // 2


def encode_record(document: RecordDocument) -> dict[str, Any]:
    """Return a record as fields of an engine."""
    terms = read_terms(document)
    values: dict[str, list[str]] = {FIELDS[kind]: [] for kind in Kind}
    for found in sorted(terms.filters, key=lambda f: (f.kind, f.value)):
        values[FIELDS[found.kind]].append(encode_value(found.kind, found.value))
    score = score_of(document)
    return {
        **values,
        **{name: encode_tokens(terms.fields.get(name, ())) for name in TEXT_FIELDS},
        "id": document_id(document.address),
        "did": values["did"][0],
        "collection": document.address.collection,
        "actor": document.address.actor,
        "ts": micros(document.sort_at),
        "tier": tier_of(score),
        "score": score,
    }


def encoded_terms(document: Mapping[str, Any]) -> Terms:
    """Return the terms of an encoded record, to compare with an encoded query."""
    filters = {
        Filter(kind, value)
        for kind, name in FIELDS.items()
        for value in _listed(document[name])
    }
    fields = {name: document[name].split() for name in TEXT_FIELDS}
    return Terms(fields, frozenset(filters))


def encode_query(node: Node) -> Node:
    """Return a query tree with encoded words and values."""
    if isinstance(node, Words):
        return replace(node, tokens=tuple(map(encode_token, node.tokens)))
    if isinstance(node, Filter):
        return Filter(node.kind, encode_value(node.kind, node.value))
    if isinstance(node, Not):
        return Not(encode_query(node.item))
    items = tuple(encode_query(item) for item in node.items)
    return AllOf(items) if isinstance(node, AllOf) else AnyOf(items)


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def encode_actor(document: ActorDocument) -> dict[str, Any]:
    """Return an account as fields of an engine."""
    handle = (document.handle or "").lower()
    names = _tokens(handle) + _tokens(document.display_name)
    about = _tokens(document.description)
    return {
        "id": str(document.actor),
        "actor": document.actor,
        "handle": encode_value(Kind.AUTHOR, handle) if handle else "",
        "names": list(dict.fromkeys(names)),
        "words": list(dict.fromkeys(names + about)),
        "text": " ".join(names),
        "followers": document.followers,
    }


def _tokens(text: str) -> list[str]:
    return [encode_token(token) for token in tokenize(text or "")]
