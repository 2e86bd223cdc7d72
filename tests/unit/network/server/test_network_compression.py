"""Compressed responses, by Accept-Encoding."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import zstandard
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from network.server.compression import CompressionMiddleware, choose_encoding
from network.server.listener import serving_in_thread

LARGE = {"posts": ["the same again"] * 20_000}


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1.0, zstd;q=0.5", "gzip"),
        ("GZIP", "gzip"),
        ("gzip;q=0, zstd;q=0", None),
        ("*", "zstd"),
        ("*;q=0.5, zstd;q=0", "gzip"),
        ("br", None),
        ("identity", None),
        ("identity, gzip;q=0.5", None),
        ("gzip;q=much", None),
        ("", None),
        (";;;,,,", None),
    ],
)
def test_choose_encoding_by_weight(accepted: str, encoding: str | None) -> None:
    assert choose_encoding(accepted) == encoding


async def _large(request: Request) -> Response:
    return JSONResponse(LARGE, headers={"ETag": '"x"', "Vary": "Origin"})


async def _small(request: Request) -> Response:
    return JSONResponse({"error": "NotFound"}, 404)


async def _car(request: Request) -> Response:
    return Response(b"0" * 5_000, media_type="application/vnd.ipld.car")


async def _pieces(request: Request) -> Response:
    async def pieces() -> AsyncIterator[str]:
        for number in range(200):
            yield f"piece {number}\n"

    return StreamingResponse(pieces(), media_type="text/plain")


async def _encoded(request: Request) -> Response:
    body = gzip.compress(b"0" * 5_000)
    return Response(body, media_type="text/plain", headers={"Content-Encoding": "gzip"})


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    routes = [
        Route(f"/{endpoint.__name__[1:]}", endpoint)
        for endpoint in (_large, _small, _car, _pieces, _encoded)
    ]
    app = Starlette(routes=routes, middleware=[Middleware(CompressionMiddleware)])
    with serving_in_thread(app) as url:
        yield url


def _get(url: str, accepted: str | None) -> tuple[bytes, httpx.Headers]:
    headers = {"Accept-Encoding": accepted or ""}
    with httpx.stream("GET", url, headers=headers, verify=False) as response:
        return b"".join(response.iter_raw()), response.headers


def _unzstd(body: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(body)


@pytest.mark.parametrize(
    ("encoding", "decode"), [("gzip", gzip.decompress), ("zstd", _unzstd)]
)
def test_large_answer_is_compressed(server: str, encoding: str, decode: Any) -> None:
    body, headers = _get(f"{server}/large", encoding)
    assert headers["content-encoding"] == encoding
    assert len(body) < 5_000
    assert int(headers["content-length"]) == len(body)
    assert json.loads(decode(body)) == LARGE
    assert headers["etag"] == 'W/"x"'
    assert headers["vary"] == "Origin, Accept-Encoding"


@pytest.mark.parametrize("accepted", [None, "identity", "br"])
def test_large_answer_is_plain_without_a_known_encoding(
    server: str, accepted: str | None
) -> None:
    body, headers = _get(f"{server}/large", accepted)
    assert "content-encoding" not in headers
    assert json.loads(body) == LARGE
    assert "Accept-Encoding" in headers["vary"]


@pytest.mark.parametrize("path", ["small", "car"])
def test_small_and_binary_answers_are_not_compressed(server: str, path: str) -> None:
    body, headers = _get(f"{server}/{path}", "gzip, zstd")
    assert "content-encoding" not in headers
    assert int(headers["content-length"]) == len(body)


def test_encoded_answer_is_not_encoded_again(server: str) -> None:
    body, headers = _get(f"{server}/encoded", "gzip")
    assert headers["content-encoding"] == "gzip"
    assert gzip.decompress(body) == b"0" * 5_000


def test_stream_of_text_is_compressed_piece_by_piece(server: str) -> None:
    body, headers = _get(f"{server}/pieces", "zstd")
    assert headers["content-encoding"] == "zstd"
    assert _unzstd(body).decode().splitlines() == [f"piece {n}" for n in range(200)]
