"""Identifiers and formats, beyond what the shared vectors hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocol import syntax
from protocol.errors import InvalidSyntaxError

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
VALID: dict[str, tuple[Callable[[str], bool], Callable[[str], object], str]] = {
    "did": (syntax.is_did, syntax.parse_did, DID),
    "handle": (syntax.is_handle, syntax.parse_handle, "alice.example.com"),
    "nsid": (syntax.is_nsid, syntax.parse_nsid, "app.bsky.feed.post"),
    "record-key": (syntax.is_record_key, syntax.parse_record_key, "self"),
    "tid": (syntax.is_tid, syntax.parse_tid, "3jzfcijpj2z2a"),
    "at-uri": (syntax.is_at_uri, syntax.parse_at_uri, f"at://{DID}/a.b.c/self"),
    "at-identifier": (syntax.is_at_identifier, syntax.parse_at_identifier, DID),
    "datetime": (
        syntax.is_datetime,
        syntax.parse_datetime,
        "2024-02-29T12:00:00.5+01:00",
    ),
    "language": (syntax.is_language, syntax.parse_language, "zh-Hant-TW"),
    "uri": (syntax.is_uri, syntax.parse_uri, "https://example.com/a?b#c"),
    "cid": (
        syntax.is_cid_text,
        syntax.parse_cid_text,
        "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq",
    ),
}
# Each has slipped past some regular expression: "$" before a line end, \d and \w
# beyond ASCII, letters that fold into ASCII ones.
SUFFIXES = (
    "\n",
    "\r\n",
    "\0",
    " ",
    "\t",
    "\u200b",
    "\u2028",
    "\u00a0",
    "\uff11",
    "\u212a",
    "\u017f",
    "\ufeff",
    "\ud800",
    "é",
)


@pytest.mark.parametrize("name", VALID)
def test_valid_text_comes_back_unchanged(name: str) -> None:
    is_valid, parse, text = VALID[name]
    assert is_valid(text)
    assert str(parse(text)) == text


@pytest.mark.parametrize("suffix", SUFFIXES, ids=ascii)
@pytest.mark.parametrize("name", VALID)
def test_nothing_may_follow_or_lead(name: str, suffix: str) -> None:
    is_valid, parse, text = VALID[name]
    for wrong in (text + suffix, suffix + text, text[:4] + suffix + text[4:]):
        assert not is_valid(wrong)
        with pytest.raises(InvalidSyntaxError):
            parse(wrong)


@pytest.mark.parametrize("name", VALID)
def test_long_text_is_refused_at_once(name: str) -> None:
    is_valid, _, text = VALID[name]
    assert not is_valid("")
    assert not is_valid(text * 200_000)


@pytest.mark.parametrize(
    ("is_valid", "longest"),
    [
        (syntax.is_did, "did:web:" + "a" * 2040),
        (syntax.is_handle, ("a" * 63 + ".") * 3 + "b" * 61),
        (syntax.is_nsid, ("a" * 63 + ".") * 4 + "b" * 61),
        (syntax.is_record_key, "a" * 512),
        (syntax.is_uri, "x:" + "a" * 8190),
        (syntax.is_datetime, "2024-01-01T00:00:00." + "1" * 20 + "Z"),
    ],
)
def test_longest_text(is_valid: Callable[[str], bool], longest: str) -> None:
    assert is_valid(longest)
    middle = len(longest) - 1
    assert not is_valid(longest[:middle] + longest[middle - 1] + longest[middle:])


def test_did_methods() -> None:
    assert syntax.did_method(syntax.parse_did("did:web:example.com")) == "web"
    assert syntax.is_plc_did(DID)
    assert not syntax.is_plc_did(DID[:-1])
    assert not syntax.is_plc_did(DID[:-1] + "1")
    assert not syntax.is_plc_did("did:web:" + "a" * 24)


def test_handles_are_compared_in_lower_case() -> None:
    assert syntax.normalize_handle("Alice.Example.COM") == "alice.example.com"
    with pytest.raises(InvalidSyntaxError):
        syntax.normalize_handle("alice")


@pytest.mark.parametrize(
    ("handle", "allow_test", "allowed"),
    [
        ("alice.bsky.social", False, True),
        ("alice.test", False, False),
        ("alice.TEST", True, True),
        ("alice.LOCAL", True, False),
        ("alice.onion", True, False),
        ("handle.invalid", True, False),
        ("localhost.com", False, True),
    ],
)
def test_reserved_domains(handle: str, allow_test: bool, allowed: bool) -> None:
    parsed = syntax.parse_handle(handle)
    assert syntax.is_resolvable_handle(parsed, allow_test=allow_test) is allowed


def test_authority_of_an_nsid() -> None:
    nsid = syntax.parse_nsid("app.Bsky.feed.getPosts")
    assert syntax.nsid_authority(nsid) == "feed.bsky.app"


def test_paths() -> None:
    assert syntax.parse_path("a.b.c/x:y") == ("a.b.c", "x:y")
    longest = "a." * 127 + "b" * 63 + "/" + "k" * 512
    assert syntax.parse_path(longest) == tuple(longest.split("/"))


@pytest.mark.parametrize(
    "path",
    [
        "",
        "a.b.c",
        "a.b.c/",
        "/self",
        "a.b.c//self",
        "a.b.c/self/x",
        "a.b.c/.",
        "a.b.c/..",
        "a.b/self",
        "a.b.c/" + "k" * 513,
        "a.b.c/é",
        "$a.b.c/self",
        "a.b.c/self\n",
        "a." * 158 + "bc/self",
        "a" * 400_000,
    ],
    ids=lambda path: path[:20],
)
def test_paths_that_are_none(path: str) -> None:
    with pytest.raises(InvalidSyntaxError):
        syntax.parse_path(path)


def test_parts_of_an_at_uri() -> None:
    whole = syntax.parse_at_uri(f"at://{DID}/app.bsky.feed.post/3k")
    assert whole == syntax.AtUri(
        syntax.Did(DID), syntax.Nsid("app.bsky.feed.post"), syntax.RecordKey("3k")
    )
    assert syntax.parse_at_uri("at://alice.test").collection is None
    assert str(syntax.parse_at_uri("at://alice.test")) == "at://alice.test"
    assert syntax.parse_at_uri("at://alice.test/a.b.c").rkey is None
    assert str(syntax.parse_at_uri("at://alice.test/a.b.c")) == "at://alice.test/a.b.c"


@pytest.mark.parametrize(
    "uri",
    [
        f"at://{'did:web:' + 'a' * 2041}/a.b.c/self",
        f"at://{'a' * 63}.{'a' * 63}.{'a' * 63}.{'a' * 63}/a.b.c/self",
        f"at://{DID}/{'a.' * 158}bc/self",
        f"at://{DID}/a.b.c/{'k' * 513}",
        f"at://{DID}/a.b.c/..",
        f"at://{DID}/a.b.c/self?q=1",
    ],
    ids=lambda uri: uri[:24],
)
def test_each_part_of_an_at_uri_has_its_bound(uri: str) -> None:
    assert not syntax.is_at_uri(uri)
    with pytest.raises(InvalidSyntaxError):
        syntax.parse_at_uri(uri)


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("en", True),
        ("en-GB-oed", True),
        ("sl-rozaj-biske", True),
        ("sl-rozaj-Rozaj", False),
        ("de-1996-1901", True),
        ("en-a-foo-A-bar", False),
        ("en-a-foo-b-bar", True),
        ("en-abcdefghi", False),
        ("en-x", False),
        ("i-klingon", True),
        ("i-unknown", False),
        ("EN", False),
    ],
)
def test_languages(text: str, valid: bool) -> None:
    assert syntax.is_language(text) is valid
