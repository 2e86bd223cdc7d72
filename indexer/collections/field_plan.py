"""Roles of the fields of a record, derived from its lexicon.

A plan names for each object type the role of each field, and the types that are nested
in it. It is plain JSON, so that it is derived once and kept (table `lexicon`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from protocol.lexicon.documents import MAIN, Document, Schema, resolve_ref

FindSchema = Callable[[str], Schema | None]
"""Returns the definition of a full name, None for an unknown one."""

TITLE: Final = "title"
TEXT: Final = "text"
ALT: Final = "alt"
TAG: Final = "tag"
LANG: Final = "lang"
DATE: Final = "date"
LINK: Final = "link"
SKIP: Final = "skip"
NEST: Final = ""
"""The field holds objects: their fields have roles of their own."""

TITLES: Final[tuple[str, ...]] = (
    "title",
    "name",
    "displayName",
    "headline",
    "subject",
    "label",
)
"""Names of titles, the best first."""
TAGS: Final = frozenset(
    [
        "tag",
        "tags",
        "keyword",
        "keywords",
        "hashtag",
        "hashtags",
        "topic",
        "topics",
        "category",
        "categories",
        "genre",
        "genres",
    ]
)
LANGS: Final = frozenset(
    ["lang", "langs", "language", "languages", "locale", "inLanguage"]
)
DATES: Final[tuple[str, ...]] = (
    *("createdAt", "publishedAt", "published", "created", "datePublished", "date"),
    *("startsAt", "startTime", "startDate", "postedAt", "timestamp", "updatedAt"),
)
"""Names of the time of a record, the best first."""

_OF_FORMAT: Final = {
    "datetime": DATE,
    "uri": LINK,
    "at-uri": LINK,
    "did": LINK,
    "at-identifier": LINK,
    "language": LANG,
    "cid": SKIP,
    "nsid": SKIP,
    "tid": SKIP,
    "record-key": SKIP,
    "handle": TEXT,
}
_MAX_TYPES: Final = 200
_MAX_FIELDS: Final = 2_000
_MAX_TITLE_CHARS: Final = 300
_MAX_TITLE_BYTES: Final = 3_000


class FieldPlan(NamedTuple):
    """The role of a field, and the types of the objects in it."""

    role: str
    types: tuple[str, ...] = ()


@dataclass(slots=True)
class Plan:
    """Type -> field -> its plan. `root` is the type of the record itself."""

    root: str
    types: dict[str, dict[str, FieldPlan]] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    """Lexicons that are referred to and unknown."""
    refs: set[str] = field(default_factory=set)
    """Other lexicons that are referred to."""

    def to_json(self) -> Any:
        """Return the plan as JSON, without its references."""
        return {
            "root": self.root,
            "types": {
                name: {key: [item.role, *item.types] for key, item in fields.items()}
                for name, fields in self.types.items()
            },
        }


def plan_from_json(value: Any) -> Plan:
    """Return the plan that `Plan.to_json` wrote."""
    types = {
        name: {key: FieldPlan(role, tuple(more)) for key, (role, *more) in f.items()}
        for name, f in value["types"].items()
    }
    return Plan(value["root"], types)


def derive_plan(document: Document, find_schema: FindSchema) -> Plan | None:
    """Return the plan of a record lexicon; None if the document is of no record."""
    main = document.definitions.get(MAIN)
    if main is None or main["type"] != "record":
        return None
    nsid = str(document.nsid)

    def find(name: str) -> Schema | None:
        home, _, fragment = name.partition("#")
        if home == nsid:
            return document.definitions.get(fragment or MAIN)
        return find_schema(name)

    deriver = _Deriver(nsid, find)
    deriver.run(main["record"])
    return deriver.plan


class _Deriver:
    """The plan of one lexicon in progress. Types are read breadth first, bounded."""

    def __init__(self, nsid: str, find: FindSchema) -> None:
        self._nsid = nsid
        self.plan = Plan(nsid)
        self._find = find
        self._waiting: list[tuple[str, str, Schema]] = []
        self._fields = 0

    def run(self, record: Schema) -> None:
        self._waiting.append((self._nsid, self._nsid, record))
        done = {self._nsid}
        while self._waiting and len(self.plan.types) < _MAX_TYPES:
            name, home, schema = self._waiting.pop(0)
            fields = self.plan.types[name] = {}
            for key, part in schema.get("properties", {}).items():
                if self._fields >= _MAX_FIELDS:
                    return
                self._fields += 1
                fields[key] = self._read(f"{name}/{key}", home, key, part, done)
        top = self.plan.types[self._nsid]
        _choose_title(top, record)
        _choose_date(top, record)

    def _read(
        self, name: str, home: str, key: str, part: Schema, done: set[str]
    ) -> FieldPlan:
        for _ in range(8):
            if part["type"] != "array":
                break
            part = part["items"]
        if part["type"] in ("ref", "union"):
            names = [part["ref"]] if part["type"] == "ref" else part["refs"]
            return self._read_refs([resolve_ref(ref, home) for ref in names], key, done)
        if part["type"] == "object":
            self._waiting.append((name, home, part))
            return FieldPlan(NEST, (name,))
        return FieldPlan(_scalar_role(key, part))

    def _read_refs(self, names: list[str], key: str, done: set[str]) -> FieldPlan:
        types: list[str] = []
        role = NEST
        for name in names:
            home = name.partition("#")[0]
            if home != self._nsid:
                self.plan.refs.add(home)
            schema = self._find(name)
            if schema is None:
                self.plan.missing.add(home)
                continue
            if schema["type"] == "record":
                schema = schema["record"]
            for _ in range(8):
                if schema["type"] != "array":
                    break
                schema = schema["items"]
            if schema["type"] == "object":
                types.append(name)
                if name not in done:
                    done.add(name)
                    self._waiting.append((name, home, schema))
            elif schema["type"] in ("ref", "union"):
                inner = [schema["ref"]] if schema["type"] == "ref" else schema["refs"]
                found = [resolve_ref(ref, home) for ref in inner]
                if name not in done:
                    done.add(name)
                    types += self._read_refs(found, key, done).types
            else:
                role = _scalar_role(key, schema)
        return FieldPlan(role, tuple(types))


def _scalar_role(key: str, part: Schema) -> str:
    kind = part["type"]
    if kind == "unknown":
        return NEST
    if kind != "string":
        return SKIP
    found = _OF_FORMAT.get(part.get("format", ""))
    if found is not None:
        return found
    if key in TAGS or "knownValues" in part or "enum" in part or "const" in part:
        return TAG
    if key in LANGS:
        return LANG
    return ALT if key == "alt" else TEXT


def _choose_title(fields: dict[str, FieldPlan], record: Schema) -> None:
    """Give one text of the record the role of its title."""
    texts = [key for key, item in fields.items() if item.role == TEXT]
    properties = record.get("properties", {})
    plain = [key for key in texts if properties[key]["type"] == "string"]
    title = next((key for key in TITLES if key in plain), None)
    if title is None and len(texts) + sum(bool(f.types) for f in fields.values()) > 1:
        short = [key for key in plain if _is_short(properties[key])]
        required = [key for key in short if key in record.get("required", ())]
        title = next(iter([*required, *short]), None)
    if title is not None:
        fields[title] = FieldPlan(TITLE)


def _is_short(part: Schema) -> bool:
    chars, size = part.get("maxGraphemes"), part.get("maxLength")
    if chars is None and size is None:
        return False
    return (chars or 0) <= _MAX_TITLE_CHARS and (size or 0) <= _MAX_TITLE_BYTES


def _choose_date(fields: dict[str, FieldPlan], record: Schema) -> None:
    """Leave one datetime of the record in its role."""
    dates = [key for key, item in fields.items() if item.role == DATE]
    required = [key for key in dates if key in record.get("required", ())]
    named = [key for key in DATES if key in dates]
    for key in dates:
        fields[key] = FieldPlan(SKIP)
    chosen = next(iter([*named, *required, *dates]), None)
    if chosen is not None:
        fields[chosen] = FieldPlan(DATE)


def describe_plan(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield (field, role) of the record and its nested types, for people."""
    for name, fields in plan.types.items():
        prefix = "" if name == plan.root else f"{name.removeprefix(plan.root)}: "
        for key, item in fields.items():
            if item.role not in (NEST, SKIP):
                yield f"{prefix}{key}", item.role
