"""Manifests of Graze: a tree of conditions, an order and settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from feeds.importing.conditions import Table, all_of, any_of
from feeds.importing.graze_nodes import Nodes, Part
from feeds.importing.graze_values import ResolveHandle
from feeds.importing.ledger import Ledger
from feeds.importing.recipe_draft import RecipeDraft

MAX_NODES: Final = 1_000
MAX_TREE_DEPTH: Final = 20
_LATEST: Final = frozenset({"new", "newest", "latest", "chronological", "created_at"})
_WEIGHTS: Final = ("likes", "reposts", "replies", "quotes")
_TITLES: Final = ("display_name", "displayName", "title", "name")
_BESIDE: Final = frozenset({"metadata", "id", "key", "description", "display_name"})


def read_manifest(
    values: Mapping[str, Any], ledger: Ledger, resolve: ResolveHandle
) -> RecipeDraft:
    """Return the recipe of a manifest."""
    inner = values.get("manifest")
    manifest: Mapping[str, Any] = inner if isinstance(inner, Mapping) else values
    at = "manifest.filter" if manifest is inner else "filter"
    title = next((values[key] for key in _TITLES if values.get(key)), None)
    draft = RecipeDraft(ledger, title, values.get("description"))
    _Tree(draft, ledger, Nodes(resolve)).read(manifest.get("filter"), at)
    _read_order(values, draft, ledger)
    _read_sticky(values, draft, ledger)
    if manifest.get("models"):
        ledger.leave_out("models", "models", "there are no such models here")
    return draft


class _Tree:
    def __init__(self, draft: RecipeDraft, ledger: Ledger, nodes: Nodes) -> None:
        self._draft = draft
        self._ledger = ledger
        self._nodes = nodes
        self._count = 0

    def read(self, root: Any, path: str) -> None:
        """Read all conditions that must hold into the recipe."""
        parts = self._read_all(root, path, 0)
        base = self._choose_source(parts)
        if base is not None:
            at, part = base
            sources = [dict(source) for source in part.sources]
            if not self._draft.set(at, {"source": sources}):
                base = None
        for at, part in parts:
            is_base = base is not None and base[1] is part
            self._add(at, part, is_base=is_base)

    def _read_all(self, node: Any, path: str, depth: int) -> list[tuple[str, Part]]:
        """Return the parts of nested `and` nodes, all of which must hold."""
        kind, values = _split_node(node)
        if kind != "and" or not isinstance(values, list):
            part = self._read_node(node, path, depth)
            return [] if part is None else [(f"{path}.{kind}", part)]
        self._ledger.exact(f"{path}.and", "and")
        found: list[tuple[str, Part]] = []
        for number, inner in enumerate(values):
            if depth > MAX_TREE_DEPTH:
                self._ledger.leave_out(f"{path}.and", "and", "it is nested too deep")
                break
            found += self._read_all(inner, f"{path}.and[{number}]", depth + 1)
        return found

    def _choose_source(self, parts: list[tuple[str, Part]]) -> tuple[str, Part] | None:
        """Return the part that posts come from: one that cannot be a filter, if any."""
        with_sources = [each for each in parts if each[1].sources]
        for each in with_sources:
            if each[1].condition is None and each[1].live is None:
                return each
        for each in with_sources:
            if each[1].condition is None:
                return each
        return with_sources[0] if with_sources else None

    def _add(self, path: str, part: Part, *, is_base: bool) -> None:
        if is_base and (part.exact or part.condition is None):
            if not part.exact:
                self._ledger.roughen_below(path, "its words are searched for")
            return
        if part.condition is not None:
            self._draft.add_filter(path, part.condition)
        elif part.live is not None:
            self._draft.add_live(path, part.live)
        else:
            reason = "a recipe cannot combine it with the source that it has"
            self._ledger.leave_out_below(path, reason)

    def _read_node(self, node: Any, path: str, depth: int) -> Part | None:
        kind, values = _split_node(node)
        self._count += 1
        if self._count > MAX_NODES or depth > MAX_TREE_DEPTH:
            self._ledger.leave_out(
                path,
                kind,
                "it is nested too deep" if depth > MAX_TREE_DEPTH else "too many nodes",
            )
            return None
        at = f"{path}.{kind}" if kind else path
        if kind in ("and", "or") and isinstance(values, list):
            self._ledger.exact(at, kind)
            inner = [
                (f"{at}[{number}]", self._read_node(one, f"{at}[{number}]", depth + 1))
                for number, one in enumerate(values)
            ]
            parts = [(where, part) for where, part in inner if part is not None]
            if not parts:
                self._ledger.leave_out(at, kind, "nothing in it is in the recipe")
                return None
            return self._join(at, kind, parts)
        try:
            part = self._nodes.read(kind, values)
        except (ValueError, TypeError) as error:
            self._ledger.leave_out(at, kind or "node", str(error))
            return None
        self._ledger.exact(at, kind)
        if part.rough:
            self._ledger.rough(at, kind, part.rough)
        if kind == "embed_type" and values[:2] == ["==", "video"] and depth <= 1:
            self._draft.set(at, {"video": True})
        return part

    def _join(self, path: str, kind: str, parts: list[tuple[str, Part]]) -> Part | None:
        if len(parts) == 1:
            return parts[0][1]
        return self._all(path, parts) if kind == "and" else self._any(path, parts)

    def _all(self, path: str, parts: list[tuple[str, Part]]) -> Part | None:
        """Return the part of an `and` within an `or`."""
        conditions: list[Table] = []
        sources: tuple[Table, ...] = ()
        for at, part in parts:
            if part.condition is None:
                reason = "it cannot stand within `or`, together with other conditions"
                self._ledger.leave_out_below(at, reason)
                continue
            conditions.append(part.condition)
            sources = sources or part.sources
        if not conditions:
            self._ledger.leave_out(path, "and", "nothing in it is in the recipe")
            return None
        return Part(all_of(conditions), sources, exact=len(conditions) == 1)

    def _any(self, path: str, parts: list[tuple[str, Part]]) -> Part | None:
        conditions = [p.condition for _, p in parts if p.condition is not None]
        sources = tuple(source for _, p in parts for source in p.sources)
        if len(conditions) == len(parts):
            complete = all(part.sources for _, part in parts)
            exact = complete and all(part.exact for _, part in parts)
            return Part(any_of(conditions), sources if complete else (), exact)
        # Some are accounts, and only sources can be of one kind or another.
        kept = False
        for at, part in parts:
            if part.sources:
                kept = True
                if not part.exact:
                    self._ledger.roughen_below(at, "its words are searched for")
            else:
                reason = "it cannot stand in an `or` beside lists of accounts"
                self._ledger.leave_out_below(at, reason)
        return Part(sources=sources) if kept else self._only_live(path, parts)

    def _only_live(self, path: str, parts: list[tuple[str, Part]]) -> Part | None:
        names = {name for _, p in parts for name in p.live or {}}
        if len(names) == 1 and names <= {"labels", "lists"}:
            (name,) = names
            values = [v for _, p in parts for v in (p.live or {}).get(name, [])]
            return Part(live={name: values})
        reason = "labels and lists are checked for the whole feed, not within `or`"
        self._ledger.leave_out_below(path, reason)
        return None


def _split_node(node: Any) -> tuple[str, Any]:
    """Return the kind of a node and its values."""
    if not isinstance(node, Mapping):
        return "", None
    kinds = [kind for kind in node if kind not in _BESIDE]
    return (str(kinds[0])[:50], node[kinds[0]]) if len(kinds) == 1 else ("", None)


def _read_order(values: Mapping[str, Any], draft: RecipeDraft, ledger: Ledger) -> None:
    order = values.get("order")
    if isinstance(order, str):
        ledger.exact("order", "order")
        if order.lower() in _LATEST:
            draft.rank("order", {"by": "latest"})
        else:
            draft.rank("order", {"by": "popular"})
            ledger.rough("order", "order", f"{order} became `popular`, by its formula")
    settings = values.get("custom_sort_settings")
    if not isinstance(settings, Mapping):
        return
    for key, value in settings.items():
        path, kind = f"custom_sort_settings.{str(key)[:50]}", "custom_sort_settings"
        change = _sort_setting(str(key), value)
        if change is None:
            ledger.leave_out(path, kind, "the formula here has no such setting")
            continue
        ledger.rough(path, kind, f"now {', '.join(change)}; formulas differ")
        if "max_age" in change:
            draft.add_live(path, change)
        else:
            draft.rank(path, {"by": "popular", **change})


def _sort_setting(key: str, value: Any) -> Table | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if key == "time_window":
        return {"max_age": f"{min(max(int(value), 1), 8_760)}h"}
    if "gravity" in key or "decay" in key:
        return {"gravity": min(max(float(value), 0.0), 5.0)}
    name = next((n for n in _WEIGHTS if n[:4] in key), None)
    return {name: min(max(float(value), 0.0), 1_000.0)} if name else None


def _read_sticky(values: Mapping[str, Any], draft: RecipeDraft, ledger: Ledger) -> None:
    posts = values.get("sticky_posts")
    if isinstance(posts, list) and posts:
        ledger.exact("sticky_posts", "sticky_posts")
        draft.set("sticky_posts", {"sticky": posts})
