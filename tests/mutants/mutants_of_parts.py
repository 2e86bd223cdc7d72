"""Bugs in groups, shards, partial repos, and the audit of rows."""

from __future__ import annotations

from mutant import Mutant

_SELECTION = "tests/unit/indexer/repos/test_indexer_selection_changes.py"
_MIRROR = "tests/unit/mirror/test_mirror_sync.py"
_ROUTER = "tests/unit/crawler/shards/test_crawler_router.py"
_SHARD_CURSORS = "tests/unit/crawler/shards/test_crawler_shard_cursors.py"
_ROWS = "tests/unit/audit/test_indexer_row_audit.py"
_SELECTED = "tests/unit/indexer/repos/test_indexer_selected.py"
_SHARDS = "tests/simulator/test_simulator_shards.py"
_SPARSE = "tests/unit/crawler/repos/test_crawler_sparse.py"
_VERIFY = "tests/unit/crawler/live/test_crawler_verify.py"
_GROUP = f"{_VERIFY}::test_a_group_is_judged_as_each_alone"

GROUP = (
    Mutant(
        "the-first-stands-for-all",
        "group",
        "crawler/live/verify.py",
        "        claim = results[index]\n        if type(claim) is _Claim:\n",
        "        claim = results[index]\n"
        "        if type(claim) is _Claim and index == 0:\n",
        (_GROUP,),
    ),
    Mutant(
        "one-key-for-all",
        "group",
        "crawler/live/verify.py",
        "verify_commit_signature(claim.signed, key, claim.commit)\n"
        "            except Exception",
        "verify_commit_signature(claim.signed, messages[0][1], claim.commit)\n"
        "            except Exception",
        (_GROUP,),
    ),
    Mutant(
        "refused-and-followed",
        "group",
        "crawler/live/verify.py",
        "                results[index] = error\n    for index, claim in",
        "                pass\n    for index, claim in",
        (_GROUP, f"{_VERIFY}::test_wrong_key_and_high_s_are_a_signature_error"),
    ),
    Mutant(
        "what-fails-is-left-out",
        "group",
        "crawler/live/verify.py",
        "        except Exception as error:\n            results.append(error)\n",
        "        except Exception as error:\n            results.insert(0, error)\n",
        (_GROUP,),
    ),
)

SHARD = (
    Mutant(
        "resumed-from-the-highest",
        "shard",
        "storage/cursors.py",
        "    least = min(int(row[0]) for row in rows)",
        "    least = max(int(row[0]) for row in rows)",
        (f"{_SHARD_CURSORS}::test_cursors_of_shards",),
    ),
    Mutant(
        "told-of-the-highest",
        "shard",
        "storage/cursors.py",
        '"SELECT min(seq) FROM host_cursor WHERE host = %s"',
        '"SELECT max(seq) FROM host_cursor WHERE host = %s"',
        (f"{_SHARD_CURSORS}::test_cursors_of_shards",),
    ),
    Mutant(
        "rows-of-another-number-stay",
        "shard",
        "storage/cursors.py",
        "WHERE host = %s AND shard NOT BETWEEN 0 AND %s",
        "WHERE host = %s AND shard < 0 AND shard > %s",
        (f"{_SHARD_CURSORS}::test_cursors_of_shards",),
    ),
    Mutant(
        "position-behind-the-frame",
        "shard",
        "crawler/shards/router.py",
        "link.add(Kind.FRAME, routed.number, before, raw)",
        "link.add(Kind.FRAME, routed.number, stream.last_seq, raw)",
        (f"{_ROUTER}::test_each_account_has_one_shard_and_all_know_the_position",),
    ),
    Mutant(
        "what-has-no-place-moves-the-stream",
        "shard",
        "protocol/events/frames.py",
        "    if type(t) is not str or t == INFO or type(body) is not dict:\n",
        "    if type(t) is not str or type(body) is not dict:\n",
        (f"{_ROUTER}::test_frame_without_seq_does_not_move_the_stream",),
    ),
    Mutant(
        "only-one-shard-is-told",
        "shard",
        "crawler/shards/router.py",
        "                    for link in self._links:\n"
        "                        link.add(Kind.MARK",
        "                    for link in self._links[:1]:\n"
        "                        link.add(Kind.MARK",
        (
            f"{_ROUTER}::test_each_account_has_one_shard_and_all_know_the_position",
            f"{_ROUTER}::test_a_mark_never_passes_over_a_frame",
        ),
    ),
    Mutant(
        "begun-at-the-tip-without-a-cursor",
        "shard",
        "crawler/shards/router.py",
        "routed is not None and not routed.based:",
        "routed is not None and routed.based:",
        (f"{_ROUTER}::test_a_stream_from_its_tip_gives_every_shard_a_cursor",),
    ),
    Mutant(
        "numbers-anew-for-one-shard",
        "shard",
        "crawler/shards/router.py",
        "                for link in self._links:\n"
        "                    link.add(Kind.RESET",
        "                for link in self._links[:1]:\n"
        "                    link.add(Kind.RESET",
        (f"{_ROUTER}::test_a_host_that_numbers_anew_takes_every_shard_back",),
    ),
    Mutant(
        "the-old-stream-goes-on",
        "shard",
        "crawler/shards/router.py",
        "if routed is None or routed.state is not stream or stream.fault is not None:",
        "if routed is None or stream.fault is not None:",
        (f"{_ROUTER}::test_a_dead_shard_is_started_anew_and_the_stream_with_it",),
    ),
    Mutant(
        "a-dead-shard-is-sent-to",
        "shard",
        "crawler/shards/shard_link.py",
        "        await asyncio.get_running_loop().create_future()\n",
        "        return\n",
        (f"{_ROUTER}::test_a_dead_shard_is_started_anew_and_the_stream_with_it",),
    ),
    Mutant(
        "nobody-hears-of-the-end",
        "shard",
        "crawler/shards/shard_link.py",
        "            self._on_end()\n",
        "            pass\n",
        (
            f"{_ROUTER}::test_a_dead_shard_is_started_anew_and_the_stream_with_it",
            f"{_ROUTER}::test_shard_with_malformed_messages_is_restarted",
        ),
    ),
    Mutant(
        "a-shard-without-back-pressure",
        "shard",
        "crawler/shards/shard_link.py",
        "                await self._frames.drain()\n",
        "                pass\n",
        (f"{_ROUTER}::test_a_slow_shard_holds_the_reader_back",),
    ),
    Mutant(
        "a-shard-at-the-end-of-the-stream",
        "shard",
        "crawler/shards/shard.py",
        "Arrival(self._streams[number], body, position)",
        "Arrival(self._streams[number], body, position + 40)",
        (f"{_SHARDS}::test_shard_kills_and_new_numbers_lose_nothing",),
        seconds=900.0,
    ),
)

PART = (
    Mutant(
        "parts-of-anybody",
        "part",
        "crawler/repos/sparse.py",
        "open_head(signed, blocks.did, key, now_us)",
        "open_head(signed, blocks.did, None, now_us)",
        (f"{_SPARSE}::test_the_commit_must_be_of_the_account",),
    ),
    Mutant(
        "parts-without-their-end",
        "part",
        "protocol/mst/ranges.py",
        "place.low < high and (place.high is None or place.high > low)",
        "place.low < high and place.high is not None and place.high > low",
        (
            f"{_SPARSE}::test_fetch_collections_returns_all_records_of_them",
            f"{_SPARSE}::test_list_collections_of_a_known_root",
        ),
    ),
    Mutant(
        "parts-and-their-neighbours",
        "part",
        "protocol/mst/ranges.py",
        'return start, start[:-1] + b"0"',
        'return start[:-1], start[:-1] + b"\\xff"',
        (f"{_SPARSE}::test_fetch_collections_returns_all_records_of_them",),
    ),
    Mutant(
        "parts-grow-by-live-commits",
        "part",
        "indexer/batch.py",
        "            ops, drops = event.within(repo.keeps)\n",
        "            pass\n",
        (
            f"{_SELECTED}::test_live_commits_keep_a_part",
            f"{_SELECTED}::test_first_commit_keeps_a_part",
        ),
    ),
    Mutant(
        "born-whole",
        "part",
        "indexer/repos/repo_states.py",
        "                repo.selection = wanted\n",
        "                repo.selection = None\n",
        (f"{_SELECTED}::test_first_commit_keeps_a_part",),
    ),
    Mutant(
        "parts-called-whole",
        "part",
        "indexer/repos/checkout.py",
        "choose_selections(conn, [(repo, self._selection)])",
        "choose_selections(conn, [(repo, None)])",
        (f"{_SELECTED}::test_fetch_keeps_the_chosen_collections",),
    ),
    Mutant(
        "small-parts-called-whole",
        "part",
        "indexer/repos/repo_batch.py",
        "[(states[actor], repo.selection) for actor, repo in taken.items()]",
        "[(states[actor], None) for actor, repo in taken.items()]",
        (f"{_SELECTED}::test_batch_of_small_repos_keeps_a_part",),
    ),
    Mutant(
        "parts-of-an-old-wish",
        "part",
        "indexer/repos/checkout.py",
        "        if repo.selection != wanted:\n",
        "        if wanted is None and repo.selection is not None:\n",
        (f"{_SELECTION}::test_fetch_for_older_scope_is_repeated",),
    ),
    Mutant(
        "more-is-wanted-and-not-fetched",
        "part",
        "indexer/repos/selected.py",
        "load_selections(conn, [wanted])[wanted].collections <= repo.keeps",
        "True",
        (f"{_SELECTION}::test_wider_is_fetched_and_narrower_pruned",),
    ),
    Mutant(
        "pruned-before-it-is-said",
        "part",
        "indexer/repos/selected.py",
        "            save_repos(conn, [repo])\n            count, ended = _prune",
        "            count, ended = _prune",
        (
            f"{_SELECTION}::test_interrupted_pruning_continues",
            f"{_SELECTION}::test_wider_is_fetched_and_narrower_pruned",
        ),
    ),
    Mutant(
        "a-scope-set-anew-is-half-compared",
        "part",
        "storage/repos/selections.py",
        "SET compared = %s WHERE changed_at = %s",
        "SET compared = %s WHERE changed_at >= %s",
        (f"{_SELECTION}::test_new_scope_restarts_comparison",),
    ),
    Mutant(
        "parts-exported",
        "part",
        "indexer/repos/export.py",
        "    if row[1] is not None:\n",
        "    if row[1] is not None and row[0] is None:\n",
        (f"{_SELECTED}::test_partial_repo_is_not_exported",),
    ),
    Mutant(
        "parts-mirrored",
        "part",
        "mirror/repo_methods.py",
        "WHERE a.did = %s AND r.commit IS NOT NULL AND r.selection IS NULL\n",
        "WHERE a.did = %s AND r.commit IS NOT NULL\n",
        (f"{_MIRROR}::test_partial_repo_is_not_served_as_a_repo",),
    ),
    Mutant(
        "parts-brought-forward",
        "part",
        "indexer/repos/repo_diff.py",
        "        if held[4] is not None:\n",
        "        if held[4] is not None and held[1] is None:\n",
        (f"{_SELECTED}::test_partial_repo_refuses_a_difference",),
    ),
    Mutant(
        "parts-proven-as-far-as-they-go",
        "part",
        "audit/repo_audit.py",
        "zip_longest(ours, listed)",
        "zip(ours, listed)",
        (f"{_SELECTED}::test_host_nodes_show_a_wrong_row",),
    ),
    Mutant(
        "what-does-not-belong-is-overlooked",
        "part",
        "audit/repo_audit.py",
        "    if strays:\n",
        "    if strays and keeps is None:\n",
        (f"{_SELECTED}::test_record_outside_selection_is_a_fault",),
    ),
)

ROW = (
    Mutant(
        "rows-need-only-be-there",
        "row",
        "audit/row_audit.py",
        "            ours.get(row[:width]) != _comparable(row) for row in rows\n",
        "            ours.get(row[:width]) is None for row in rows\n",
        (f"{_ROWS}::test_a_wrong_value_of_each_column",),
    ),
    Mutant(
        "rows-too-many",
        "row",
        "audit/row_audit.py",
        "            self.wrong[name] += max(0, number - self._expected[name])\n",
        "            self.wrong[name] += min(0, number - self._expected[name])\n",
        (
            f"{_ROWS}::test_a_row_of_no_record",
            f"{_ROWS}::test_surplus_edge_by_scan",
        ),
    ),
    Mutant(
        "edges-not-asked-for",
        "row",
        "audit/row_audit.py",
        "self.wrong[partition] += len(missing) + extra",
        "self.wrong[partition] += 0 * len(missing) + extra",
        (f"{_ROWS}::test_a_wrong_edge_of_each_partition",),
    ),
    Mutant(
        "edges-to-anywhere",
        "row",
        "storage/records/links.py",
        """\
          ON l.target_rkey = d.target_rkey AND l.target_actor = d.target_actor
          AND l.actor = d.actor AND l.rkey = d.rkey AND l.path = d.path
          AND l.target_collection = d.target_collection
""",
        """\
          ON l.target_rkey = d.target_rkey AND l.target_actor = d.target_actor
          AND l.actor = d.actor AND l.rkey = d.rkey AND l.path = d.path
""",
        (f"{_ROWS}::test_a_wrong_edge_of_each_partition",),
    ),
    Mutant(
        "edges-twice",
        "row",
        "storage/records/links.py",
        "    return missing, sum(times.values()) - len(times)\n",
        "    return missing, 0\n",
        (f"{_ROWS}::test_a_wrong_edge_of_each_partition",),
    ),
)
