"""Protection against listings without an end."""

from __future__ import annotations

import hashlib


class PageGuard:
    """Remembers the cursors and contents of one listing's pages.

    A host may hand out a cursor again, the same page under new cursors, or pages for
    ever: the first two are seen at the first repetition, the third by counting.
    """

    def __init__(self, max_pages: int) -> None:
        self._max_pages = max_pages
        self._seen: set[bytes] = set()
        self.pages = 0

    def enter(self, body: bytes, items: int, cursor: str | None) -> str | None:
        """Take a page; return the cursor to go on with, None when it is time to stop.

        `items` is how many entries the page had: an empty page is the last one.
        """
        self.pages += 1
        if cursor is None or not items or self.pages >= self._max_pages:
            return None
        for mark in (b"c" + cursor.encode(), b"p" + _without(body, cursor)):
            digest = hashlib.sha256(mark).digest()[:16]
            if digest in self._seen:
                return None
            self._seen.add(digest)
        return cursor

    @property
    def exhausted(self) -> bool:
        """True when the listing was cut by the number of its pages."""
        return self.pages >= self._max_pages


def _without(body: bytes, cursor: str) -> bytes:
    """The page without its cursor, so that a changing cursor hides nothing."""
    return body.replace(cursor.encode(), b"")
