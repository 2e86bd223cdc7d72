"""Twenty lexicons that no code knows, each with a record and words to find it by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from small_world import PICTURE, did


@dataclass(frozen=True)
class Foreign:
    """A lexicon, a record of it, its key (a TID by default), and a query."""

    nsid: str
    defs: dict[str, Any]
    record: dict[str, Any]
    query: str
    rkey: str = ""
    more: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Documents that the lexicon refers to."""

    @property
    def document(self) -> dict[str, Any]:
        return {"lexicon": 1, "id": self.nsid, "defs": self.defs}


def text(**more: Any) -> dict[str, Any]:
    return {"type": "string", **more}


def listed(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def ref(name: str) -> dict[str, Any]:
    return {"type": "ref", "ref": name}


def shape(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "required": [*required], "properties": properties}


def main(
    properties: dict[str, Any], *required: str, key: str = "tid", **more: Any
) -> dict[str, Any]:
    record = {"type": "record", "key": key, "record": shape(properties, *required)}
    return {"main": record, **more}


_DATE = text(format="datetime")
_LIST_ITEM = shape({"content": ref("#text"), "children": listed(ref("#listItem"))})
_UNION = {"type": "union", "refs": ["#text", "#list", "#picture"]}
_DEEP: dict[str, Any] = {"title": "pangolin"}
for _ in range(24):
    _DEEP = {"inner": _DEEP}

FOREIGN = [
    Foreign(
        "org.blocks.paper.document",
        main(
            {"title": text(maxLength=1280), "pages": listed(ref("#page"))},
            page=shape({"blocks": listed(ref("#block"))}),
            block=shape({"block": _UNION}),
            text=shape({"plaintext": text(), "facets": listed({"type": "unknown"})}),
            list=shape({"children": listed(ref("#listItem"))}),
            listItem=_LIST_ITEM,
            picture=shape({"alt": text(), "image": {"type": "blob"}}),
        ),
        {
            "title": "Tidal pools",
            "pages": [
                {
                    "blocks": [
                        {
                            "block": {
                                "$type": "org.blocks.paper.document#list",
                                "children": [
                                    {
                                        "content": {"plaintext": "barnacle"},
                                        "children": [
                                            {"content": {"plaintext": "nudibranch"}}
                                        ],
                                    }
                                ],
                            }
                        },
                        {
                            "block": {
                                "$type": "org.blocks.paper.document#picture",
                                "alt": "an anemone",
                                "image": PICTURE,
                            }
                        },
                    ]
                }
            ],
        },
        "nudibranch",
    ),
    Foreign(
        "org.soup.recipe",
        main(
            {
                "name": text(),
                "ingredients": listed(text(maxGraphemes=300)),
                "cuisine": text(knownValues=["ethiopian", "thai"]),
                "publishedAt": _DATE,
            },
            "name",
        ),
        {
            "name": "Lentils",
            "ingredients": ["two spoons of berbere", "lentils"],
            "cuisine": "ethiopian",
            "publishedAt": "2026-10-01T10:00:00Z",
        },
        "berbere",
    ),
    Foreign(
        "org.fair.calendar.event",
        main(
            {"headline": text(), "venue": ref("#place"), "startsAt": _DATE},
            place=shape({"street": text(), "geo": shape({"lat": text()})}),
        ),
        {
            "headline": "Harvest fair",
            "venue": {"street": "Quincunx lane", "geo": {"lat": "51.2"}},
            "startsAt": "2027-05-01T08:00:00Z",
        },
        "quincunx",
    ),
    Foreign(
        "org.hindi.kavita",
        main(
            {"sheershak": text(maxGraphemes=100), "panktiyan": listed(text())},
            "sheershak",
        ),
        {"sheershak": "बारिश", "panktiyan": ["आसमान में बादल", "मोर नाचता है"]},
        "बादल",
    ),
    Foreign(
        "org.code.repo",
        main({"name": text(), "description": text(), "website": text(format="uri")}),
        {
            "name": "marmot_parser",
            "description": "parses burrows",
            "website": "https://marmot.example.org/docs",
        },
        "burrows",
    ),
    Foreign(
        "org.notes.facetted",
        main({"body": text(), "facets": listed(ref("app.bsky.richtext.facet"))}),
        {
            "body": "visit the zither museum",
            "facets": [
                {
                    "index": {"byteStart": 0, "byteEnd": 5},
                    "features": [
                        {
                            "$type": "app.bsky.richtext.facet#tag",
                            "tag": "zithers",
                        }
                    ],
                }
            ],
        },
        "#zithers",
    ),
    Foreign(
        "org.silent.marker",
        main({"count": {"type": "integer"}, "subject": text(format="did")}),
        {"count": 3, "subject": did("bob")},
        "*",
    ),
    Foreign(
        "org.history.battle",
        main({"title": text(), "date": _DATE}),
        {"title": "Hastings shieldwall", "date": "1066-10-14T09:00:00Z"},
        "shieldwall",
        rkey="hastings",
    ),
    Foreign(
        "org.future.mission",
        main({"title": text(), "launch": _DATE}),
        {"title": "Enceladus plume", "launch": "2148-01-01T00:00:00Z"},
        "enceladus",
        rkey="m:1~x",
    ),
    Foreign(
        "org.dateless.poem",
        main({"verse": text()}),
        {"createdAt": 7, "verse": "ouroboros eats its tail"},
        "ouroboros",
        rkey="poem.one",
    ),
    Foreign(
        "org.other.refs.review",
        main({"item": ref("org.other.refs.defs#thing"), "stars": {"type": "integer"}}),
        {"item": {"label": "samovar", "remarks": "boils quickly"}, "stars": 5},
        "samovar",
        more={
            "org.other.refs.defs": {
                "thing": shape({"label": text(), "remarks": text()}),
            }
        },
    ),
    Foreign(
        "org.union.card",
        main(
            {"face": {"type": "union", "refs": ["#joker", "#suit"]}},
            joker=shape({"motto": text()}),
            suit=shape({"pips": {"type": "integer"}}),
        ),
        {"face": {"$type": "org.union.card#joker", "motto": "harlequin laughs"}},
        "harlequin",
    ),
    Foreign(
        "org.open.union.note",
        main(
            {"part": {"type": "union", "refs": ["#known"]}}, known=shape({"x": text()})
        ),
        {"part": {"$type": "org.elsewhere.part", "wording": "kaleidoscope view"}},
        "kaleidoscope",
    ),
    Foreign(
        "org.map.keyed",
        main({"translations": {"type": "unknown"}}),
        {"translations": {"de": {"t": "Schmetterling"}, "fr": {"t": "papillon"}}},
        "papillon",
    ),
    Foreign(
        "org.japan.haiku",
        main({"ku": text(), "language": text(format="language")}),
        {"ku": "古池や蛙飛びこむ水の音", "language": "ja"},
        "水の音",
    ),
    Foreign(
        "org.gallery.picture",
        main({"photo": {"type": "blob"}, "alt": text()}),
        {"photo": PICTURE, "alt": "a lighthouse at dusk"},
        "lighthouse",
    ),
    Foreign(
        "org.arabic.wisdom",
        main({"hikma": text()}),
        {"hikma": "الصبر مفتاح الفرج"},
        "مفتاح",
    ),
    Foreign(
        "org.self.status",
        main({"mood": text(enum=["serene", "grumpy"])}, key="literal:self"),
        {"mood": "serene"},
        "serene",
        rkey="self",
    ),
    Foreign(
        "org.deep.nest",
        main({"inner": {"type": "unknown"}, "note": text()}),
        {"note": "a burrow", **_DEEP},
        "pangolin",
    ),
    Foreign(
        "org.long.essay",
        main({"chapters": listed(text())}),
        {"chapters": ["filler " * 200, "x" * 5_000, "the word is syzygy " * 40]},
        "syzygy",
    ),
]
