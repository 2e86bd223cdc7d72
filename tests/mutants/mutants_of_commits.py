"""Bugs in the verification of commits: operations, sizes, frames."""

from __future__ import annotations

from mutant import Mutant

_GATE = "tests/integration/live/test_crawl_gate.py"
_GATE_KEYS = "tests/integration/live/test_crawl_gate_keys.py"
_LISTING = "tests/integration/repos/test_crawl_listing.py"
_LYING = "tests/properties/trees/test_lying_operations.py"
_STREAM = "tests/unit/network/streams/test_network_stream_client.py"
_TABLE_OF_SYNC = "tests/integration/live/test_sync_table.py"
_BROKEN = "tests/properties/trees/test_broken_trees.py"
_TREES = "tests/properties/trees/test_trees.py"
_UNKEPT = "tests/unit/indexer/repos/test_indexer_unkept_records.py"
_VERIFY_RECORDS = "tests/unit/crawler/live/test_crawler_verify_records.py"
_VERIFY_OPERATIONS = "tests/unit/crawler/live/test_crawler_verify_operations.py"

OPERATIONS = (
    Mutant(
        "no-inversion",
        "operations",
        "crawler/live/verify.py",
        """\
    if prev_data is not None:
        _check_inversion(car, commit, ops, prev_data, unchecked)
    elif""",
        """\
    if prev_data is not None:
        pass
    elif""",
        (
            f"{_LYING}::test_false_operation_lists_are_refused",
            f"{_LYING}::test_false_prev_data_is_refused",
            f"{_VERIFY_OPERATIONS}::test_operations_that_lie_are_refused",
            f"{_GATE}::test_invalid_commits_are_counted_by_reason",
        ),
    ),
    Mutant(
        "older-root-not-compared",
        "operations",
        "crawler/live/verify.py",
        "    if older != prev_data:",
        "    if not older:",
        (
            f"{_LYING}::test_false_operation_lists_are_refused",
            f"{_LYING}::test_false_prev_data_is_refused",
            f"{_LYING}::test_first_commit_with_unlisted_records_is_refused",
        ),
    ),
    Mutant(
        "new-tree-not-asked",
        "operations",
        "protocol/mst/invert.py",
        "        if tree.get(key) != cid:",
        "        if tree.get(key) is None and cid is not None:",
        (
            f"{_LYING}::test_false_operation_lists_are_refused",
            f"{_TREES}::test_false_operations_never_give_the_older_root",
        ),
    ),
    Mutant(
        "new-tree-not-asked-in-the-short-way",
        "operations",
        "protocol/mst/splice.py",
        'if not found or level != target or entries[index]["v"] != cid:',
        "if not found or level != target:",
        (
            f"{_LYING}::test_false_operation_lists_are_refused",
            f"{_VERIFY_OPERATIONS}::test_operations_that_lie_are_refused",
        ),
    ),
    Mutant(
        "level-of-a-created-key-taken-for-the-root's",
        "operations",
        "protocol/mst/splice.py",
        "if not index and not path and height(keys[0]) != level:",
        "if not keys:",
        (f"{_BROKEN}::test_tree_that_does_not_follow_from_its_keys_is_refused",),
    ),
    Mutant(
        "create-with-prev",
        "operations",
        "crawler/live/verify.py",
        "fits = type(cid) is bytes and prev is None",
        "fits = type(cid) is bytes",
        (
            f"{_LYING}::test_operation_with_another_action_is_refused",
            f"{_VERIFY_OPERATIONS}::test_operations_that_lie_are_refused",
        ),
    ),
    Mutant(
        "delete-with-cid",
        "operations",
        "crawler/live/verify.py",
        "fits = cid is None and type(prev) is bytes",
        "fits = type(prev) is bytes",
        (
            f"{_LYING}::test_false_operation_lists_are_refused",
            f"{_LYING}::test_operation_with_another_action_is_refused",
        ),
    ),
    Mutant(
        "neighbours-not-looked-at",
        "operations",
        "protocol/mst/invert.py",
        "if prev is None and not tree.check_neighbours(key) and unchecked is not None:",
        "if prev is None and unchecked is not None:",
        (f"{_BROKEN}::test_subtree_on_the_wrong_side_of_a_new_key_is_refused",),
    ),
    Mutant(
        "birth-taken-at-its-word",
        "operations",
        "crawler/live/verify.py",
        "    except (RejectedError, MissingBlockError):\n        return False",
        "    except (RejectedError, MissingBlockError):\n        return True",
        (
            f"{_LYING}::test_first_commit_with_extra_operations_is_refused",
            f"{_VERIFY_OPERATIONS}::test_commit_without_prev_data_proves_no_operations",
        ),
    ),
)

SIZE = (
    Mutant(
        "any-number-of-operations",
        "size",
        "crawler/live/verify.py",
        "    if len(ops) > MAX_COMMIT_OPS:\n",
        "    if len(ops) > 2 * MAX_COMMIT_OPS:\n",
        (
            f"{_TABLE_OF_SYNC}::test_row[syntax:201-operations]",
            f"{_VERIFY_OPERATIONS}::test_most_operations",
        ),
    ),
    Mutant(
        "blocks-of-any-size",
        "size",
        "crawler/live/verify.py",
        "    if len(blocks) > limit:\n",
        "    if len(blocks) > 2 * limit:\n",
        (
            f"{_TABLE_OF_SYNC}::test_row[syntax:blocks-over-2-mb]",
            f"{_TABLE_OF_SYNC}::test_row[syntax:sync-over-10-kb]",
        ),
    ),
    Mutant(
        "records-of-any-size",
        "size",
        "protocol/data/record.py",
        "    if len(value) > most:\n",
        "    if len(value) > 2 * most:\n",
        (
            f"{_VERIFY_RECORDS}::test_bad_record_drops_its_operation_only",
            f"{_UNKEPT}::test_dropped_records_return",
        ),
    ),
    Mutant(
        "unreadable-records-imported",
        "size",
        "indexer/repos/import_rows.py",
        "        if isinstance(fields, DropReason):\n",
        "        if fields is DropReason.RECORD_TOO_LARGE:\n",
        (
            f"{_UNKEPT}::test_dropped_records_return[fetch_small]",
            f"{_UNKEPT}::test_dropped_records_return[fetch_whole]",
        ),
    ),
    Mutant(
        "unreadable-records-staged",
        "size",
        "indexer/repos/staged_repo.py",
        "            if isinstance(fields, DropReason):\n",
        "            if fields is DropReason.RECORD_TOO_LARGE:\n",
        (f"{_UNKEPT}::test_dropped_records_return[fetch_whole]",),
    ),
    Mutant(
        "unreadable-records-brought-forward",
        "size",
        "indexer/repos/repo_diff.py",
        "        if isinstance(fields, DropReason):\n",
        "        if fields is DropReason.RECORD_TOO_LARGE:\n",
        (f"{_UNKEPT}::test_dropped_records_return[fetch_changes]",),
    ),
    Mutant(
        "repos-of-nothing-that-can-be-kept",
        "size",
        "indexer/repos/checkout.py",
        "        if len(self._dropped) > MAX_DROPPED_RECORDS:\n",
        "        if not MAX_DROPPED_RECORDS:\n",
        (f"{_UNKEPT}::test_repo_of_dropped_records_is_refused",),
    ),
    Mutant(
        "paths-of-any-form",
        "size",
        "crawler/live/verify.py",
        "            or not is_record_key(rkey)\n",
        "            or not rkey\n",
        (f"{_VERIFY_RECORDS}::test_bad_path_drops_its_operation_only",),
    ),
    Mutant(
        "listings-without-end",
        "size",
        "crawler/hosts/page_guard.py",
        "            if digest in self._seen:\n",
        "            if digest == self._seen:\n",
        (f"{_LISTING}::test_endless_listing_stops_after_two_pages",),
    ),
    Mutant(
        "a-lookup-for-each-lie",
        "size",
        "crawler/identities/accounts.py",
        "        return max(0.0, due - now)\n",
        "        return 0.0\n",
        (
            f"{_GATE_KEYS}::test_bad_signatures_cannot_make_us_ask_more_than_once_a_minute",
        ),
    ),
    Mutant(
        "broken-framing-passed-over",
        "size",
        "crawler/live/gate_frame.py",
        "        stream.fail(Fault.BAD_FRAME, str(error))\n",
        "",
        (f"{_GATE}::test_broken_framing_closes_the_stream_before_its_cursor",),
    ),
    Mutant(
        "numbers-may-fall",
        "size",
        "crawler/live/gate_frame.py",
        "not 0 < seq <= MAX_SEQ or seq <= stream.last_seq",
        "not 0 < seq <= MAX_SEQ",
        (
            f"{_TABLE_OF_SYNC}::test_row[syntax:seq-that-repeats]",
            f"{_GATE}::test_sequence_numbers_must_rise",
        ),
    ),
    Mutant(
        "groups-of-any-size",
        "size",
        "crawler/live/gate_frame.py",
        "if size >= _GROUP_BYTES:",
        "if False:",
        (
            "tests/unit/crawler/live/test_crawler_gate_frame.py"
            "::test_a_group_ends_with_the_frame_that_fills_a_mebibyte",
        ),
    ),
    Mutant(
        "frames-of-any-size",
        "size",
        "network/streams/stream_client.py",
        "max_msg_size=self._max_frame_bytes + 1",
        "max_msg_size=2 * self._max_frame_bytes",
        (f"{_STREAM}::test_largest_frame_passes_and_one_byte_more_fails",),
    ),
)
