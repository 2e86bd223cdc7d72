"""Bugs in what the provider shows: labels, takedowns, private state, notifications."""

from __future__ import annotations

from mutant import Mutant

_COUNTED_ONCE = "tests/unit/indexer/test_indexer_counted_once.py"
_DISTANT = "tests/unit/indexer/notifications/test_indexer_distant_replies.py"
_LABEL_STREAM = "tests/unit/labels/test_labels_stream.py"
_NOTICE_AUDIT = "tests/unit/audit/test_indexer_notice_audit.py"
_NOTICES = "tests/unit/indexer/notifications/test_indexer_notices.py"
_NOTIFICATIONS = "tests/unit/appview/private/test_appview_notifications.py"
_PAGES_OF_ONE = (
    "tests/unit/appview/strangers/test_appview_pages_of_one.py"
    "::test_pages_of_one_hold_every_item_once"
)
_PRIVATE_ITEMS = "tests/unit/appview/private/test_appview_private_items.py"
_READ_AFTER_WRITE = "tests/integration/pds/test_pds_read_after_write.py"
_SCENARIOS = "tests/unit/labels/test_labels_scenarios.py"
_SEALING = "tests/unit/storage/private/test_storage_sealing.py"
_TAKEN_DOWN = "tests/unit/labels/test_labels_taken_down.py"
_VIEWS = "tests/unit/appview/test_appview_views.py"

LABEL = (
    Mutant(
        "negation-ignored",
        "label",
        "appview/hydration/labels.py",
        " AND NOT l.neg AND ",
        " AND ",
        (
            f"{_SCENARIOS}::test_a_negation_ends_a_label",
            f"{_SCENARIOS}::test_equal_times_let_the_negation_win_in_both_orders",
            f"{_SCENARIOS}::test_a_redaction_ends_with_its_negation",
        ),
    ),
    Mutant(
        "expired-labels-shown",
        "label",
        "appview/hydration/labels.py",
        " AND (l.exp IS NULL OR l.exp > now())",
        "",
        (
            f"{_SCENARIOS}::test_an_expired_label_is_not_shown",
            f"{_SCENARIOS}::test_an_older_label_does_not_prolong_a_newer_one",
        ),
    ),
    Mutant(
        "label-of-another-source",
        "label",
        "labels/signed_label.py",
        '    if fields.get("src") != src:',
        '    if fields.get("src") is None:',
        (
            f"{_SCENARIOS}::test_a_labeler_cannot_speak_for_another",
            f"{_LABEL_STREAM}"
            "::test_faulty_labels_are_counted_and_spare_their_neighbors",
        ),
    ),
    Mutant(
        "signature-of-labels-not-verified",
        "label",
        "labels/label_stream.py",
        "signed = key is not None and label.is_signed_by(key)",
        "signed = key is not None",
        (
            f"{_SCENARIOS}::test_a_changed_label_is_not_believed",
            f"{_LABEL_STREAM}"
            "::test_faulty_labels_are_counted_and_spare_their_neighbors",
        ),
    ),
    Mutant(
        "last-label-wins",
        "label",
        "labels/label_rows.py",
        "            > (label.cts, label.neg, label.raw)",
        "            IS NOT NULL",
        (
            f"{_SCENARIOS}::test_a_replayed_message_changes_nothing",
            f"{_LABEL_STREAM}::test_every_order_of_labels_gives_the_same_result",
        ),
    ),
)

TAKEDOWN = (
    Mutant(
        "taken-down-posts-in-search",
        "takedown",
        "appview/rules.py",
        "    Place.POST: _rules(Effect.HIDE, *_NO_RECORD, Condition.VIEWER_BLOCK),",
        "    Place.POST: _rules("
        "Effect.HIDE, Condition.MISSING, *_GONE, Condition.VIEWER_BLOCK),",
        (f"{_TAKEN_DOWN}::test_records_that_are_taken_down_are_in_no_answer",),
    ),
    Mutant(
        "taken-down-accounts-shown",
        "takedown",
        "appview/rule_checks.py",
        "        or actor.did in state.session.taken_down.accounts\n",
        "",
        (f"{_TAKEN_DOWN}::test_an_account_that_is_taken_down_is_in_no_answer",),
    ),
    Mutant(
        "taken-down-pictures-shown",
        "takedown",
        "appview/views/blob_url.py",
        "    if cid is None or state.session.taken_down.has_blob(actor.did, cid):",
        "    if cid is None:",
        (f"{_TAKEN_DOWN}::test_blobs_that_are_taken_down_are_in_no_view",),
    ),
)

PRIVATE = (
    Mutant(
        "private-items-in-plain",
        "private",
        "storage/private/sealing.py",
        "return nonce + self._cipher.encrypt(nonce, orjson.dumps(value), place)",
        "return nonce + place + orjson.dumps(value)",
        (
            f"{_PRIVATE_ITEMS}::test_nothing_is_readable_in_the_database",
            f"{_SEALING}::test_sealed_value_opens_only_in_its_row",
        ),
    ),
    Mutant(
        "accounts-named-in-plain",
        "private",
        "storage/private/sealing.py",
        '        digest = hmac.digest(self._account_key, did.encode(), "sha256")\n',
        "        digest = did.encode()\n",
        (f"{_PRIVATE_ITEMS}::test_nothing_is_readable_in_the_database",),
    ),
    Mutant(
        "one-key-of-subjects",
        "private",
        "storage/private/sealing.py",
        'b"subjects of " + self.id',
        'b"subjects of all"',
        (f"{_SEALING}::test_subjects_of_two_accounts_differ",),
    ),
    Mutant(
        "sealed-value-in-any-row",
        "private",
        "storage/private/sealing.py",
        'return b"%s %d %d" % (self.id, kind, subject)',
        "return self.id",
        (f"{_SEALING}::test_sealed_value_opens_only_in_its_row",),
    ),
)

NOTICE = (
    Mutant(
        "own-records-notify",
        "notice",
        "appview/skeletons/notifications.py",
        "WHERE {where} AND l.actor <> %(me)s {_bounds(reason, after, since)}",
        "WHERE {where} {_bounds(reason, after, since)}",
        (f"{_NOTIFICATIONS}::test_every_reason_is_listed_once",),
    ),
    Mutant(
        "second-like-notifies",
        "notice",
        "indexer/row_writes.py",
        "for partition in prepared.links.keys() & COUNTED_ONCE.keys():",
        "for partition in prepared.links.keys() & COUNTED_ONCE.values():",
        (
            f"{_NOTICES}::test_second_like_of_an_account_is_no_second_notice",
            f"{_COUNTED_ONCE}::test_account_counts_once",
            f"{_COUNTED_ONCE}::test_fetched_repos_count_once",
        ),
    ),
    Mutant(
        "replayed-commit-notifies-again",
        "notice",
        "storage/records/removed_verifications.py",
        "    if written:\n",
        "    if not written:\n",
        (
            f"{_DISTANT}::test_removed_verification_is_noted_until_it_is_back",
            f"{_NOTICES}::test_deleted_records_take_their_notices_along",
            f"{_NOTICE_AUDIT}::test_noted_end_of_a_verification_that_is_there_is_found",
        ),
    ),
    Mutant(
        "late-posts-notify-nobody-above",
        "notice",
        "storage/records/distant_replies.py",
        "    for _ in range(_LEVELS_BELOW):",
        "    for _ in range(0):",
        (
            f"{_DISTANT}::test_deleted_post_ends_the_rows_through_it_until_it_is_back",
            f"{_DISTANT}::test_edited_reply_moves_the_rows_below_it",
        ),
    ),
    Mutant(
        "notices-of-one-moment-lost-between-pages",
        "notice",
        "appview/skeletons/notifications.py",
        'sign = "<=" if SLOT_OF[reason] < after[3] else "<"',
        'sign = "<"',
        (f"{_PAGES_OF_ONE}[app.bsky.notification.listNotifications]",),
    ),
    Mutant(
        "distant-replies-compared-before-the-drain",
        "notice",
        "storage/records/distant_replies.py",
        "    WHERE (w.actor, w.rkey) NOT IN (SELECT actor, rkey FROM waiting)\n",
        "",
        (f"{_NOTICE_AUDIT}::test_replies_below_a_waiting_post_are_not_compared",),
    ),
)

WRITE = (
    Mutant(
        "records-of-the-same-revision-added",
        "write",
        "pds/read_after_write/local_records.py",
        "WHERE account = %(account)s AND rev > %(rev)s",
        "WHERE account = %(account)s AND rev >= %(rev)s",
        (f"{_READ_AFTER_WRITE}::test_indexer_that_is_not_behind_is_passed_through",),
    ),
    Mutant(
        "oldest-records-added",
        "write",
        "pds/read_after_write/local_records.py",
        "ORDER BY recent.rev DESC, r.path DESC LIMIT",
        "ORDER BY recent.rev, r.path LIMIT",
        (f"{_READ_AFTER_WRITE}::test_only_the_newest_posts_are_shown",),
    ),
    Mutant(
        "revision-that-is-not-stored-yet",
        "write",
        "appview/session.py",
        '"SELECT a.id, r.rev FROM actor a',
        "\"SELECT a.id, coalesce(r.upstream_rev, '3zzzzzzzzzz2z') FROM actor a",
        (f"{_VIEWS}::test_errors_carry_the_headers_of_answers",),
    ),
)
