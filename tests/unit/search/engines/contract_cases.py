"""Queries over the documents of the contract suite, and the records they find."""

from __future__ import annotations

from contract_data import DIDS, ODD_TAGS, PARENT, QUOTED, ROOT

from search.query.nodes import AllOf, AnyOf, Filter, Kind, Node, Not, Words, record_key
from search.text.tags import normalize_tag
from storage.collections import COLLECTION_IDS, FEED_POST
from storage.records.addresses import Address

_POST = COLLECTION_IDS[FEED_POST]
_ALL_TAGGED = [40 + i for i in range(len(ODD_TAGS))]

TEXTS: list[tuple[str, list[int]]] = [
    # words
    ("brown", [9, 8, 2, 1]),
    ("BROWN", [9, 8, 2, 1]),
    ("brown fox", [9, 8, 1]),
    ("fox brown", [9, 8, 1]),
    ("quick brown fox the", [9, 1]),
    ("brown brown", [9, 8, 2, 1]),
    ("delta", [29]),
    ("delta gamma", [29]),
    ("one two three four five six seven eight nine ten eleven twelve", [23]),
    ("one two three four five six seven eight nine ten eleven zwoelf", []),
    ("twelve eleven ten nine eight seven six five four three two one", [23]),
    ("zzzz", []),
    ("zzzz brown", []),
    # phrases
    ('"brown fox"', [8, 1]),
    ('"fox brown"', [9, 8]),
    ('"quick brown fox"', [1]),
    ('"brown fox brown"', [8]),
    ('"fox brown fox"', [8]),
    ('"brown bear"', [2]),
    ('"bear brown"', []),
    ('"brown"', [9, 8, 2, 1]),
    ('"a b c"', []),
    ('"c a c"', [28]),
    ('"b c"', [28]),
    ('"c d ring"', [28]),
    ('"epsilon alpha"', []),
    ('"delta epsilon"', [29]),
    ('"quick brown" fox', [1]),
    ('"brown fox" "the quick"', [1]),
    ('"eight nine ten"', [23]),
    ('"', []),
    # negation of words and phrases
    ("brown -bear", [9, 8, 1]),
    ("brown -fox", [2]),
    ("brown -fox -bear", []),
    ('brown -"brown fox"', [9, 2]),
    ('brown -"quick brown fox"', [9, 8, 2]),
    ('brown -"fox brown fox"', [9, 2, 1]),
    ("fox -brown", [27]),
    ("fox -zzzz", [27, 9, 8, 1]),
    (f"from:{DIDS[4]} -gamma", [28]),
    (f"from:{DIDS[4]} -delta", [31, 30, 28]),
    # OR and parentheses
    ("bear OR bon", [27, 3, 2]),
    ("bear OR zzzz", [27, 2]),
    ("zzzz OR yyyy", []),
    ("(bear OR bon) brown", [2]),
    ("(quick OR bear) (fox OR slow)", [27, 9, 2, 1]),
    ("(alpha beta) OR bear", [29, 27, 2]),
    ("alpha -(beta OR zzzz)", [30]),
    ("gamma -(alpha beta)", [31, 30]),
    ("-(alpha OR beta) gamma", []),
    ('("brown fox" OR "slow brown")', [8, 2, 1]),
    ('("quick brown fox" OR "alpha beta gamma")', [29, 1]),
    ("bear OR #fox", [27, 24, 2, 1]),
    ("alpha OR lang:ja", [30, 29, 4]),
    ("(alpha OR beta) (lang:en OR lang:fr)", [31, 30]),
    ("((alpha OR beta) gamma) OR (bear fox)", [31, 30, 29, 27]),
    ("(one OR two) (three OR four) (five OR six) (seven OR eight) (nine OR ten)", [23]),
    ("(one OR x1) (two OR x2) (three OR x3) (four OR x4) (five OR x5) bear", []),
    # languages and scripts
    ("cafe", [3]),
    ("café", [3]),
    ("CAFÉ tres", [3]),
    ("天気", [4]),
    ("日本", [4]),
    ("日本語の天気", [4]),
    ("本日", []),
    ("สวัสดี", [14]),
    ("นมัสเต", []),
    ("नमस्ते", [15]),
    ("दुनिया नमस्ते", [15]),
    ("세계", [16]),
    ("안녕하세요 세계", [16]),
    ("مرحبا", [17]),
    ("привет", [18]),
    ("МИР", [18]),
    ("καλημέρα", [19]),
    ("שלום", [20]),
    ("北京", [21]),
    ("天安门", [21]),
    ("京北", []),
    ("-北京 天安门", []),
    ("Köln", [22]),
    ("koln", [22]),
    ("🌞", [6]),
    ("it's", [6]),
    ("'quoted' \\", [6]),
    # tags
    ("#FOX", [24, 1]),
    ("#fox #bears", [24]),
    ("#fox -#bears", [1]),
    ("brown -#fox", [9, 8, 2]),
    ("#zzzz", []),
    ("#fox OR #zzzz", [24, 1]),
    # authors and mentions
    (f"from:{DIDS[2]}", [5, 4, 3]),
    (f"from:{DIDS[2]} has:link", [5]),
    (f"from:{DIDS[2]} -has:link", [4, 3]),
    (f"fox -from:{DIDS[3]}", [8, 1]),
    (f"fox from:{DIDS[3]}", [27, 9]),
    (f"from:{DIDS[2]} from:{DIDS[4]}", [31, 30, 29, 28, 5, 4, 3]),
    ("from:nobody.test", []),
    (f"mentions:{DIDS[3]}", [26, 5]),
    (f"mentions:{DIDS[3]} mentions:{DIDS[4]}", [26]),
    (f"mentions:{DIDS[3]} -mentions:{DIDS[4]}", [5]),
    (f"to:{DIDS[4]}", [26]),
    # links
    ("domain:example.com", [25, 5]),
    ("domain:www.example.com", [5]),
    ("domain:example.org", [25]),
    ("domain:ample.com", []),
    ("domain:com", []),
    ("has:link -domain:example.org", [5]),
    ("url:https://www.example.com/a", [5]),
    ("url:https://news.example.org/B?q=1", [25]),
    ("url:https://news.example.org/b?q=1", []),
    ("has:link -url:https://www.example.com/a", [25]),
    # languages
    ("lang:fr", [31, 3]),
    ("lang:en", [30, 12, 2, 1]),
    ("lang:en-GB", [30, 12, 2, 1]),
    ("lang:en -lang:de", [30, 2, 1]),
    ("lang:ja lang:ko", [16, 4]),
    ("brown lang:fr", []),
    # features
    ("has:media", [31, 13, 12]),
    ("has:images", [31, 12]),
    ("has:video", [13]),
    ("has:media -has:video", [31, 12]),
    ("is:reply", [10]),
    ("answer -is:reply", []),
    ("is:quote", [11]),
    ("that -is:quote", []),
    # times
    ("until:2026-01-01T00:02:00Z brown", [1]),
    ("brown since:2026-01-01T00:02:00Z", [9, 8, 2]),
    ("brown since:2026-01-01T00:02:00Z until:2026-01-01T00:09:00Z", [8, 2]),
    ("brown since:2027-01-01", []),
    ("brown -since:2026-01-01T00:02:00Z", [1]),
    # likes
    ("brown min_likes:3", [2, 1]),
    ("brown min_likes:4", [2]),
    ("brown min_likes:10", []),
    # record keys of any number
    ("key", [2**63 - 1, -5, -(2**63) + 1]),
    ("key -negated", [2**63 - 1, -(2**63) + 1]),
]

NODES: dict[str, tuple[Node, list[int]]] = {
    "nothing": (AnyOf(), []),
    "parent": (Filter(Kind.PARENT, PARENT), [10]),
    "parent in another case": (Filter(Kind.PARENT, PARENT.lower()), []),
    "root": (Filter(Kind.ROOT, ROOT), [10]),
    "root is no parent": (Filter(Kind.PARENT, ROOT), []),
    "quote with signs": (Filter(Kind.QUOTE, QUOTED), [11]),
    "record": (Filter(Kind.RECORD, record_key(Address(1, _POST, -5))), [-5]),
    "records": (
        AnyOf(
            tuple(
                Filter(Kind.RECORD, record_key(Address(1, _POST, n)))
                for n in (1, 2, 77)
            )
        ),
        [2, 1],
    ),
    "word without records": (
        AllOf(
            (
                Words(("brown",)),
                Not(Filter(Kind.RECORD, record_key(Address(1, _POST, 8)))),
            )
        ),
        [9, 2, 1],
    ),
    "begun word": (AllOf((Words(("quic",), prefix=True), Words(("fox",)))), [9, 1]),
    "word or begun word": (
        AnyOf((Words(("slee",), prefix=True), Words(("bon",)))),
        [3, 2],
    ),
    "not a begun word": (
        AllOf((Words(("brown",)), Not(Words(("slee",), prefix=True)))),
        [9, 8, 1],
    ),
    "begun phrase": (Words(("brown", "fo"), prefix=True), [8, 1]),
    "everything but words": (
        AllOf((Filter(Kind.AUTHOR, DIDS[4]), Not(Words(("gamma",))))),
        [28],
    ),
    "not (a or filter)": (
        AllOf(
            (
                Filter(Kind.AUTHOR, DIDS[4]),
                Not(AnyOf((Words(("alpha",)), Filter(Kind.LANG, "fr")))),
            )
        ),
        [28],
    ),
    "many authors": (
        AllOf(
            (
                Words(("fox",)),
                AnyOf(
                    (
                        *(
                            Filter(Kind.AUTHOR, f"did:plc:{n:024d}")
                            for n in range(2_000)
                        ),
                        Filter(Kind.AUTHOR, DIDS[3]),
                    )
                ),
            )
        ),
        [27, 9],
    ),
    "tag of control characters": (Filter(Kind.TAG, "a\x01b\n"), []),
    "very long tag": (Filter(Kind.TAG, "x" * 60_000), []),
    "very long word": (Words(("x" * 60_000,)), []),
    **{
        f"tag {tag}": (Filter(Kind.TAG, normalize_tag(tag)), [40 + i])
        for i, tag in enumerate(ODD_TAGS)
    },
    **{
        f"not tag {tag}": (
            AllOf((Words(("tagged",)), Not(Filter(Kind.TAG, normalize_tag(tag))))),
            [n for n in reversed(_ALL_TAGGED) if n != 40 + i],
        )
        for i, tag in enumerate(ODD_TAGS)
    },
}

ODD_TEXTS = (
    "' OR 1=1 --",
    "\\",
    "a'b\\'c",
    '"a\\"b"',
    "!!!",
    "(((",
    ")))",
    "& | !",
    "\x00",
    "a\x00b",
    "%s",
    "-",
    "--",
    "-\x00",
    "OR",
    "OR OR",
    "NOT x",
    "x EXISTS",
    "\u200b\u200d",
    "🏳️‍🌈",
    "x" * 1_000,
    "ab " * 30,
    "𒀀𒀁 \U0010ffff",
    "a:b:c",
    "#",
    "##",
    "@",
)
