"""Identifiers and formats, beyond the shared vectors."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocol import syntax
from protocol.errors import InvalidSyntaxError
from protocol.lexicon.formats import FORMATS

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
VALID = {
    "did": DID,
    "handle": "alice.example.com",
    "nsid": "app.bsky.feed.post",
    "record-key": "self",
    "tid": "3jzfcijpj2z2a",
    "at-uri": f"at://{DID}/a.b.c/self",
    "at-identifier": DID,
    "datetime": "2024-02-29T12:00:00.5+01:00",
    "language": "zh-Hant-TW",
    "uri": "https://example.com/a?b#c",
    "cid": "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq",
}
PARSE: dict[str, Callable[[str], object]] = {
    "did": syntax.parse_did,
    "handle": syntax.parse_handle,
    "nsid": syntax.parse_nsid,
    "tid": syntax.parse_tid,
    "at-uri": syntax.parse_at_uri,
    "datetime": syntax.datetime_us,
}
# Line ends before "$", \d and \w beyond ASCII, letters that fold into ASCII ones.
SUFFIXES = (*"\n\0 \t\u200b\u2028\u00a0\uff11\u212a\u017f\ufeff\ud800é", "\r\n")


@pytest.mark.parametrize("suffix", SUFFIXES, ids=ascii)
@pytest.mark.parametrize("name", VALID)
def test_text_with_another_character_is_refused(name: str, suffix: str) -> None:
    text = VALID[name]
    is_valid = FORMATS[name].check
    assert is_valid(text)
    for wrong in (text + suffix, suffix + text, text[:4] + suffix + text[4:]):
        assert not is_valid(wrong)
        if name in PARSE:
            with pytest.raises(InvalidSyntaxError):
                PARSE[name](wrong)


@pytest.mark.parametrize("name", VALID)
def test_long_text_is_refused_at_once(name: str) -> None:
    assert not FORMATS[name].check("")
    assert not FORMATS[name].check(VALID[name] * 200_000)


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
def test_text_of_the_longest_size(
    is_valid: Callable[[str], bool], longest: str
) -> None:
    assert is_valid(longest)
    middle = len(longest) - 1
    assert not is_valid(longest[:middle] + longest[middle - 1] + longest[middle:])


def test_did_method() -> None:
    assert syntax.did_method(syntax.parse_did("did:web:example.com")) == "web"
    assert syntax.is_plc_did(DID)
    assert not syntax.is_plc_did(DID[:-1])
    assert not syntax.is_plc_did(DID[:-1] + "1")
    assert not syntax.is_plc_did("did:web:" + "a" * 24)


def test_handle_is_normalized_to_lower_case() -> None:
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


def test_path_is_split() -> None:
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
def test_path_that_is_invalid_is_refused(path: str) -> None:
    with pytest.raises(InvalidSyntaxError):
        syntax.parse_path(path)


def test_at_uri_is_split() -> None:
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
def test_at_uri_with_a_long_part_is_refused(uri: str) -> None:
    assert not syntax.is_at_uri(uri)
    with pytest.raises(InvalidSyntaxError):
        syntax.parse_at_uri(uri)


SPACE = f"at://{DID}/space/com.example.forum/main"


@pytest.mark.parametrize("more", ["", f"/{DID}", f"/{DID}/com.example.post/3k", "/a/"])
def test_address_of_a_space_is_known_and_no_at_uri(more: str) -> None:
    assert syntax.is_space_uri(SPACE + more)
    assert not syntax.is_at_uri(SPACE + more)


@pytest.mark.parametrize(
    "uri",
    [
        f"at://{DID}/space",
        f"at://{DID}/space/com.example.forum",
        f"at://{DID}/space/forum/main",
        f"at://{DID}/spaces/com.example.forum/main",
        "at://alice.test/space/com.example.forum/main",
        f"{SPACE}?q=1",
        f"{SPACE}/{'a' * 9_000}",
    ],
)
def test_other_addresses_are_no_spaces(uri: str) -> None:
    assert not syntax.is_space_uri(uri)


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
def test_language_tag(text: str, valid: bool) -> None:
    assert syntax.is_language(text) is valid
