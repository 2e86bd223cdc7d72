"""Small pictures drawn by arithmetic: avatars and landscapes, as PNG."""

from __future__ import annotations

import colorsys
import random
import struct
import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGB = 2


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def _png(rows: list[list[tuple[int, int, int]]]) -> bytes:
    raw = b"".join(b"\0" + b"".join(bytes(pixel) for pixel in row) for row in rows)
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, _RGB, 0, 0, 0)
    return (
        _SIGNATURE
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(raw, 9))
        + _chunk(b"IEND", b"")
    )


def _colour(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return int(red * 255), int(green * 255), int(blue * 255)


def draw_avatar(rng: random.Random, cells: int = 5, scale: int = 24) -> bytes:
    """A symmetric pattern of squares in two colours, as a PNG."""
    hue = rng.random()
    front, back = _colour(hue, 0.55, 0.75), _colour(hue, 0.12, 0.97)
    half = [[rng.random() < 0.5 for _ in range((cells + 1) // 2)] for _ in range(cells)]
    rows = []
    for left in half:
        line = [*left, *reversed(left[: cells // 2])]
        pixels = [front if on else back for on in line for _ in range(scale)]
        rows += [pixels] * scale
    return _png(rows)


def draw_landscape(rng: random.Random, width: int = 160, height: int = 90) -> bytes:
    """A sky over three rows of hills, as a PNG."""
    hue = rng.random()
    hills = [
        [height * (0.45 + 0.18 * layer + rng.uniform(-0.06, 0.06)) for _ in range(9)]
        for layer in range(3)
    ]
    rows = []
    for y in range(height):
        row = []
        for x in range(width):
            pixel = _colour(hue, 0.35, 0.95 - 0.3 * y / height)
            for layer, points in enumerate(hills):
                place = x / width * (len(points) - 1)
                left = points[int(place)]
                right = points[min(int(place) + 1, len(points) - 1)]
                if y >= left + (right - left) * (place - int(place)):
                    pixel = _colour(hue + 0.3, 0.4 + 0.15 * layer, 0.6 - 0.15 * layer)
            row.append(pixel)
        rows.append(row)
    return _png(rows)
