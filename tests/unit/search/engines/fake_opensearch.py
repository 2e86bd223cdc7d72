"""An OpenSearch on loopback: stores documents, evaluates what the engine sends.

It refuses every path, parameter, mapping and clause that it does not know.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any
from urllib.parse import parse_qs, urlsplit

from search.engines.spelling import edit_distance

Document = dict[str, Any]


class RefusedError(Exception):
    """An error reply."""

    def __init__(self, status: int, code: str, reason: str = "") -> None:
        super().__init__(reason)
        self.status, self.code = status, code

    def body(self) -> Document:
        error = {"type": self.code, "reason": str(self) or self.code}
        return {"error": error, "status": self.status}


@dataclass
class Index:
    """The fields of an index, and its documents by ID and routing."""

    fields: dict[str, str]
    documents: dict[tuple[str, str], Document] = field(default_factory=dict)


@dataclass
class FakeOpenSearch:
    """The state of the cluster, and the faults that a test plants."""

    key: str = ""
    version: str = "2.19.0"
    distribution: str = "opensearch"
    templates: dict[str, Document] = field(default_factory=dict)
    indexes: dict[str, Index] = field(default_factory=dict)
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    fail_bulk: int = 0
    failed_shards: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def wipe(self) -> None:
        """Lose every index."""
        self.indexes.clear()

    def answer(self, method: str, target: str, body: bytes, headers: Any) -> Any:
        """Return the JSON of one call."""
        expected = "Basic " + base64.b64encode(self.key.encode()).decode()
        if self.key and headers.get("Authorization") != expected:
            raise RefusedError(401, "security_exception")
        parts = urlsplit(target)
        lines = headers.get("Content-Type") == "application/x-ndjson"
        value: Any = None
        if lines:
            value = [json.loads(line) for line in body.split(b"\n") if line]
        elif body:
            value = json.loads(body)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        with self.lock:
            self.calls.append((method, target, value))
            for pattern, call in _ROUTES:
                match = re.fullmatch(pattern, f"{method} {parts.path}")
                if match is not None:
                    return call(self, *match.groups(), query, value)
        raise RefusedError(400, "illegal_argument_exception", f"{method} {target}")

    def index(self, name: str) -> Index:
        if name not in self.indexes:
            raise RefusedError(404, "index_not_found_exception", name)
        return self.indexes[name]

    def make(self, name: str) -> Index:
        """Make an index by the template of its name; others are dynamic."""
        for one in self.templates.values():
            if any(fnmatch(name, pattern) for pattern in one["index_patterns"]):
                mappings = one["template"]["mappings"]
                assert mappings["dynamic"] == "strict"
                fields = {n: p["type"] for n, p in mappings["properties"].items()}
                return self.indexes.setdefault(name, Index(fields))
        return self.indexes.setdefault(name, Index({}))


def _root(fake: FakeOpenSearch, query: Any, body: Any) -> Any:
    return {"version": {"number": fake.version, "distribution": fake.distribution}}


def _template(fake: FakeOpenSearch, name: str, query: Any, body: Any) -> Any:
    _known(body, {"index_patterns", "priority", "template"})
    fake.templates[name] = body
    return {"acknowledged": True}


def _create(fake: FakeOpenSearch, name: str, query: Any, body: Any) -> Any:
    if name in fake.indexes:
        raise RefusedError(400, "resource_already_exists_exception")
    fake.make(name)
    return {"acknowledged": True}


def _drop(fake: FakeOpenSearch, name: str, query: Any, body: Any) -> Any:
    fake.index(name)
    del fake.indexes[name]
    return {"acknowledged": True}


def _list(fake: FakeOpenSearch, pattern: str, query: Any, body: Any) -> Any:
    assert query == {"format": "json", "h": "index"}
    return [{"index": name} for name in fake.indexes if fnmatch(name, pattern)]


def _count(fake: FakeOpenSearch, name: str, query: Any, body: Any) -> Any:
    return {"count": len(fake.index(name).documents)}


def _bulk(fake: FakeOpenSearch, query: Any, body: Any) -> Any:
    assert query == {"refresh": "wait_for"}
    items = []
    lines = iter(body)
    for line in lines:
        [(action, fields)] = line.items()
        _known(fields, {"_index", "_id", "routing"})
        place = (fields["_id"], fields.get("routing", fields["_id"]))
        index = fake.make(fields["_index"])
        result: Document = {"status": 200}
        if action == "delete":
            if index.documents.pop(place, None) is None:
                result = {"status": 404, "result": "not_found"}
        else:
            assert action == "index"
            document = next(lines)
            if fake.fail_bulk:
                fake.fail_bulk -= 1
                error = {"type": "cluster_block_exception", "reason": "disk is full"}
                result = {"status": 429, "error": error}
            elif unknown := set(document) - set(index.fields):
                raise RefusedError(
                    400, "strict_dynamic_mapping_exception", str(unknown)
                )
            else:
                index.documents[place] = document
        items.append({action: result})
    return {
        "errors": any("error" in r for i in items for r in i.values()),
        "items": items,
    }


def _search(fake: FakeOpenSearch, name: str, query: Any, body: Any) -> Any:
    _known(query, {"routing"})
    _known(
        body,
        {
            "query",
            "sort",
            "size",
            "_source",
            "track_total_hits",
            "search_after",
            "from",
        },
    )
    index = fake.index(name)
    assert body["_source"] is False
    routing = query["routing"].split(",") if "routing" in query else None
    hits = []
    for (one, route), document in index.documents.items():
        if routing is not None and route not in routing:
            continue
        score = _score(index, body.get("query", {"match_all": {}}), document, one)
        if score is not None:
            hits.append({"_id": one, "_routing": route, "_score": score, "d": document})
    sort = [next(iter(rule.items())) for rule in body.get("sort", [])]
    for name, order in sort:
        assert order == "desc"
        assert name == "_score" or index.fields.get(name) in ("keyword", "long")

    def key(hit: Document) -> list[Any]:
        return [hit["_score"] if n == "_score" else hit["d"][n] for n, _ in sort]

    hits.sort(key=key, reverse=True)
    total = len(hits)
    if "search_after" in body:
        hits = [hit for hit in hits if key(hit) < body["search_after"]]
    start = body.get("from", 0)
    page = hits[start : start + body.get("size", 10)]
    found = {
        "hits": [
            {"_id": h["_id"], "_routing": h["_routing"], "sort": key(h)} for h in page
        ]
    }
    if body.get("track_total_hits", True):
        found["total"] = {"value": total, "relation": "eq"}  # type: ignore[assignment]
    return {
        "timed_out": False,
        "_shards": {"failed": fake.failed_shards},
        "hits": found,
    }


def _score(
    index: Index, clause: Document, document: Document, one: str
) -> float | None:
    """Return the score of a document, None if the clause does not match."""
    [(kind, given)] = clause.items()
    if kind == "match_all":
        return 1.0
    if kind == "match_none":
        return None
    if kind == "ids":
        return 1.0 if one in given["values"] else None
    if kind == "bool":
        return _score_bool(index, given, document, one)
    if kind == "multi_match":
        _known(given, {"query", "fields", "fuzziness"})
        assert given["fuzziness"] == "AUTO:4,8"
        return _score_fuzzy(
            given["query"], [f.split("^")[0] for f in given["fields"]], document
        )
    if kind == "span_near":
        return 1.0 if _spans(index, given, document) else None
    [(name, value)] = given.items()
    if name not in index.fields:
        raise RefusedError(400, "query_shard_exception", f"no field {name}")
    test = _TESTS.get(kind)
    if test is None:
        raise RefusedError(400, "parsing_exception", f"unknown query [{kind}]")
    text = index.fields[name] == "text"
    assert text == (kind == "match_phrase") or kind == "prefix"
    return 1.0 if test(_values(document.get(name, []), text), value) else None


def _score_bool(
    index: Index, given: Document, document: Document, one: str
) -> float | None:
    _known(given, {"filter", "must", "must_not", "should", "minimum_should_match"})

    def scores(name: str) -> list[float | None]:
        return [_score(index, clause, document, one) for clause in given.get(name, [])]

    required = [*scores("filter"), *scores("must")]
    if None in required or any(s is not None for s in scores("must_not")):
        return None
    optional = [s for s in scores("should") if s is not None]
    if len(optional) < given.get("minimum_should_match", 0):
        return None
    return sum(s for s in scores("must") if s is not None) + sum(optional)


def _score_fuzzy(word: str, names: Sequence[str], document: Document) -> float | None:
    reach = 0 if len(word) < 4 else 1 if len(word) < 8 else 2
    tokens = [token for name in names for token in document[name].split()]
    distances = [edit_distance(word, token, reach) for token in tokens]
    best = min(distances, default=9)
    return 3.0 - best if best <= reach else None


def _spans(index: Index, given: Document, document: Document) -> bool:
    assert given["slop"] == 0
    assert given["in_order"] is True
    *terms, last = given["clauses"]
    [(name, start)] = last["span_multi"]["match"]["prefix"].items()
    assert index.fields[name] == "text"
    first = [term["span_term"][name] for term in terms]
    tokens = document[name].split()
    return any(
        tokens[i : i + len(first)] == first and tokens[i + len(first)].startswith(start)
        for i in range(len(tokens) - len(first))
    )


def _values(found: Any, text: bool) -> list[Any]:
    if text:
        return list(found.split())
    return found if isinstance(found, list) else [found]


def _in_range(values: Sequence[Any], given: Document) -> bool:
    _known(given, {"gte", "lt"})
    return any(
        ("gte" not in given or v >= given["gte"])
        and ("lt" not in given or v < given["lt"])
        for v in values
    )


def _phrase(tokens: Sequence[str], text: str) -> bool:
    sought = text.split()
    return any(list(tokens[i : i + len(sought)]) == sought for i in range(len(tokens)))


_TESTS: dict[str, Callable[[Sequence[Any], Any], bool]] = {
    "term": lambda values, value: value in values,
    "terms": lambda values, given: any(v in given for v in values),
    "range": _in_range,
    "prefix": lambda values, start: any(v.startswith(start) for v in values),
    "match_phrase": _phrase,
}


def _known(given: Any, names: set[str]) -> None:
    if unknown := set(given) - names:
        raise RefusedError(400, "parsing_exception", f"unknown: {sorted(unknown)}")


_NAME = "([a-z0-9_]+)"
_ROUTES: list[tuple[str, Callable[..., Any]]] = [
    ("GET /", _root),
    (f"PUT /_index_template/{_NAME}", _template),
    (r"GET /_cat/indices/([a-z0-9_*]+)", _list),
    ("POST /_bulk", _bulk),
    (f"PUT /{_NAME}", _create),
    (f"DELETE /{_NAME}", _drop),
    (f"GET /{_NAME}/_count", _count),
    (f"POST /{_NAME}/_search", _search),
]
