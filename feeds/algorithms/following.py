"""Posts and reposts of the accounts that the viewer follows, newest first.

Replies are left out unless the parent's author is followed too.
"""

from __future__ import annotations

from feeds.account_merge import FOLLOWED_REPLIES, followed_accounts, merge_accounts
from feeds.skeleton import (
    Algorithm,
    FeedRequest,
    SkeletonEntry,
    ViewerRequiredError,
)
from storage.postgres.pool import Conn


def build(conn: Conn, request: FeedRequest) -> list[SkeletonEntry]:
    """Return a page of entries. Raises `ViewerRequiredError`."""
    if request.viewer is None:
        raise ViewerRequiredError("this feed needs a signed-in account")
    accounts = followed_accounts(conn, request.viewer)
    return merge_accounts(
        conn, accounts, request.after, request.limit, condition=FOLLOWED_REPLIES
    )


FEED = Algorithm(
    name="following",
    display_name="Following",
    description="Posts and reposts of the accounts you follow, newest first.",
    build=build,
    personal=True,
)
