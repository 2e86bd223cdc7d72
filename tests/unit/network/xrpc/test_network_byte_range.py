"""Range headers."""

from __future__ import annotations

import pytest

from network.errors import XrpcError
from network.xrpc.byte_range import parse_range


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=2-4", (2, 5)),
        ("bytes=2-", (2, 10)),
        ("bytes=8-99", (8, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-99", (0, 10)),
    ],
)
def test_parse_range_returns_the_span(header: str, span: tuple[int, int]) -> None:
    found = parse_range(header, 10)
    assert found is not None
    assert (found.start, found.end) == span
    assert found.content_range == f"bytes {span[0]}-{span[1] - 1}/10"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes=",
        "bytes=-",
        "bytes=4-2",
        "bytes=0-1,3-4",
        "bytes=a-b",
        "bytes=1",
        "items=0-1",
        "bytes=0-" + "9" * 400,
        "bytes=\u0661-2",
    ],
)
def test_parse_range_ignores_what_it_cannot_serve(header: str | None) -> None:
    assert parse_range(header, 10) is None


@pytest.mark.parametrize(
    ("header", "size"),
    [("bytes=10-", 10), ("bytes=10-12", 10), ("bytes=-0", 10), ("bytes=0-", 0)],
)
def test_parse_range_refuses_a_span_behind_the_end(header: str, size: int) -> None:
    with pytest.raises(XrpcError) as caught:
        parse_range(header, size)
    assert caught.value.status == 416
    assert caught.value.headers == {"Content-Range": f"bytes */{size}"}
