"""A feed written in Python: one ranking for all readers of a moment, sliced in pages.

A run that fails is reported to the readers. After it the feed rests for a while, so
that a faulty file costs little.
"""

from __future__ import annotations

import hashlib
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Final

import structlog

from feeds.read_access import ReadAccess, RefusedReadError
from feeds.recipes.recipe import MAX_DESCRIPTION_CHARS, MAX_TITLE_CHARS
from feeds.scripts.interface import MAX_ITEMS, MAX_POSTS, Read
from feeds.scripts.script_process import (
    Limits,
    RunResult,
    ScriptError,
    ScriptProcess,
)
from feeds.serving.post_facts import find_existing
from feeds.skeleton import (
    Algorithm,
    FeedFailedError,
    FeedRequest,
    Ranking,
    SkeletonEntry,
    SkeletonItem,
    ViewerRequiredError,
)
from feeds.snapshots import Held, Moments
from protocol.data.graphemes import cut_text
from search.documents import RecordDocument
from storage.postgres.instants import from_micros, to_micros
from storage.postgres.pool import Conn
from storage.records.addresses import Address

log = structlog.get_logger(__name__)

MAX_RANKED: Final = 200_000
"""Items of all rankings in memory."""
RUNS_AT_ONCE: Final = 4
"""Files that run at once in a process."""
_MOST_WAITING: Final = 2
_CONTEXT: Final = 300
_FIRST_REST_S: Final = 1.0
_LONGEST_REST_S: Final = 60.0
_MEDIA: Final = ("media", "images", "video", "link")


@dataclass(frozen=True, slots=True)
class SharedRuns:
    """The common parts of the Python feeds of a process.

    `output` is the file descriptor that the files print to.
    """

    limits: Limits
    rankings: Held[Ranking]
    moments: Moments
    slots: threading.BoundedSemaphore
    output: int


def shared_runs(
    limits: Limits | None = None, output: int = subprocess.DEVNULL
) -> SharedRuns:
    """Return the common parts for one process."""
    slots = threading.BoundedSemaphore(RUNS_AT_ONCE)
    return SharedRuns(limits or Limits(), Held(MAX_RANKED), Moments(), slots, output)


class ScriptFeed:
    """One version of a file. `error` is the reason of its last failure."""

    def __init__(self, path: Path, text: str, shared: SharedRuns) -> None:
        self.path = path
        self.name = path.stem
        self.error: str | None = None
        self._text = text
        self._shared = shared
        self._identity = (str(path), hashlib.sha256(text.encode()).hexdigest())
        self._turn = threading.Lock()
        self._state = threading.Lock()
        self._waiting = 0
        self._process: ScriptProcess | None = None
        self._used_at = monotonic()
        self._failures = 0
        self._rests_until = 0.0
        self._retired = False
        self._described: Mapping[str, Any] = {}

    def load(self) -> bool:
        """Start the process and read the description; return False on a failure."""
        with self._turn:
            try:
                self._start()
            except ScriptError as error:
                self._fail(error)
                return False
            self.error = None
            return True

    @property
    def algorithm(self) -> Algorithm:
        """Return the feed as providers serve it."""
        title = cut_text(
            str(self._described.get("title") or self.name).strip() or self.name,
            graphemes=MAX_TITLE_CHARS,
            size=10 * MAX_TITLE_CHARS,
        )
        return Algorithm(
            name=self.name,
            display_name=_clean(title),
            description=cut_text(
                _clean(str(self._described.get("description", ""))),
                graphemes=MAX_DESCRIPTION_CHARS,
                size=10 * MAX_DESCRIPTION_CHARS,
            ),
            build=self.build,
            personal=self.is_personal,
            prepare=self.prepare,
        )

    @property
    def is_personal(self) -> bool:
        """Return True if the feed depends on its reader."""
        return self._described.get("personal") is True

    def prepare(
        self, access: ReadAccess, viewer: str | None, after: list[Any] | None
    ) -> Ranking:
        """Return the ranking of a reader's moment.

        Raises FeedFailedError or ViewerRequiredError.
        """
        if self.is_personal and viewer is None:
            raise ViewerRequiredError("this feed needs a signed-in account")
        reader = viewer if self.is_personal else None
        identity = (self._identity, reader)
        shared = self._shared
        if after is not None and shared.rankings.holds((identity, after[0])):
            moment = after[0]
        else:
            # A run reads the present, so an older moment would not be the same again.
            moment = shared.moments.freeze(identity, to_micros(datetime.now(UTC)))

        def build() -> Ranking:
            with self._own_turn():
                # Another reader may have built it meanwhile.
                return shared.rankings.get(
                    (identity, moment), lambda: self._rank(access, reader, moment)
                )

        ranking = shared.rankings.get((identity, moment), build)
        shared.moments.settle(identity, moment)
        return ranking

    def build(self, conn: Conn, request: FeedRequest) -> list[SkeletonEntry]:
        """Return a page of the ranking, without posts that are gone."""
        ranking = request.ranking
        if ranking is None:
            raise FeedFailedError(f"the feed {self.name} was not prepared")
        entries: list[SkeletonEntry] = []
        for place in range(_place_after(ranking, request.after), len(ranking), 100):
            piece = ranking.items[place : place + 100]
            existing = find_existing(conn, [item.post for item in piece])
            entries += [
                SkeletonEntry(item, [ranking.moment, number, *item.post])
                for number, item in enumerate(piece, place)
                if item.post in existing
            ]
            if len(entries) >= request.limit:
                break
        return entries[: request.limit]

    def rest(self, idle_s: float) -> None:
        """End the process if it was not used for some seconds."""
        if self._process is None or monotonic() - self._used_at < idle_s:
            return
        if self._turn.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._turn.release()

    def retire(self) -> None:
        """End the process, after the run under way."""
        self._retired = True
        if self._turn.acquire(timeout=self._shared.limits.run_s + 1):
            try:
                self._end()
            finally:
                self._turn.release()

    @contextmanager
    def _own_turn(self) -> Iterator[None]:
        """Wait for the process of this file, and for a slot among all files."""
        self._check_rest()
        with self._state:
            if self._waiting > _MOST_WAITING:
                raise self._refusal("too many readers wait for it")
            self._waiting += 1
        limits = self._shared.limits
        try:
            if not self._turn.acquire(timeout=limits.run_s):
                raise self._refusal("another run takes too long")
            try:
                self._check_rest()
                if not self._shared.slots.acquire(timeout=limits.run_s):
                    raise self._refusal("too many feeds run at once")
                try:
                    yield
                finally:
                    self._shared.slots.release()
                    self._used_at = monotonic()
                    if self._retired:
                        self._end()
            finally:
                self._turn.release()
        finally:
            with self._state:
                self._waiting -= 1

    def _rank(self, access: ReadAccess, viewer: str | None, moment: int) -> Ranking:
        now = from_micros(moment).isoformat()
        try:
            result = self._start().run(viewer, now, _reader(access, viewer))
        except ScriptError as error:
            self._fail(error)
            raise self._refusal(str(self.error)) from error
        self.error, self._failures = None, 0
        return _make_ranking(access, result, moment)

    def _start(self) -> ScriptProcess:
        if self._process is not None and not self._process.is_open:
            self._end()
        if self._process is None:
            shared = self._shared
            self._process = ScriptProcess(
                self.path, self._text, shared.limits, shared.output
            )
            self._described = self._process.described
            self._used_at = monotonic()
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None

    def _fail(self, error: ScriptError) -> None:
        self._end()
        self.error = _clean(str(error))
        rest = min(_LONGEST_REST_S, _FIRST_REST_S * 2 ** min(self._failures, 10))
        self._failures += 1
        self._rests_until = monotonic() + rest
        log.warning("feed_file_failed", file=self.path.name, error=self.error)

    def _check_rest(self) -> None:
        if monotonic() < self._rests_until:
            raise self._refusal(str(self.error))

    def _refusal(self, reason: str) -> FeedFailedError:
        return FeedFailedError(f"the feed {self.name} failed: {reason}")


def _reader(access: ReadAccess, viewer: str | None) -> Read:
    def find(asked: Mapping[str, Any]) -> list[RecordDocument]:
        match asked:
            case {"read": "search", "text": str(text), "limit": int(limit)}:
                return access.search(text, min(limit, MAX_POSTS))
            case {"read": "recipe", "text": str(text), "limit": int(limit)}:
                return access.recipe(text, viewer, min(limit, MAX_POSTS))
            case _:
                raise RefusedReadError("this call is not known")

    def read(asked: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return {"posts": [_post_values(document) for document in find(asked)]}
        except RefusedReadError as error:
            return {"error": str(error)}

    return read


def _post_values(document: RecordDocument) -> dict[str, Any]:
    return {
        "uri": document.uri,
        "author": document.did,
        "handle": document.handle or "",
        "text": document.text,
        "created_at": document.sort_at.isoformat(),
        "languages": document.langs,
        "tags": document.tags,
        "domains": document.domains,
        "media": [kind for kind in document.features if kind in _MEDIA],
        "parent": document.reply_parent,
        "likes": document.likes,
        "reposts": document.reposts,
        "replies": document.replies,
        "quotes": document.quote_count,
    }


def _make_ranking(access: ReadAccess, result: RunResult, moment: int) -> Ranking:
    """Return the posts that the index knows, each once, with notes on the others."""
    reasons: dict[str, str] = {}
    for uri, reason in result.items[:MAX_ITEMS]:
        reasons.setdefault(uri, reason)
    found = access.find_posts(reasons)
    items = {
        found[uri]: SkeletonItem(
            found[uri],
            feed_context=cut_text(
                _clean(reason), graphemes=_CONTEXT, size=4 * _CONTEXT
            ),
        )
        for uri, reason in reversed(reasons.items())
        if uri in found
    }
    unknown = [uri for uri in reasons if uri not in found]
    notes = [*result.notes]
    if unknown:
        notes.append(
            f"{len(unknown)} items left out, which are no posts of the index:"
            f" {_clean(unknown[0])[:200]!r}"
        )
    if repeated := len(result.items[:MAX_ITEMS]) - len(reasons):
        notes.append(f"{repeated} items left out, which were there before")
    return Ranking(moment, tuple(reversed(items.values())), tuple(notes))


def _place_after(ranking: Ranking, after: list[Any] | None) -> int:
    """Return the place behind the reader's last item, which may have moved."""
    if after is None:
        return 0
    _, place, *item = after
    address = Address(*item)
    if 0 <= place < len(ranking) and ranking.items[place].post == address:
        return int(place) + 1
    for number, each in enumerate(ranking.items):
        if each.post == address:
            return number + 1
    return min(int(place), len(ranking))


def _clean(text: str) -> str:
    """Return a text of a file that can be stored and sent."""
    return text.encode("utf-8", "replace").decode().replace("\0", " ")
