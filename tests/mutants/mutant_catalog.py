"""The bugs that the tests must find. One edit each, small and easy to make."""

from __future__ import annotations

from mutant import Mutant

_CAR = "tests/unit/protocol/test_protocol_car.py"
_CBOR = "tests/unit/protocol/test_protocol_cbor.py"
_CHECKOUT = "tests/unit/indexer/test_indexer_checkout.py"
_CRAWLER_CURSOR = "tests/unit/crawler/test_crawler_cursor.py"
_FLIPPED = "tests/properties/test_flipped_blocks.py"
_FORMS = "tests/properties/test_longer_forms.py"
_GATE = "tests/integration/test_crawl_gate.py"
_INDEXER_CURSOR = "tests/unit/indexer/test_indexer_cursor.py"
_JTI = "tests/unit/storage/test_storage_jti.py"
_KEYS = "tests/unit/protocol/test_protocol_keys.py"
_KILL = "tests/integration/test_crawl_kill.py"
_LIARS = "tests/integration/test_crawl_liars.py"
_LYING = "tests/properties/test_lying_operations.py"
_ADDRESSES = "tests/unit/network/test_network_addresses.py"
_CLIENT = "tests/unit/network/test_network_client.py"
_REPLAY = "tests/unit/service/test_service_replay.py"
_SERVICE_AUTH = "tests/unit/network/test_network_service_auth.py"
_SIGNATURES = "tests/properties/test_changed_signatures.py"
_TABLE = "tests/unit/network/test_network_address_table.py"
_TREES = "tests/properties/test_trees.py"
_VANISHED = "tests/unit/indexer/test_indexer_vanished.py"
_VERIFY = "tests/unit/crawler/test_crawler_verify.py"

CURSOR = (
    Mutant(
        "cursor-before-rows",
        "cursor",
        "indexer/apply.py",
        """\
    batch.intern(events)
    with whole_transaction(conn):
        plan_for_probes(conn)
""",
        """\
    batch.intern(events)
    with whole_transaction(conn):
        save_cursors(conn, cursors, shard=shard)
    with whole_transaction(conn):
        plan_for_probes(conn)
""",
        (
            f"{_INDEXER_CURSOR}::test_a_batch_cut_off_at_any_statement_leaves_nothing",
            f"{_INDEXER_CURSOR}::"
            "test_whoever_looks_at_any_time_sees_cursor_and_rows_together",
            "tests/unit/indexer/test_indexer_apply.py::test_cursor_and_rows_are_one",
        ),
    ),
    Mutant(
        "cursor-long-before-rows",
        "cursor",
        "service/index_sink.py",
        """\
            result = apply_batch(conn, self._interner, events, cursors, now)
""",
        """\
            apply_batch(conn, self._interner, [], cursors, now)
            __import__("time").sleep(0.02)
            result = apply_batch(conn, self._interner, events, {}, now)
""",
        (f"{_KILL}::test_kills_lose_nothing_and_repeat_nothing",),
        seconds=600.0,
    ),
    Mutant(
        "cursor-over-waiting-frames",
        "cursor",
        "crawler/high_water.py",
        "return min(handled, min(waiting) - 1) if waiting else handled",
        "return handled",
        (
            "tests/unit/crawler/test_crawler_high_water.py::"
            "test_the_mark_never_covers_an_unfinished_frame",
            f"{_GATE}::test_a_proven_commit_of_a_new_account_passes",
            f"{_GATE}::test_frames_of_one_account_keep_their_order_while_others_pass",
        ),
    ),
    Mutant(
        "cursor-with-the-first-half",
        "cursor",
        "crawler/pipeline.py",
        "self._apply_events(events[:middle], {})",
        "self._apply_events(events[:middle], marks)",
        (f"{_CRAWLER_CURSOR}::test_no_cursor_is_ahead_of_its_events",),
    ),
)

ENCODING = (
    Mutant(
        "not-encoded-again",
        "encoding",
        "protocol/cbor.py",
        """\
    if encoded != data:
        return _UNSETTLED
""",
        "",
        (
            f"{_CBOR}::test_no_other_form_is_taken",
            f"{_FORMS}::test_no_other_form_of_a_record_is_read",
            f"{_FORMS}::test_records_in_other_forms_are_dropped_from_a_true_commit",
            f"{_VERIFY}::test_bad_record_drops_its_operation_only",
        ),
    ),
    Mutant(
        "floats-taken",
        "encoding",
        "protocol/cbor.py",
        """\
        elif kind is float:
            return False
""",
        "",
        (
            f"{_CBOR}::test_no_other_form_is_taken",
            f"{_FORMS}::test_no_other_form_of_a_record_is_read",
        ),
    ),
    Mutant(
        "integers-of-any-size",
        "encoding",
        "protocol/cbor.py",
        "if not MIN_INT <= item <= MAX_INT:",
        "if not MIN_INT * 2 <= item <= MAX_INT * 2 + 1:",
        (f"{_CBOR}::test_no_other_form_is_taken",),
    ),
    Mutant(
        "numbers-longer-than-needed",
        "encoding",
        "protocol/cbor_strict.py",
        "if argument < smallest:",
        "if argument < 0:",
        (
            f"{_CBOR}::test_no_other_form_is_taken",
            f"{_FORMS}::test_no_other_form_of_a_record_is_read",
        ),
    ),
    Mutant(
        "keys-twice",
        "encoding",
        "protocol/cbor_strict.py",
        "(size, key) <= (len(previous), previous)",
        "(size, key) < (len(previous), previous)",
        (
            f"{_CBOR}::test_no_other_form_is_taken",
            f"{_FORMS}::test_no_other_form_of_a_record_is_read",
        ),
    ),
    Mutant(
        "loose-nodes",
        "encoding",
        "protocol/mst/node.py",
        "plain = encode_dag_cbor(node) == raw and len(node) == 2",
        "plain = len(node) == 2",
        (
            f"{_FORMS}::test_no_other_form_of_a_node_is_read",
            f"{_TREES}::test_broken_tree_is_refused_by_every_reader[long_number]",
        ),
    ),
    Mutant(
        "commits-with-more-behind",
        "encoding",
        "protocol/commit.py",
        "_PLAIN.fullmatch(raw)",
        "_PLAIN.match(raw)",
        (f"{_FORMS}::test_no_other_form_of_a_commit_is_read",),
    ),
    Mutant(
        "commits-put-in-order",
        "encoding",
        "protocol/commit.py",
        """\
    fields = cbor.decode(raw)
    if type(fields) is not dict:
""",
        """\
    import libipld

    fields = cbor.decode(libipld.encode_dag_cbor(libipld.decode_dag_cbor(raw)))
    if type(fields) is not dict:
""",
        (f"{_FORMS}::test_no_other_form_of_a_commit_is_read",),
    ),
)

HASH = (
    Mutant(
        "whole-files-not-hashed",
        "hash",
        "protocol/car.py",
        """\
            _check_unusual(cid, block)
        blocks[cid] = block
""",
        """\
            pass
        blocks[cid] = block
""",
        (
            f"{_FLIPPED}::test_ten_thousand_flipped_blocks_are_ten_thousand_refusals",
            f"{_FLIPPED}::test_every_block_of_every_message_flipped_once",
            f"{_FLIPPED}::test_flipped_bit_of_a_cid_is_a_refusal_too",
            f"{_CAR}::test_one_flipped_bit_in_any_block_is_refused",
            f"{_VERIFY}::test_block_that_is_not_what_its_cid_says_is_refused",
        ),
    ),
    Mutant(
        "pieces-not-hashed",
        "hash",
        "protocol/car.py",
        """\
                    _check_unusual(cid, block)
                found.append((cid, block))
""",
        """\
                    pass
                found.append((cid, block))
""",
        (
            f"{_FLIPPED}::test_ten_thousand_flipped_blocks_are_ten_thousand_refusals",
            f"{_FLIPPED}::test_every_block_of_a_repo_flipped_once",
            f"{_CAR}::test_one_flipped_bit_in_any_block_is_refused",
            f"{_LIARS}::"
            "test_a_repo_that_is_not_what_its_owner_signed_is_not_taken[flipped]",
        ),
    ),
    Mutant(
        "blobs-not-hashed",
        "hash",
        "protocol/car.py",
        "    if sha256(block).digest() != cid[4:]:",
        "    if cid[:4] == DATA_PREFIX and sha256(block).digest() != cid[4:]:",
        (f"{_FLIPPED}::test_ten_thousand_flipped_blocks_are_ten_thousand_refusals",),
    ),
    Mutant(
        "half-of-the-hash",
        "hash",
        "protocol/car.py",
        "    if sha256(block).digest() != cid[4:]:",
        "    if sha256(block).digest()[:16] != cid[4:20]:",
        (f"{_FLIPPED}::test_flipped_bit_of_a_cid_is_a_refusal_too",),
    ),
)

SIGNATURE = (
    Mutant(
        "high-s-of-p256",
        "signature",
        "protocol/keys.py",
        "limit = P256_ORDER - 1 if allow_high_s else _P256_HALF_ORDER",
        "limit = P256_ORDER - 1",
        (
            f"{_SIGNATURES}::test_no_changed_signature_is_taken[p256]",
            f"{_KEYS}::test_high_s_is_refused_unless_allowed[p256]",
            f"{_VERIFY}::test_wrong_key_and_high_s_are_a_signature_error",
        ),
    ),
    Mutant(
        "high-s-of-k256",
        "signature",
        "protocol/keys.py",
        """\
        if allow_high_s:
            normalize(context, buffer, buffer)
""",
        """\
        normalize(context, buffer, buffer)
""",
        (
            f"{_SIGNATURES}::test_no_changed_signature_is_taken[k256]",
            f"{_KEYS}::test_high_s_is_refused_unless_allowed[k256]",
            "tests/unit/protocol/test_protocol_label.py::"
            "test_another_key_and_another_form_of_the_signature",
            "tests/unit/protocol/test_protocol_plc_operation.py::"
            "test_a_signature_has_one_text",
        ),
    ),
    Mutant(
        "more-bytes-behind",
        "signature",
        "protocol/keys.py",
        """\
        if len(signature) != SIGNATURE_BYTES:
            return False
        # One buffer a call""",
        """\
        if len(signature) < SIGNATURE_BYTES:
            return False
        # One buffer a call""",
        (
            f"{_SIGNATURES}::test_no_changed_signature_is_taken[k256]",
            f"{_KEYS}::test_other_lengths_and_der_are_refused[k256]",
        ),
    ),
    Mutant(
        "numbers-of-any-length",
        "signature",
        "protocol/keys.py",
        """\
        if len(signature) != SIGNATURE_BYTES:
            return False
        r = number(signature[:32], "big")
""",
        """\
        r = number(signature[:32], "big")
""",
        (f"{_SIGNATURES}::test_no_changed_signature_is_taken[p256]",),
    ),
    Mutant(
        "der-taken",
        "signature",
        "protocol/keys.py",
        """\
        if len(signature) != SIGNATURE_BYTES:
            return False
        r = number(signature[:32], "big")
""",
        """\
        if len(signature) != SIGNATURE_BYTES:
            try:
                check(signature, message, _ES256)
            except InvalidSignature:
                return False
            return True
        r = number(signature[:32], "big")
""",
        (
            f"{_SIGNATURES}::test_no_changed_signature_is_taken[p256]",
            f"{_KEYS}::test_other_lengths_and_der_are_refused[p256]",
        ),
    ),
    Mutant(
        "commit-not-verified",
        "signature",
        "crawler/verify.py",
        """\
    verify_commit_signature(signed, key, commit)

    records: list[RecordOp] = []
""",
        """\
    records: list[RecordOp] = []
""",
        (
            f"{_VERIFY}::test_wrong_key_and_high_s_are_a_signature_error",
            f"{_GATE}::test_bad_signatures_cannot_make_us_ask_more_than_once_a_minute",
        ),
    ),
)

OPERATIONS = (
    Mutant(
        "no-inversion",
        "operations",
        "crawler/verify.py",
        """\
    if prev_data is not None:
        _check_inversion(car, commit, ops, prev_data)
    elif""",
        """\
    if prev_data is not None:
        pass
    elif""",
        (
            f"{_LYING}::test_ten_thousand_lists_that_lie",
            f"{_LYING}::test_prev_data_that_lies",
            f"{_VERIFY}::test_operations_that_lie_are_refused",
            f"{_GATE}::test_lies_about_the_commit_are_counted_by_reason",
        ),
    ),
    Mutant(
        "older-root-not-compared",
        "operations",
        "crawler/verify.py",
        "    if older != prev_data:",
        "    if not older:",
        (
            f"{_LYING}::test_ten_thousand_lists_that_lie",
            f"{_LYING}::test_prev_data_that_lies",
            f"{_LYING}::test_a_birth_with_records_that_are_not_told_of",
        ),
    ),
    Mutant(
        "new-tree-not-asked",
        "operations",
        "protocol/mst/invert.py",
        "        if tree.get(key) != cid:",
        "        if tree.get(key) is None and cid is not None:",
        (
            f"{_LYING}::test_ten_thousand_lists_that_lie",
            f"{_TREES}::test_operations_that_lie_never_give_the_older_root",
        ),
    ),
    Mutant(
        "new-tree-not-asked-in-the-short-way",
        "operations",
        "protocol/mst/splice.py",
        'if not found or level != target or node["e"][index]["v"] != cid:',
        "if not found or level != target:",
        (
            f"{_LYING}::test_ten_thousand_lists_that_lie",
            f"{_VERIFY}::test_operations_that_lie_are_refused",
        ),
    ),
    Mutant(
        "create-with-prev",
        "operations",
        "crawler/verify.py",
        "fits = type(cid) is bytes and prev is None",
        "fits = type(cid) is bytes",
        (
            f"{_LYING}::test_an_operation_under_another_name",
            f"{_VERIFY}::test_operations_that_lie_are_refused",
        ),
    ),
    Mutant(
        "delete-with-cid",
        "operations",
        "crawler/verify.py",
        "fits = cid is None and type(prev) is bytes",
        "fits = type(prev) is bytes",
        (
            f"{_LYING}::test_ten_thousand_lists_that_lie",
            f"{_LYING}::test_an_operation_under_another_name",
        ),
    ),
    Mutant(
        "neighbours-not-looked-at",
        "operations",
        "protocol/mst/invert.py",
        """\
        if prev is None:
            tree.check_neighbours(key)
""",
        "",
        (f"{_TREES}::test_subtree_on_the_wrong_side_of_a_created_key_is_refused",),
    ),
    Mutant(
        "birth-taken-at-its-word",
        "operations",
        "crawler/verify.py",
        "    except (RejectedError, MissingBlockError):\n        return False",
        "    except (RejectedError, MissingBlockError):\n        return True",
        (
            f"{_LYING}::test_a_birth_with_operations_that_are_not_in_it",
            f"{_VERIFY}::test_commit_without_prev_data_proves_no_operations",
        ),
    ),
)

VANISHED = (
    Mutant(
        "resync-deletes-nothing",
        "vanished",
        "indexer/checkout.py",
        "    FULL JOIN staged_record AS staged USING (collection, rkey)",
        "    RIGHT JOIN staged_record AS staged USING (collection, rkey)",
        (
            f"{_VANISHED}::test_shares_that_vanished",
            f"{_CHECKOUT}::test_vanished_records_are_deleted",
            "tests/integration/test_crawl_firehose.py::"
            "test_a_resync_takes_away_what_vanished",
        ),
    ),
    Mutant(
        "resync-keeps-what-was-dropped",
        "vanished",
        "indexer/checkout.py",
        "        delete_dropped_of(conn, actor)\n",
        "",
        (f"{_VANISHED}::test_shares_that_vanished",),
    ),
    Mutant(
        "resync-keeps-an-empty-repo",
        "vanished",
        "indexer/checkout.py",
        "            if not self._fresh:\n                self._apply_difference()\n",
        "            if not self._fresh and self._records:\n"
        "                self._apply_difference()\n",
        (
            f"{_VANISHED}::test_shares_that_vanished",
            f"{_CHECKOUT}::test_vanished_records_are_deleted[100]",
        ),
    ),
    Mutant(
        "resync-keeps-edges",
        "vanished",
        "indexer/checkout.py",
        "                prepared = prepare(changes, self._interner, self._now)\n"
        "                self._stats.add(write(conn, prepared))\n",
        "                prepared = prepare(changes, self._interner, self._now)\n"
        "                write(conn, prepared)\n",
        (
            f"{_VANISHED}::test_shares_that_vanished",
            f"{_CHECKOUT}::test_vanished_records_are_deleted",
        ),
    ),
    Mutant(
        "older-copy-taken",
        "vanished",
        "indexer/checkout.py",
        "        if repo.rev is not None and head.rev < repo.rev:",
        "        if repo.rev is None and head.rev is None:",
        (f"{_CHECKOUT}::test_older_copy_is_refused",),
    ),
)

HOST = (
    Mutant(
        "any-host-speaks-for-anybody",
        "host",
        "crawler/gate.py",
        "return stream.relay or account.pds == stream.hostname",
        "return True",
        (
            f"{_LIARS}::test_of_three_liars_among_twenty_four_hosts_no_row_remains",
            f"{_GATE}::test_a_host_cannot_speak_for_the_accounts_of_another",
            f"{_GATE}::test_a_migration_is_accepted_after_one_refresh",
        ),
    ),
    Mutant(
        "only-admission-asks-for-the-host",
        "host",
        "crawler/gate.py",
        "        if not self._owns(stream, account):",
        "        if not account.admitted and not self._owns(stream, account):",
        (
            f"{_LIARS}::test_of_three_liars_among_twenty_four_hosts_no_row_remains",
            f"{_GATE}::test_a_host_cannot_speak_for_the_accounts_of_another",
        ),
    ),
    Mutant(
        "moves-are-never-seen",
        "host",
        "crawler/gate.py",
        """\
            if self._book.may_refresh(account) and self._may_ask(
                stream, self._doubts, 1.0, 20
            ):
                return _Verdict.REFRESH
""",
        "",
        (
            f"{_LIARS}::test_of_three_liars_among_twenty_four_hosts_no_row_remains",
            f"{_GATE}::test_a_migration_is_accepted_after_one_refresh",
        ),
    ),
    Mutant(
        "listing-taken-at-its-word",
        "host",
        "crawler/listing.py",
        "[account for account in accounts if account.pds == name]",
        "[account for account in accounts if account.pds]",
        (f"{_LIARS}::test_a_host_that_lists_accounts_of_others_brings_none",),
    ),
    Mutant(
        "fetched-repo-not-verified",
        "host",
        "crawler/backfill.py",
        "RepoReader(key, did, store)",
        "RepoReader(None, did, store)",
        (
            f"{_LIARS}::"
            "test_a_repo_that_is_not_what_its_owner_signed_is_not_taken[forged]",
        ),
    ),
    Mutant(
        "repo-of-another-account",
        "host",
        "protocol/repo.py",
        "        if commit.did != self._did:",
        "        if not commit.did:",
        (
            "tests/unit/protocol/test_protocol_repo.py::"
            "test_repo_of_another_account_or_key_is_refused",
        ),
    ),
)

ADDRESS = (
    Mutant(
        "only-private-addresses",
        "address",
        "network/addresses.py",
        "        return not any(address in network for network in _NOT_PUBLIC_V4)",
        "        return not address.is_private",
        (
            f"{_ADDRESSES}::test_refuses",
            f"{_TABLE}::test_no_name_leads_to_a_refused_address",
            f"{_TABLE}::test_of_mixed_answers_only_the_public_address_is_dialled",
        ),
    ),
    Mutant(
        "what-python-calls-global",
        "address",
        "network/addresses.py",
        "    if address.scope_id is not None or address not in _UNICAST_V6:\n"
        "        return False\n"
        "    return not any(address in network for network in _NOT_PUBLIC_V6)",
        "    return address.is_global",
        (
            f"{_ADDRESSES}::test_refuses",
            f"{_TABLE}::test_no_name_leads_to_a_refused_address",
        ),
    ),
    Mutant(
        "carrier-nat",
        "address",
        "network/addresses.py",
        '        "100.64.0.0/10",  # carrier NAT, and one cloud\'s metadata\n',
        "",
        (
            f"{_ADDRESSES}::test_refuses",
            f"{_TABLE}::test_no_name_leads_to_a_refused_address",
        ),
    ),
    Mutant(
        "six-to-four",
        "address",
        "network/addresses.py",
        '        "2002::/16",  # 6to4 wraps any IPv4 address\n',
        "",
        (
            f"{_ADDRESSES}::test_refuses",
            f"{_TABLE}::test_no_name_leads_to_a_refused_address",
        ),
    ),
    Mutant(
        "loopback-always",
        "address",
        "network/addresses.py",
        "is_public_address(text) or (allow_loopback and is_loopback_address(text))",
        "is_public_address(text) or is_loopback_address(text)",
        (
            f"{_ADDRESSES}::test_development_adds_loopback_and_nothing_else",
            f"{_TABLE}::test_no_name_leads_to_a_refused_address",
            f"{_CLIENT}::test_only_checked_addresses_are_dialled",
        ),
    ),
    Mutant(
        "resolver-passes-all",
        "address",
        "network/guarded_connector.py",
        "allowed = [text for text in addresses if self._policy.may_dial(text)]",
        "allowed = list(addresses)",
        (f"{_TABLE}::test_the_resolver_alone_lets_no_refused_address_through",),
    ),
    Mutant(
        "one-good-address-is-enough",
        "address",
        "network/guarded_connector.py",
        "allowed = [text for text in addresses if self._policy.may_dial(text)]",
        "allowed = list(addresses) if any(map(self._policy.may_dial, addresses)) "
        "else []",
        (f"{_TABLE}::test_the_resolver_alone_lets_no_refused_address_through",),
    ),
    Mutant(
        "socket-asks-nobody",
        "address",
        "network/guarded_connector.py",
        "        if not policy.may_dial(str(address[0])):",
        "        if not address[0]:",
        (f"{_CLIENT}::test_the_socket_refuses_what_the_resolver_let_through",),
    ),
)

REPLAY = (
    Mutant(
        "store-says-yes",
        "replay",
        "storage/jti.py",
        "    return cursor.rowcount == 1",
        "    return True",
        (
            f"{_JTI}::test_of_fifty_uses_in_five_processes_one_succeeds",
            f"{_JTI}::test_a_second_use_is_refused",
            f"{_REPLAY}::test_a_token_is_good_once_for_all_processes",
            f"{_REPLAY}::test_of_fifty_requests_with_one_token_one_gets_in",
        ),
    ),
    Mutant(
        "look-then-write",
        "replay",
        "storage/jti.py",
        """\
    cursor = conn.execute(
        "INSERT""",
        """\
    found = conn.execute("SELECT FROM jti WHERE digest = %s", (digest,)).fetchone()
    if found is None:
        conn.execute(
            "INSERT INTO jti (digest, expires_at) VALUES (%s, %s)"
            " ON CONFLICT DO NOTHING",
            (digest, datetime.fromtimestamp(exp, UTC)),
        )
    if exp:
        return found is None
    cursor = conn.execute(
        "INSERT""",
        (f"{_JTI}::test_of_fifty_uses_in_five_processes_one_succeeds",),
    ),
    Mutant(
        "good-ones-forgotten-too",
        "replay",
        "storage/jti.py",
        "DELETE FROM jti WHERE expires_at < %s",
        "DELETE FROM jti WHERE expires_at < %s + interval '1 minute'",
        (f"{_JTI}::test_only_what_expired_is_forgotten",),
    ),
    Mutant(
        "answer-of-the-store-ignored",
        "replay",
        "network/service_authenticator.py",
        "        if not await self._jti_store.use(jwt.iss, jwt.jti, until):",
        "        if await self._jti_store.use(jwt.iss, jwt.jti, until) is None:",
        (
            f"{_SERVICE_AUTH}::test_a_token_is_good_once",
            f"{_SERVICE_AUTH}::test_of_fifty_at_once_one_gets_in",
            f"{_REPLAY}::test_a_token_is_good_once_for_all_processes",
        ),
    ),
    Mutant(
        "forgotten-before-it-expires",
        "replay",
        "network/service_authenticator.py",
        "until = jwt.exp + MAX_CLOCK_SKEW_S",
        "until = jwt.exp",
        (f"{_SERVICE_AUTH}::test_a_token_is_good_once",),
    ),
    Mutant(
        "provider-without-a-store",
        "replay",
        "service/provider.py",
        "        jti_store=ThreadedJtiStore(use_once),\n",
        "",
        (
            f"{_REPLAY}::test_a_token_is_good_once_for_all_processes",
            f"{_REPLAY}::test_of_fifty_requests_with_one_token_one_gets_in",
        ),
    ),
)

MUTANTS = (
    *CURSOR,
    *ENCODING,
    *HASH,
    *SIGNATURE,
    *OPERATIONS,
    *VANISHED,
    *HOST,
    *ADDRESS,
    *REPLAY,
)
