"""A Meilisearch on loopback: stores documents, evaluates what the engine sends.

It refuses every path, parameter, setting and filter that it does not know, and carries
tasks out only after they were polled, as the real one does.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from meili_filters import FilterError, parse_filter
from meili_words import parse_q, score_words

SETTINGS = {
    "searchableAttributes",
    "filterableAttributes",
    "sortableAttributes",
    "displayedAttributes",
    "distinctAttribute",
    "stopWords",
    "synonyms",
    "rankingRules",
    "proximityPrecision",
    "typoTolerance",
    "faceting",
    "facetSearch",
    "prefixSearch",
    "pagination",
    "searchCutoffMs",
    "localizedAttributes",
}
SEARCH = {
    "indexUid",
    "q",
    "filter",
    "sort",
    "limit",
    "attributesToRetrieve",
    "matchingStrategy",
    "locales",
    "showRankingScore",
}
FETCH = {"ids", "filter", "sort", "limit", "fields"}


class RefusedError(Exception):
    """An error reply."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code

    def body(self) -> dict[str, str]:
        return {
            "message": str(self),
            "code": self.code,
            "type": "invalid_request",
            "link": "https://example.com",
        }


@dataclass
class Index:
    """Settings and documents of one index."""

    settings: dict[str, Any] = field(default_factory=dict)
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)

    def filterable(self) -> dict[str, bool]:
        """Return the filterable attributes, True for those with comparisons."""
        return {
            name: rule["features"]["filter"]["comparison"]
            for rule in self.settings.get("filterableAttributes", [])
            for name in rule["attributePatterns"]
        }


@dataclass
class FakeMeilisearch:
    """The server's state, and the faults that a test plants."""

    key: str = ""
    version: str = "1.50.0"
    indexes: dict[str, Index] = field(default_factory=dict)
    tasks: list[dict[str, Any]] = field(default_factory=list)
    work: dict[int, Callable[[], None]] = field(default_factory=dict)
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    fail_tasks: int = 0
    busy: int = 0
    stuck: bool = False
    url: str = ""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def wipe(self) -> None:
        """Lose everything, as a server with a new disk."""
        with self.lock:
            self.indexes.clear()

    def answer(self, method: str, target: str, body: bytes, headers: Any) -> Any:
        """Return the JSON of one call."""
        parts = urlsplit(target)
        if self.key and headers.get("Authorization") != f"Bearer {self.key}":
            raise RefusedError(
                403, "invalid_api_key", "The provided API key is invalid."
            )
        if headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if headers.get("Content-Type") == "application/x-ndjson":
            value: Any = [json.loads(line) for line in body.split(b"\n")]
        else:
            value = json.loads(body) if body else None
        with self.lock:
            self.calls.append((method, parts.path, value))
            for pattern, call in _ROUTES:
                match = re.fullmatch(pattern, f"{method} {parts.path}")
                if match is not None:
                    return call(self, *match.groups(), parse_qs(parts.query), value)
        raise RefusedError(404, "not_found", f"no such route: {method} {parts.path}")

    def index(self, uid: str) -> Index:
        if uid not in self.indexes:
            raise RefusedError(404, "index_not_found", f"Index `{uid}` not found.")
        return self.indexes[uid]

    def enqueue(self, work: Callable[[], None]) -> dict[str, Any]:
        """Queue a task, which runs when it is polled twice."""
        number = len(self.tasks)
        self.tasks.append({"uid": number, "status": "enqueued", "error": None})
        self.work[number] = work
        return {
            "taskUid": number,
            "indexUid": "x",
            "status": "enqueued",
            "type": "any",
            "enqueuedAt": "2026-01-01T00:00:00.123456Z",
        }

    def advance(self, number: int) -> None:
        """Carry out the tasks up to this one, in order."""
        if self.stuck:
            return
        for task in self.tasks[: number + 1]:
            if task["status"] == "enqueued":
                task["status"] = "processing"
            elif task["status"] == "processing":
                self._run(task)

    def _run(self, task: dict[str, Any]) -> None:
        try:
            if self.fail_tasks:
                self.fail_tasks -= 1
                raise RefusedError(500, "internal", "no space left on device")
            self.work.pop(task["uid"])()
            task["status"] = "succeeded"
        except RefusedError as error:
            task |= {"status": "failed", "error": error.body()}


def _version(fake: FakeMeilisearch, query: Any, body: Any) -> Any:
    return {"pkgVersion": fake.version, "commitSha": "x", "commitDate": "x"}


def _health(fake: FakeMeilisearch, query: Any, body: Any) -> Any:
    return {"status": "available"}


def _list(fake: FakeMeilisearch, query: Any, body: Any) -> Any:
    offset, limit = int(query["offset"][0]), int(query["limit"][0])
    names = sorted(fake.indexes)[offset : offset + limit]
    return {"results": [{"uid": name} for name in names], "total": len(fake.indexes)}


def _create(fake: FakeMeilisearch, query: Any, body: Any) -> Any:
    _known(body, {"uid", "primaryKey"})
    assert body["primaryKey"] == "id"
    uid = body["uid"]

    def work() -> None:
        if uid in fake.indexes:
            raise RefusedError(409, "index_already_exists", f"Index `{uid}` exists.")
        fake.indexes[uid] = Index()

    return fake.enqueue(work)


def _drop(fake: FakeMeilisearch, uid: str, query: Any, body: Any) -> Any:
    def work() -> None:
        fake.index(uid)
        del fake.indexes[uid]

    return fake.enqueue(work)


def _settings(fake: FakeMeilisearch, uid: str, query: Any, body: Any) -> Any:
    _known(body, SETTINGS)

    def work() -> None:
        fake.index(uid).settings |= body

    return fake.enqueue(work)


def _stats(fake: FakeMeilisearch, uid: str, query: Any, body: Any) -> Any:
    return {"numberOfDocuments": len(fake.index(uid).documents), "isIndexing": False}


def _put(fake: FakeMeilisearch, uid: str, query: Any, body: Any) -> Any:
    def work() -> None:
        # The real server makes a missing index, without any settings.
        index = fake.indexes.setdefault(uid, Index())
        for document in body:
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,511}", document["id"]):
                raise RefusedError(400, "invalid_document_id", document["id"])
            index.documents[document["id"]] = document

    return fake.enqueue(work)


def _delete(fake: FakeMeilisearch, uid: str, query: Any, body: Any) -> Any:
    assert all(isinstance(one, str) for one in body)

    def work() -> None:
        for one in body:
            fake.index(uid).documents.pop(one, None)

    return fake.enqueue(work)


def _fetch(fake: FakeMeilisearch, uid: str, query: Any, body: Any) -> Any:
    _known(body, FETCH)
    index = fake.index(uid)
    found = [*index.documents.values()]
    if "ids" in body:
        found = [index.documents[i] for i in body["ids"] if i in index.documents]
    if "filter" in body:
        found = [one for one in found if _passes(index, body["filter"], one)]
    found = _sorted(index, found, body.get("sort", []))[: body.get("limit", 20)]
    return {"results": [_picked(one, body.get("fields", ["*"])) for one in found]}


def _multi_search(fake: FakeMeilisearch, query: Any, body: Any) -> Any:
    _known(body, {"queries"})
    return {"results": [_search(fake, one) for one in body["queries"]]}


def _search(fake: FakeMeilisearch, query: dict[str, Any]) -> Any:
    _known(query, SEARCH)
    index = fake.index(query["indexUid"])
    assert query["locales"] == ["eng"]
    fields = index.settings["searchableAttributes"]
    terms = parse_q(query.get("q", ""))
    found = []
    for document in index.documents.values():
        if not _passes(index, query.get("filter", []), document):
            continue
        score = score_words(
            terms, [document[name] for name in fields], query.get("matchingStrategy")
        )
        if score is not None:
            found.append({**document, "_rankingScore": score})
    found.sort(key=lambda one: one["_rankingScore"], reverse=True)
    found = _sorted(index, found, query.get("sort", []))
    hits = []
    for one in found[: min(1_000, query.get("limit", 20))]:
        hit = _picked(one, query.get("attributesToRetrieve", ["*"]))
        hit.pop("_rankingScore", None)
        if query.get("showRankingScore"):
            hit["_rankingScore"] = one["_rankingScore"]
        hits.append(hit)
    return {"hits": hits, "estimatedTotalHits": min(1_000, len(found))}


def _task(fake: FakeMeilisearch, number: str, query: Any, body: Any) -> Any:
    fake.advance(int(number))
    task = fake.tasks[int(number)]
    return {
        **task,
        "indexUid": "x",
        "type": "any",
        "canceledBy": None,
        "details": None,
        "duration": None,
        "enqueuedAt": "2026-01-01T00:00:00.123456Z",
        "startedAt": None,
        "finishedAt": None,
    }


def _tasks(fake: FakeMeilisearch, query: Any, body: Any) -> Any:
    assert query == {"statuses": ["enqueued,processing"], "limit": ["1"]}
    waiting = [t for t in fake.tasks if t["status"] in ("enqueued", "processing")]
    fake.busy, busy = max(0, fake.busy - 50), fake.busy
    return {
        "results": [],
        "total": len(waiting) + busy,
        "limit": 1,
        "from": 0,
        "next": 0,
    }


def _known(body: dict[str, Any], names: set[str]) -> None:
    if unknown := set(body) - names:
        raise RefusedError(400, "bad_request", f"Unknown field `{sorted(unknown)[0]}`")


def _passes(index: Index, given: Any, document: dict[str, Any]) -> bool:
    try:
        texts = [given] if isinstance(given, str) else given
        return all(parse_filter(text, index.filterable())(document) for text in texts)
    except FilterError as error:
        raise RefusedError(400, "invalid_search_filter", str(error)) from None


def _sorted(
    index: Index, found: list[dict[str, Any]], sort: list[str]
) -> list[dict[str, Any]]:
    for rule in reversed(sort):
        name, _, order = rule.partition(":")
        if name not in index.settings["sortableAttributes"]:
            raise RefusedError(400, "invalid_search_sort", f"`{name}` is not sortable")
        assert order in ("asc", "desc")
        found = sorted(found, key=lambda one: one[name], reverse=order == "desc")
    return found


def _picked(document: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {k: v for k, v in document.items() if "*" in names or k in names}


_UID = "([a-z0-9_]+)"
_ROUTES: list[tuple[str, Callable[..., Any]]] = [
    ("GET /version", _version),
    ("GET /health", _health),
    ("GET /indexes", _list),
    ("POST /indexes", _create),
    (f"DELETE /indexes/{_UID}", _drop),
    (f"PATCH /indexes/{_UID}/settings", _settings),
    (f"GET /indexes/{_UID}/stats", _stats),
    (f"POST /indexes/{_UID}/documents", _put),
    (f"POST /indexes/{_UID}/documents/delete-batch", _delete),
    (f"POST /indexes/{_UID}/documents/fetch", _fetch),
    ("POST /multi-search", _multi_search),
    (r"GET /tasks/(\d+)", _task),
    ("GET /tasks", _tasks),
]
