"""Filters that change without a new record, each with its reason in words."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from feeds.recipes.recipe import LiveFilter
from feeds.serving.ordering import Found
from feeds.serving.post_facts import (
    POST,
    Facts,
    account_of,
    find_labels,
    find_members,
)
from storage.postgres.pool import Conn
from storage.records.addresses import Address

_MICROSECOND: Final = timedelta(microseconds=1)
_COUNTS: Final = ("likes", "reposts", "replies", "quotes")


@dataclass(frozen=True, slots=True)
class LiveRows:
    """Rows that the filters depend on, for the posts of a chunk."""

    labels: Mapping[Address, set[str]] = field(default_factory=dict)
    members: Mapping[str, set[int]] = field(default_factory=dict)
    values: Mapping[Address, dict[str, Any]] = field(default_factory=dict)


def needs_facts(live: LiveFilter) -> bool:
    """Return True if counts or times of posts are checked."""
    plain = LiveFilter()
    names = [f"{end}_{name}" for name in _COUNTS for end in ("min", "max")]
    return any(
        getattr(live, name) != getattr(plain, name)
        for name in (*names, "min_age", "max_age")
    )


def load_live_rows(
    conn: Conn,
    live: LiveFilter,
    posts: Collection[Address],
    values: Mapping[Address, dict[str, Any]],
) -> LiveRows:
    """Read what the filters depend on; `values` are the records of these posts."""
    labels: dict[Address, set[str]] = {}
    if live.labels or live.not_labels:
        subjects = {*posts, *map(account_of, posts)}
        labels = find_labels(conn, subjects, {*live.labels, *live.not_labels})
    lists = {*live.lists, *live.not_lists}
    members: dict[str, set[int]] = {}
    if lists:
        members = find_members(conn, sorted(lists), {post.actor for post in posts})
    return LiveRows(labels, members, values)


def live_fault(
    found: Found, live: LiveFilter, facts: Facts | None, rows: LiveRows, now: int
) -> str | None:
    """Return the filter that leaves a post out, None if all hold."""
    post = found.post
    if facts is not None:
        for name in _COUNTS:
            count: int = getattr(facts, name)
            if count < (least := getattr(live, f"min_{name}")):
                return f"min_{name} = {least}: the post has {count}"
            most = getattr(live, f"max_{name}")
            if most is not None and count > most:
                return f"max_{name} = {most}: the post has {count}"
        age = (now - facts.at) * _MICROSECOND
        if age < live.min_age:
            return "min_age: the post is too new"
        if live.max_age is not None and age > live.max_age:
            return "max_age: the post is too old"
    elif post.collection == POST and needs_facts(live):
        return "the post is gone"
    if live.labels or live.not_labels:
        labels = _labels(post, rows)
        if live.labels and not labels & {*live.labels}:
            return f"labels: none of {', '.join(live.labels)}"
        if unwanted := sorted(labels & {*live.not_labels}):
            return f"not_labels: {unwanted[0]}"
    on = {uri for uri, members in rows.members.items() if post.actor in members}
    if live.lists and not on & {*live.lists}:
        return "lists: the author is on none of them"
    if on & {*live.not_lists}:
        return "not_lists: the author is on one of them"
    return None


def _labels(post: Address, rows: LiveRows) -> set[str]:
    labels = {
        *rows.labels.get(post, ()),
        *rows.labels.get(account_of(post), ()),
    }
    own = rows.values.get(post, {}).get("labels")
    values = own.get("values") if isinstance(own, dict) else None
    for each in values[:10] if isinstance(values, list) else ():
        if isinstance(each, dict) and isinstance(each.get("val"), str):
            labels.add(each["val"])
    return labels
