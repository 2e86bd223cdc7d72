"""Ask two indexers the same questions, and compare their responses."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Final

from protocol.identity.keys import PrivateKey
from protocol.identity.service_auth import create_service_jwt
from protocol.syntax import Did, Nsid

MAX_PAGES: Final = 100
PATIENCE: Final = 30
"""Maximum seconds of one response, on a busy machine."""


@dataclass(frozen=True)
class Question:
    """A query; with `pages` naming a list, it is read to the last page."""

    nsid: str
    params: tuple[tuple[str, Any], ...]
    viewer: str = ""
    pages: str = ""

    def __str__(self) -> str:
        query = " ".join(f"{key}={_short(value, 120)}" for key, value in self.params)
        return f"{self.nsid} {query} as {self.viewer or 'nobody'}"


@dataclass(frozen=True)
class Difference:
    """One differing place in one response."""

    question: Question
    path: str
    kind: str
    ours: Any
    theirs: Any
    about: str = ""
    """The AT-URI of the innermost view that the place is in."""


@dataclass(frozen=True)
class Rule:
    """An intended kind of difference, with its reason."""

    reason: str
    method: str
    path: str
    allows: Callable[[Difference], bool]

    def covers(self, difference: Difference) -> bool:
        """Return True if the rule allows this difference."""
        return bool(
            re.fullmatch(self.method, difference.question.nsid)
            and re.fullmatch(self.path, difference.path)
            and self.allows(difference)
        )


class Server:
    """One indexer: its origin, and the audience of its tokens."""

    def __init__(self, url: str, did: str, keys: dict[str, str]) -> None:
        parts = urllib.parse.urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)
        self._did = did
        self._keys = {
            who: PrivateKey.from_bytes("k256", bytes.fromhex(key))
            for who, key in keys.items()
        }
        self._local = threading.local()
        self._opened: list[http.client.HTTPConnection] = []

    def get(self, question: Question, cursor: str = "") -> tuple[int, Any]:
        """Return status and JSON of one page."""
        params = [*question.params, *([("cursor", cursor)] if cursor else [])]
        path = f"/xrpc/{question.nsid}?{urllib.parse.urlencode(params, doseq=True)}"
        headers = {}
        if question.viewer:
            headers["authorization"] = f"Bearer {self._token(question)}"
        connection = getattr(self._local, "connection", None)
        for last in (False, True):
            if connection is None:
                connection = http.client.HTTPConnection(
                    *self._address, timeout=PATIENCE
                )
                self._opened.append(connection)
            try:
                connection.request("GET", path, headers=headers)
                answer = connection.getresponse()
                body = answer.read()
            except TimeoutError:
                connection.close()
                self._local.connection = None
                return 0, {"error": f"no answer within {PATIENCE} s"}
            except (http.client.HTTPException, ConnectionError):
                connection.close()
                connection = None
                if last:
                    raise
                continue
            break
        self._local.connection = connection
        return answer.status, json.loads(body)

    def read(self, question: Question) -> tuple[int, Any]:
        """Return status and JSON; lists of several pages are joined."""
        status, answer = self.get(question)
        if not question.pages or status != 200:
            return status, answer
        items, pages, empty = list(answer[question.pages]), 1, 0
        page = answer
        while page.get("cursor") and pages < MAX_PAGES:
            empty += not page[question.pages]
            status, page = self.get(question, page["cursor"])
            if status != 200:
                return status, page
            items += page[question.pages]
            pages += 1
        rest = {k: v for k, v in answer.items() if k != "cursor"}
        # Not a field of any response: counts empty pages before the last.
        marks = {"emptyPages": empty} if empty else {}
        return 200, {**rest, **marks, question.pages: items}

    def close(self) -> None:
        """Close the connections of threads that have ended."""
        while self._opened:
            self._opened.pop().close()

    def _token(self, question: Question) -> str:
        return create_service_jwt(
            iss=Did(question.viewer),
            aud=self._did,
            lxm=Nsid(question.nsid),
            key=self._keys[question.viewer],
            now=int(time.time()),
        )


@dataclass
class Verdict:
    """The differences that no rule covers, and the fields that only they send."""

    rules: tuple[Rule, ...]
    required: tuple[str, ...]
    asked: int = 0
    differences: list[Difference] = field(default_factory=list)
    allowed: Counter[str] = field(default_factory=Counter)
    lacking: Counter[str] = field(default_factory=Counter)
    examples: dict[str, Difference] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, question: Question, found: Iterable[Difference]) -> None:
        """Sort the differences of one answer."""
        with self._lock:
            self.asked += 1
            for each in found:
                rule = next((r for r in self.rules if r.covers(each)), None)
                if rule is not None:
                    self.allowed[rule.reason] += 1
                elif each.kind == "lacks" and not self._is_required(each):
                    name = _tail(each)
                    self.lacking[name] += 1
                    self.examples.setdefault(name, each)
                else:
                    self.differences.append(each)

    def _is_required(self, difference: Difference) -> bool:
        return any(re.fullmatch(path, difference.path) for path in self.required)

    def groups(self) -> dict[tuple[str, str], list[Difference]]:
        """Return the differences by kind and the end of the path."""
        found: dict[tuple[str, str], list[Difference]] = {}
        for each in self.differences:
            found.setdefault((each.kind, _tail(each)), []).append(each)
        return dict(sorted(found.items()))

    def text(self, examples: int = 3) -> str:
        """Return a report for people."""
        lines = [f"{self.asked} questions, {len(self.differences)} differences"]
        for (kind, path), found in self.groups().items():
            lines.append(f"- {kind} `{path}`: {len(found)}")
            for nsid, count in Counter(e.question.nsid for e in found).most_common():
                lines.append(f"  {count} x {nsid}")
            for each in _spread(found, examples):
                lines.append(f"  - {each.question} at {each.path}")
                lines.append(f"    ours   {_short(each.ours)}")
                lines.append(f"    theirs {_short(each.theirs)}")
        lines.append("sent by them and not by us:")
        lines += [f"- {n} x {key}" for key, n in sorted(self.lacking.items())]
        lines.append("allowed:")
        lines += [f"- {n} x {reason}" for reason, n in self.allowed.most_common()]
        return "\n".join(lines)


def _spread(found: list[Difference], count: int) -> list[Difference]:
    """Return some that are not all of one method and viewer."""
    kinds = {(each.question.nsid, each.question.viewer): each for each in found}
    some = list(kinds.values())
    return some[:: max(1, len(some) // count)][:count]


def _tail(difference: Difference) -> str:
    """Return the end of the path, which names a field of a view."""
    names = re.sub(r"\[\d+\]", "[]", difference.path).split(".")
    if len(names) <= 2:
        return f"{difference.question.nsid.rpartition('.')[2]} {difference.path}"
    return ".".join(names[-2:])


def _short(value: Any, most: int = 400) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < most else text[:most] + "…"


def judge(
    ours: Server, theirs: Server, questions: list[Question], verdict: Verdict
) -> None:
    """Ask both each question, a few at once, and compare."""

    def ask(question: Question) -> None:
        mine, other = ours.read(question), theirs.read(question)
        verdict.add(question, compare(question, mine, other))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask, questions))
    ours.close()
    theirs.close()


def compare(
    question: Question, ours: tuple[int, Any], theirs: tuple[int, Any]
) -> Iterator[Difference]:
    """Yield every place where two answers differ."""
    if ours[0] != 200 or theirs[0] != 200:
        mine, other = _failure(*ours), _failure(*theirs)
        if mine != other:
            yield Difference(question, "", "status", mine, other)
        return
    yield from _compare(question, "", ours[1], theirs[1])


def _failure(status: int, answer: Any) -> Any:
    if status == 200:
        return [200]
    return [status, answer.get("error"), answer.get("message")]


def _compare(
    question: Question, path: str, ours: Any, theirs: Any
) -> Iterator[Difference]:
    """Yield the differences of two values, each with the view that it is about."""
    about = _subject(ours)
    for each in _compare_values(question, path, ours, theirs):
        yield each if each.about else replace(each, about=about)


def _subject(view: Any) -> str:
    if not isinstance(view, dict):
        return ""
    post = view.get("post")
    found = view.get("uri") or (post.get("uri") if isinstance(post, dict) else "")
    return str(found or "")


def _compare_values(
    question: Question, path: str, ours: Any, theirs: Any
) -> Iterator[Difference]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        kinds = ours.get("$type"), theirs.get("$type")
        if all(kinds) and kinds[0] != kinds[1]:
            yield Difference(question, path, "type", ours, theirs)
            return
        for key in ours.keys() | theirs.keys():
            below = f"{path}.{key}"
            if key not in theirs:
                yield Difference(question, below, "extra", ours[key], None)
            elif key not in ours:
                yield Difference(question, below, "lacks", None, theirs[key])
            else:
                yield from _compare(question, below, ours[key], theirs[key])
    elif isinstance(ours, list) and isinstance(theirs, list):
        yield from _compare_lists(question, path, ours, theirs)
    elif ours != theirs:
        yield Difference(question, path, "value", ours, theirs)


def _compare_lists(
    question: Question, path: str, ours: list[Any], theirs: list[Any]
) -> Iterator[Difference]:
    mine = [_name(item, n) for n, item in enumerate(ours)]
    other = [_name(item, n) for n, item in enumerate(theirs)]
    counts = Counter(mine), Counter(other)
    double = [n for n in counts[0] & counts[1] if counts[0][n] != counts[1][n]]
    if double:
        yield Difference(
            question, path, "repeats", *({n: c[n] for n in double} for c in counts)
        )
    added = [n for n in mine if n not in set(other)]
    absent = [n for n in other if n not in set(mine)]
    if added:
        yield Difference(question, path, "items added", added, None)
    if absent:
        yield Difference(question, path, "items absent", None, absent)
    both = set(mine) & set(other)
    order = [n for n in mine if n in both], [n for n in other if n in both]
    if order[0] != order[1] and Counter(order[0]) == Counter(order[1]):
        first = next(
            n for n, pair in enumerate(zip(*order, strict=True)) if pair[0] != pair[1]
        )
        parts = [names[first:] for names in order]
        yield Difference(question, path, "order", *parts)
    by_name = dict(zip(reversed(other), reversed(theirs), strict=True))
    for number, (name, item) in enumerate(zip(mine, ours, strict=True)):
        if name in by_name:
            yield from _compare(question, f"{path}[{number}]", item, by_name[name])


def _name(item: Any, number: int) -> str:
    """Return a name for an item of a list: its identity, or its place."""
    if not isinstance(item, dict):
        return json.dumps(item, sort_keys=True)
    if "post" in item and isinstance(item["post"], dict):
        reason = item.get("reason") or {}
        who = (reason.get("by") or {}).get("did", "")
        return f"{item['post'].get('uri')} {reason.get('$type', '')} {who}".strip()
    for key in ("uri", "did"):
        if isinstance(item.get(key), str):
            return " ".join([item[key], item.get("val", "")]).strip()
    if isinstance(item.get("actor"), dict):
        return str(item["actor"].get("did"))
    return f"number {number}"
