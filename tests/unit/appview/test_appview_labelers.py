"""atproto-accept-labelers, read by RFC 8941."""

from __future__ import annotations

import pytest

from appview.labelers import MAX_LABELERS, Labelers, parse_labelers
from network.xrpc.server import XrpcError

A, B = "did:plc:" + "a" * 24, "did:web:labels.example.com%3A8080"


@pytest.mark.parametrize(
    ("header", "dids", "redact"),
    [
        (A, (A,), ()),
        (f"{A};redact", (A,), (A,)),
        (f"{A};redact=?1,{B};redact=?0", (A, B), (A,)),
        (f" {A} ; redact\t,\t{B} ", (A, B), (A,)),
        (f'{A};x="a,b;c\\"";y=1.5;z=tok/en:1;b=:aGk=:;redact, {B}', (A, B), (A,)),
        (f"{A};redact=?1;redact=?0", (A,), ()),
        (f"{A};redact=1, {B};redact=yes", (A, B), ()),
        (f"{A};Xredact".lower(), (A,), ()),
        (f"{A}, {A};redact", (A,), (A,)),
        (f'"{A}";redact', (A,), (A,)),
        ("", (), ()),
        ("  ", (), ()),
    ],
)
def test_parse_labelers_reads_structured_lists(
    header: str, dids: tuple[str, ...], redact: tuple[str, ...]
) -> None:
    assert parse_labelers(header, (B,)) == Labelers(dids, frozenset(redact))


@pytest.mark.parametrize(
    "header",
    [
        "not a did",
        "alice.test",
        f"{A},",
        f",{A}",
        f"{A} {B}",
        f"{A};",
        f"{A};=?1",
        f"{A};redact=",
        f"({A})",
        f'"{A}',
        A + ";x" * 5_000,
    ],
)
def test_parse_labelers_refuses_other_headers(header: str) -> None:
    with pytest.raises(XrpcError) as refused:
        parse_labelers(header, ())
    assert refused.value.name == "InvalidRequest"


def test_parse_labelers_without_a_header_takes_the_default_with_redact() -> None:
    assert parse_labelers(None, (A, B)) == Labelers((A, B), frozenset((A, B)))


def test_parse_labelers_is_bounded() -> None:
    header = ", ".join(f"did:plc:{n:024d}" for n in range(100))
    assert len(parse_labelers(header, ()).dids) == MAX_LABELERS


def test_labelers_that_are_unknown_are_left_out() -> None:
    labelers = parse_labelers(f"{A};redact, {B}", ()).among((B,))
    assert labelers == Labelers((B,), frozenset())
    assert parse_labelers(f"{A};redact", ()).among((A, B)).header() == f"{A};redact"


def test_labelers_header_repeats_redact() -> None:
    labelers = parse_labelers(f"{A};redact, {B}", ())
    assert labelers.header() == f"{A};redact, {B}"
    assert parse_labelers(labelers.header(), ()) == labelers
