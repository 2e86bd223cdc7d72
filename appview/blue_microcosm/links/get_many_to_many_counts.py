"""blue.microcosm.links.getManyToManyCounts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from appview.hydration.state import State
from appview.paging import Cursors
from appview.pipeline import Params, SessionRead
from appview.rules import Place, shown_actors
from appview.session import Session
from appview.shapes.backlinks import read_wanted
from storage.records.addresses import Address, find_actors, find_collections
from storage.records.backlinks import find_links
from storage.records.link_paths import LinkPath, Target

MAX_RECORDS: Final = 1_000
"""Newest linking records whose other links are counted."""


def _counts(session: Session, params: Params) -> dict[str, Any]:
    wanted = read_wanted(session, params)
    by_subject: dict[str, list[int]] = {}
    for path in wanted.paths[:1] if wanted.target else ():
        assert wanted.target is not None
        by_subject = _gather(session, path, wanted.target, params)
    cursors = Cursors(session.context, params)
    after = cursors.open()
    limit = params["limit"]
    names = sorted(n for n in by_subject if after is None or n > after[0])
    page = names[:limit]
    more = [page[-1]] if len(names) > limit else None
    counts = [
        {
            "subject": name,
            "total": len(by_subject[name]),
            "distinct": len({*by_subject[name]}),
        }
        for name in page
    ]
    return {"counts_by_other_subject": counts, **cursors.seal(more)}


def _gather(
    session: Session, path: LinkPath, target: Target, params: Params
) -> dict[str, list[int]]:
    """Return the other subjects of the linking records, and the linking accounts."""
    conn = session.conn
    of = [*find_actors(conn, params["did"]).values()] if params.get("did") else None
    links, _ = find_links(conn, path.id, target, limit=MAX_RECORDS, of=of)
    collection = find_collections(conn, {path.nsid})[path.nsid]
    state = State(session)
    state.load_actors({link.actor for link in links})
    shown = {*shown_actors(state, Place.ACTOR_HIT, {link.actor for link in links})}
    state.load_records(
        (Address(k.actor, collection, k.rkey) for k in links if k.actor in shown),
        name=False,
    )
    only = {*params.get("otherSubject", ())}
    steps = _steps(params["pathToOther"])
    found: dict[str, list[int]] = {}
    for address, record in state.records.items():
        if address.collection != collection or state.is_taken_down(address):
            continue
        for subject in {*_strings_at(record.value, steps)}:
            if session.taken_down.hides(subject):
                continue
            if not only or subject in only:
                found.setdefault(subject, []).append(address.actor)
    return found


def _steps(path: str) -> list[str]:
    """Split a path as links have it: fields, and `[]` or `[type]` for arrays."""
    steps: list[str] = []
    for part in path.removeprefix(".").replace("[", "\n[").split("\n"):
        if part.startswith("["):
            kind, _, rest = part.partition("]")
            steps.append(f"{kind}]")
            part = rest.removeprefix(".")
        steps += [step for step in part.split(".") if step]
    return steps[:64]


def _strings_at(value: Any, steps: list[str]) -> Iterator[str]:
    if not steps:
        if isinstance(value, str) and len(value) <= 8_192:
            yield value
        return
    step, *rest = steps
    if step.startswith("["):
        kind = step[1:-1]
        for item in value if isinstance(value, list) else ():
            named = item.get("$type") if isinstance(item, Mapping) else None
            if not kind or named == kind:
                yield from _strings_at(item, rest)
    elif isinstance(value, Mapping):
        yield from _strings_at(value.get(step), rest)


METHOD: Final = SessionRead(_counts)
