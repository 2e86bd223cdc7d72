"""Generated avatars and landscapes, as PNG."""

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


def _png(rows: list[bytes]) -> bytes:
    """Encode rows of red, green and blue bytes as a PNG."""
    header = struct.pack(">IIBBBBB", len(rows[0]) // 3, len(rows), 8, _RGB, 0, 0, 0)
    raw = b"".join(b"\0" + row for row in rows)
    return (
        _SIGNATURE
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(raw, 9))
        + _chunk(b"IEND", b"")
    )


def _colour(hue: float, saturation: float, value: float) -> bytes:
    channels = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return bytes(int(channel * 255) for channel in channels)


def draw_avatar(rng: random.Random, cells: int = 5, scale: int = 24) -> bytes:
    """Draw a symmetric pattern of squares in two colors."""
    hue = rng.random()
    front, back = _colour(hue, 0.55, 0.75), _colour(hue, 0.12, 0.97)
    rows: list[bytes] = []
    for _ in range(cells):
        left = [rng.random() < 0.5 for _ in range((cells + 1) // 2)]
        line = [*left, *reversed(left[: cells // 2])]
        row = b"".join((front if on else back) * scale for on in line)
        rows += [row] * scale
    return _png(rows)


def draw_landscape(rng: random.Random, width: int = 160, height: int = 90) -> bytes:
    """Draw a sky over three rows of hills."""
    hue = rng.random()
    hills = [_draw_hill(rng, layer, width, height) for layer in range(3)]
    ground = [
        _colour(hue + 0.3, 0.4 + 0.15 * layer, 0.6 - 0.15 * layer) for layer in range(3)
    ]
    rows = []
    for y in range(height):
        sky = _colour(hue, 0.35, 0.95 - 0.3 * y / height)
        row = []
        for near, middle, far in zip(*reversed(hills), strict=True):
            if y >= near:
                row.append(ground[2])
            elif y >= middle:
                row.append(ground[1])
            else:
                row.append(ground[0] if y >= far else sky)
        rows.append(b"".join(row))
    return _png(rows)


def _draw_hill(rng: random.Random, layer: int, width: int, height: int) -> list[float]:
    """Return the height of a rolling line at each column, counted from the top."""
    points = [
        height * (0.45 + 0.18 * layer + rng.uniform(-0.06, 0.06)) for _ in range(10)
    ]
    line = []
    for x in range(width):
        place = x / width * (len(points) - 1)
        left, right = points[int(place)], points[int(place) + 1]
        line.append(left + (right - left) * (place - int(place)))
    return line
