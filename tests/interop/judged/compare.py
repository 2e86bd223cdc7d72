"""Ask two indexers the same questions, and compare their responses."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from judged.question import Question, Server, short


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


@dataclass
class Verdict:
    """The differences that no rule covers."""

    rules: tuple[Rule, ...]
    asked: int = 0
    differences: list[Difference] = field(default_factory=list)
    allowed: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, question: Question, found: Iterable[Difference]) -> None:
        """Sort the differences of one answer."""
        with self._lock:
            self.asked += 1
            for each in found:
                rule = next((r for r in self.rules if r.covers(each)), None)
                if rule is not None:
                    self.allowed[rule.reason] += 1
                else:
                    self.differences.append(each)

    def covers(self, difference: Difference) -> bool:
        """Return True if a rule allows the difference."""
        return any(rule.covers(difference) for rule in self.rules)

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
                lines.append(f"    ours   {short(each.ours)}")
                lines.append(f"    theirs {short(each.theirs)}")
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


def judge(
    ours: Server, theirs: Server, questions: list[Question], verdict: Verdict
) -> None:
    """Ask both each question, a few at once, and compare."""

    alone = threading.Lock()

    def ask(question: Question) -> None:
        mine, other = ours.read(question), theirs.read(question)
        found = list(compare(question, mine, other))
        if any(not verdict.covers(each) for each in found):
            # A busy server may leave something out: ask once more.
            with alone:
                mine, other = ours.read(question), theirs.read(question)
            found = list(compare(question, mine, other))
        verdict.add(question, found)

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
        mine_double, theirs_double = ({n: c[n] for n in double} for c in counts)
        yield Difference(question, path, "repeats", mine_double, theirs_double)
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
        yield Difference(question, path, "order", order[0][first:], order[1][first:])
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
