"""Bugs in stored state: cursors, the chain of commits, fetched repos."""

from __future__ import annotations

from mutant import Mutant

_EVENTS = "tests/unit/indexer/repos/test_indexer_checkout_events.py"
_APPLY = "tests/unit/indexer/test_indexer_apply.py"
_CHECKOUT = "tests/unit/indexer/repos/test_indexer_checkout.py"
_CRAWLER_CURSOR = "tests/unit/crawler/live/test_crawler_cursor.py"
_DIFF = "tests/unit/indexer/repos/test_indexer_repo_diff.py"
_GATE = "tests/integration/live/test_crawl_gate.py"
_INDEXER_CURSOR = "tests/unit/indexer/test_indexer_cursor.py"
_KILL = "tests/integration/live/test_crawl_kill.py"
_TABLE_OF_SYNC = "tests/integration/live/test_sync_table.py"
_VANISHED = "tests/unit/indexer/repos/test_indexer_vanished.py"
_VERIFY = "tests/unit/crawler/live/test_crawler_verify.py"

CURSOR = (
    Mutant(
        "cursor-before-rows",
        "cursor",
        "indexer/apply.py",
        """\
    with whole_transaction(conn):
        plan_for_probes(conn)
""",
        """\
    with whole_transaction(conn):
        save_cursors(conn, cursors, shard=shard)
    with whole_transaction(conn):
        plan_for_probes(conn)
""",
        (
            f"{_INDEXER_CURSOR}::test_interrupted_batch_leaves_nothing",
            f"{_INDEXER_CURSOR}::test_cursor_and_rows_are_visible_together",
            "tests/unit/indexer/test_indexer_apply.py::test_cursor_and_rows_are_one",
        ),
    ),
    Mutant(
        "cursor-long-before-rows",
        "cursor",
        "indexer/index_writer.py",
        """\
            result = apply_batch(
                conn,
                self._interner,
                events,
                cursors,
""",
        """\
            apply_batch(conn, self._interner, [], cursors, now, shard=self._shard)
            __import__("time").sleep(0.02)
            result = apply_batch(
                conn,
                self._interner,
                events,
                {},
""",
        (f"{_KILL}::test_kills_lose_and_repeat_nothing",),
        seconds=600.0,
    ),
    Mutant(
        "cursor-over-unknown-accounts",
        "cursor",
        "crawler/live/gate.py",
        "        result.look_up(frame.did, lookup)\n",
        "",
        (f"{_GATE}::test_frame_of_an_unknown_account_ends_in_a_repo_to_fetch",),
    ),
    Mutant(
        "cursor-with-the-first-half",
        "cursor",
        "crawler/live/pipeline.py",
        "self._apply_events(events[:middle], {})",
        "self._apply_events(events[:middle], marks)",
        (f"{_CRAWLER_CURSOR}::test_no_cursor_is_ahead_of_its_events",),
    ),
)

CHAIN = (
    Mutant(
        "prev-data-not-compared",
        "chain",
        "indexer/batch.py",
        "    if event.prev_data != repo.data:\n",
        "    if repo.data is None:\n",
        (f"{_TABLE_OF_SYNC}::test_row[chain:a-commit-hidden]",),
    ),
    Mutant(
        "since-not-compared",
        "chain",
        "indexer/batch.py",
        "    if event.since is not None and event.since != repo.rev:\n",
        "    if event.since is not None and repo.rev is None:\n",
        (f"{_TABLE_OF_SYNC}::test_row[chain:an-empty-one-missed]",),
    ),
    Mutant(
        "old-revisions-taken",
        "chain",
        "indexer/batch.py",
        "        elif repo.rev is not None and event.rev <= repo.rev:\n"
        "            self._ignore(",
        "        elif repo.rev is not None and event.rev < repo.rev:\n"
        "            self._ignore(",
        (
            f"{_TABLE_OF_SYNC}::test_row[revision:replayed]",
            f"{_APPLY}::test_replay_changes_nothing",
        ),
    ),
    Mutant(
        "older-sync-believed",
        "chain",
        "indexer/batch.py",
        "        elif repo.rev is not None and event.rev <= repo.rev:\n"
        "            if event",
        "        elif repo.rev is not None and event.rev == repo.rev:\n"
        "            if event",
        (f"{_TABLE_OF_SYNC}::test_row[#sync:an-older-revision]",),
    ),
    Mutant(
        "sync-not-believed",
        "chain",
        "indexer/batch.py",
        'self._desynchronize(repo, event, "the host announced another tree")',
        "self._ignore(event, DropReason.DESYNCHRONIZED)",
        (
            f"{_TABLE_OF_SYNC}::test_row[#sync:somewhere-else]",
            f"{_APPLY}::test_sync_event",
        ),
    ),
    Mutant(
        "nothing-kept-during-a-fetch",
        "chain",
        "indexer/batch.py",
        "            self._buffered.append((actor, event))\n"
        "            self.result.buffered",
        "            self.result.buffered",
        (
            f"{_TABLE_OF_SYNC}::test_row[chain:while-the-repo-is-fetched]",
            f"{_APPLY}::test_commits_wait_while_their_repo_is_fetched",
            f"{_EVENTS}::test_commits_meanwhile_follow",
        ),
    ),
    Mutant(
        "kept-and-never-read",
        "chain",
        "indexer/repos/checkout.py",
        "        events = load_commits(conn, actor)\n",
        "        events: list[Any] = []\n",
        (f"{_EVENTS}::test_commits_meanwhile_follow",),
    ),
    Mutant(
        "first-commit-at-its-word",
        "chain",
        "indexer/batch.py",
        "    return build_root(sorted(items)) == event.data\n",
        "    return bool(event.data)\n",
        (f"{_APPLY}::test_first_commit_must_hold_the_whole_tree",),
    ),
    Mutant(
        "repo-of-the-future",
        "chain",
        "protocol/repo/commit.py",
        "    if commit.rev > latest_rev(now_us):\n",
        "    if not commit.rev:\n",
        (
            f"{_DIFF}::test_difference_of_the_future_is_refused",
            "tests/unit/crawler/repos/test_crawler_sparse.py::"
            "test_a_commit_of_the_future_is_refused",
            "tests/unit/protocol/repo/test_protocol_commit.py::"
            "test_open_head_refuses_revisions_from_the_future",
            "tests/unit/protocol/repo/test_protocol_repo.py::"
            "test_repo_from_the_future_is_refused",
        ),
    ),
    Mutant(
        "future-taken",
        "chain",
        "protocol/repo/commit.py",
        "last_tid_at(now_us + MAX_REV_AHEAD_US)",
        "last_tid_at(now_us + 2 * MAX_REV_AHEAD_US)",
        (
            f"{_TABLE_OF_SYNC}::test_row[revision:a-moment-further]",
            f"{_VERIFY}::test_revision_in_the_future_is_refused",
        ),
    ),
    Mutant(
        "signed-and-lost",
        "chain",
        "crawler/live/gate.py",
        "        result.to_resync.add(account.did)\n",
        "",
        (
            f"{_TABLE_OF_SYNC}::test_row[inversion:one-left-out]",
            f"{_TABLE_OF_SYNC}::test_row[operations:a-record-that-is-not-there]",
            f"{_TABLE_OF_SYNC}::test_row[tree:no-nodes]",
        ),
    ),
    Mutant(
        "replays-ask-again",
        "chain",
        "crawler/live/decide.py",
        "    if account.rev is not None and rev <= account.rev:\n",
        "    if account.rev is not None and rev < str():\n",
        (
            f"{_TABLE_OF_SYNC}::test_row[signature:from-before-the-rotation]",
            f"{_TABLE_OF_SYNC}::test_row[inversion:the-same-lie-again]",
        ),
    ),
    Mutant(
        "sync-meanwhile-forgotten",
        "chain",
        "indexer/repos/checkout.py",
        "told is not None and repo.rev is not None and repo.rev < told:",
        "told is not None and repo.rev is not None and repo.rev > told:",
        (f"{_EVENTS}::test_sync_event_meanwhile",),
    ),
)

VANISHED = (
    Mutant(
        "resync-deletes-nothing",
        "vanished",
        "indexer/repos/staged_repo.py",
        "    FULL JOIN staged_record AS staged USING (collection, rkey)",
        "    RIGHT JOIN staged_record AS staged USING (collection, rkey)",
        (
            f"{_VANISHED}::test_shares_that_vanished",
            f"{_CHECKOUT}::test_vanished_records_are_deleted",
            "tests/integration/live/test_crawl_resyncs.py::"
            "test_resync_removes_vanished_records[whole-0.5]",
        ),
    ),
    Mutant(
        "resync-keeps-what-was-dropped",
        "vanished",
        "indexer/repos/checkout.py",
        "        delete_dropped_of(conn, actor)\n",
        "",
        (f"{_VANISHED}::test_shares_that_vanished",),
    ),
    Mutant(
        "resync-keeps-an-empty-repo",
        "vanished",
        "indexer/repos/checkout.py",
        "            if self._staged is not None:\n"
        "                self._apply_difference(self._staged)\n",
        "            if self._staged is not None and self._records:\n"
        "                self._apply_difference(self._staged)\n",
        (
            f"{_VANISHED}::test_shares_that_vanished",
            f"{_CHECKOUT}::test_vanished_records_are_deleted[100]",
        ),
    ),
    Mutant(
        "resync-keeps-edges",
        "vanished",
        "indexer/repos/checkout.py",
        "            self._stats.add(done)\n",
        "            assert done is not None\n",
        (
            f"{_VANISHED}::test_shares_that_vanished",
            f"{_CHECKOUT}::test_vanished_records_are_deleted",
        ),
    ),
    Mutant(
        "older-copy-taken",
        "vanished",
        "indexer/repos/checkout.py",
        "        if repo.rev is not None and head.rev < repo.rev:",
        "        if repo.rev is None and head.rev is None:",
        (f"{_CHECKOUT}::test_older_copy_is_refused",),
    ),
)
