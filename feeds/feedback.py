"""Things that a reader told the feeds: posts seen, and posts to see less or more of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from storage.private.sealing import Account


@dataclass(frozen=True, slots=True)
class Feedback:
    """The feedback of a reader. Times are microseconds since 1970.

    `seen` has keyed hashes of AT-URIs, `less` and `more` have AT-URIs of posts.
    """

    account: Account | None = None
    seen: Mapping[int, int] = field(default_factory=dict)
    less: Mapping[str, int] = field(default_factory=dict)
    more: Mapping[str, int] = field(default_factory=dict)

    def has_seen(self, uri: str, until: int) -> bool:
        """Return True if a post was seen until a time."""
        if self.account is None or not self.seen:
            return False
        return self.seen.get(self.account.subject(uri), until + 1) <= until

    def newest(self, until: int) -> int:
        """Return the time of the newest request until a time, 0 without any."""
        times = (*self.less.values(), *self.more.values())
        return max((at for at in times if at <= until), default=0)


NO_FEEDBACK = Feedback()
