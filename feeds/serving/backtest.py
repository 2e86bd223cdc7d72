"""Replays of a feed's first page over past hours.

Counts of reactions are those of today, since earlier ones are not kept. Everything else
is as it was: a page holds the posts that were there at its hour.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from statistics import median
from typing import Final

from feeds.serving.recipe_feed import RecipeFeed
from feeds.skeleton import FeedRequest
from storage.postgres.instants import to_micros
from storage.postgres.pool import Conn
from storage.records.addresses import Address

PAGE: Final = 30
MAX_DAYS: Final = 30
_HOUR: Final = timedelta(hours=1)
_HOUR_US: Final = 3_600_000_000


@dataclass(frozen=True, slots=True)
class BacktestDay:
    """One day of pages, one for each hour.

    `overlap` is the share of a page that was on the page an hour before. `new_posts`
    were on no page before. `median_hours` is the age of the posts. `authors` is the
    mean number of accounts on a page. An hour is empty if its page is; a stale hour
    shows nothing new.
    """

    day: str
    pages: int
    posts: float
    new_posts: int
    overlap: float
    median_hours: float
    authors: float
    empty_hours: int
    stale_hours: int


@dataclass(slots=True)
class _Hour:
    day: str
    posts: list[Address]
    ages: list[float]


def backtest(
    conn: Conn,
    feed: RecipeFeed,
    viewer: int | None,
    days: int,
    *,
    now: datetime | None = None,
) -> list[BacktestDay]:
    """Return the past days, oldest first. Raises ViewerRequiredError."""
    by_day: dict[str, list[_Hour]] = {}
    end = now or datetime.now(UTC)
    known: set[Address] = set()
    before: set[Address] = set()
    results: dict[str, list[tuple[int, float | None]]] = {}
    for hour in _replay(conn, feed, viewer, end, days):
        page = {*hour.posts}
        fresh = len(page - known)
        overlap = len(page & before) / len(page) if page else None
        results.setdefault(hour.day, []).append((fresh, overlap))
        by_day.setdefault(hour.day, []).append(hour)
        known |= page
        before = page
    return [_sum_up(day, by_day[day], results[day]) for day in by_day]


def _replay(
    conn: Conn, feed: RecipeFeed, viewer: int | None, end: datetime, days: int
) -> Iterator[_Hour]:
    for back in range(24 * days - 1, -1, -1):
        at = end - back * _HOUR
        request = FeedRequest(viewer, PAGE, now=at)
        page = [found for found, _ in islice(feed.walk(conn, request), PAGE)]
        shown = [found for found in page if not found.pinned]
        moment = to_micros(at)
        yield _Hour(
            at.date().isoformat(),
            [found.post for found in shown],
            [(moment - found.key.at) / _HOUR_US for found in shown],
        )


def _sum_up(
    day: str, hours: list[_Hour], results: list[tuple[int, float | None]]
) -> BacktestDay:
    filled = [hour for hour in hours if hour.posts]
    ages = [age for hour in hours for age in hour.ages]
    overlaps = [overlap for _, overlap in results if overlap is not None]
    return BacktestDay(
        day=day,
        pages=len(hours),
        posts=round(sum(len(hour.posts) for hour in hours) / len(hours), 1),
        new_posts=sum(fresh for fresh, _ in results),
        overlap=round(sum(overlaps) / len(overlaps), 2) if overlaps else 0.0,
        median_hours=round(median(ages), 1) if ages else 0.0,
        authors=round(
            sum(len({p.actor for p in hour.posts}) for hour in filled)
            / max(1, len(filled)),
            1,
        ),
        empty_hours=len(hours) - len(filled),
        stale_hours=sum(fresh == 0 for fresh, _ in results),
    )
