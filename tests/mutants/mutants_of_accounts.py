"""Bugs in the authority over accounts, and in hiding them."""

from __future__ import annotations

from mutant import Mutant

_EVENTS = "tests/unit/indexer/repos/test_indexer_checkout_events.py"
_SEARCH_SYNC = "tests/unit/indexer/test_indexer_search_drain.py"
_ACCOUNTS = "tests/unit/indexer/test_indexer_accounts.py"
_APPLY = "tests/unit/indexer/test_indexer_apply.py"
_DELETION = "tests/integration/repos/test_crawl_deletion.py"
_GATE_HOSTS = "tests/integration/live/test_crawl_gate_hosts.py"
_IDENTITIES = "tests/integration/live/test_crawl_identities.py"
_LIARS = "tests/integration/live/test_crawl_liars.py"
_TABLE_OF_SYNC = "tests/integration/live/test_sync_table.py"

HOST = (
    Mutant(
        "any-host-speaks-for-anybody",
        "host",
        "crawler/identities/accounts.py",
        "return relay or self.pds == hostname",
        "return True",
        (
            f"{_LIARS}::test_three_hostile_hosts_among_twenty_four_leave_no_row",
            f"{_GATE_HOSTS}::test_a_host_cannot_speak_for_the_accounts_of_another",
            f"{_GATE_HOSTS}::test_a_migration_is_accepted_after_one_refresh",
        ),
    ),
    Mutant(
        "only-admission-asks-for-the-host",
        "host",
        "crawler/live/decide.py",
        "    if not account.belongs_to(stream.hostname, relay=stream.relay):",
        "    if not account.admitted and stream.hostname != account.pds:",
        (
            f"{_LIARS}::test_three_hostile_hosts_among_twenty_four_leave_no_row",
            f"{_GATE_HOSTS}::test_a_host_cannot_speak_for_the_accounts_of_another",
        ),
    ),
    Mutant(
        "moves-are-never-seen",
        "host",
        "crawler/live/decide.py",
        """\
        return Drop(DropReason.WRONG_HOST, look_up=True)
    if not account.admitted:
""",
        """\
        return Drop(DropReason.WRONG_HOST)
    if not account.admitted:
""",
        (
            f"{_LIARS}::test_three_hostile_hosts_among_twenty_four_leave_no_row",
            f"{_GATE_HOSTS}::test_a_migration_is_accepted_after_one_refresh",
        ),
    ),
    Mutant(
        "listing-taken-at-its-word",
        "host",
        "crawler/hosts/listing.py",
        "[account for account in accounts if account.pds == name]",
        "[account for account in accounts if account.pds]",
        (f"{_LIARS}::test_listing_of_foreign_accounts_admits_none",),
    ),
    Mutant(
        "fetched-repo-not-verified",
        "host",
        "crawler/repos/repo_import.py",
        "RepoReader(key, did, time.time_ns() // 1_000, store)",
        "RepoReader(None, did, time.time_ns() // 1_000, store)",
        (f"{_LIARS}::test_repo_not_signed_by_its_owner_is_refused[forged]",),
    ),
    Mutant(
        "repo-of-another-account",
        "host",
        "protocol/repo/commit.py",
        "    if commit.did != did:\n",
        "    if not commit.did:\n",
        (
            "tests/unit/crawler/repos/test_crawler_sparse.py::"
            "test_the_commit_must_be_of_the_account",
            "tests/unit/protocol/repo/test_protocol_repo.py::"
            "test_repo_of_another_account_or_key_is_refused",
        ),
    ),
)

ACCOUNT = (
    Mutant(
        "the-inactive-write-on",
        "account",
        "indexer/batch.py",
        "        if not repo.active:\n"
        "            self._ignore(event, DropReason.INACTIVE_ACCOUNT)\n"
        "        elif repo.rev is not None and event.rev <= repo.rev:\n"
        "            self._ignore",
        "        if repo.rev is not None and event.rev <= repo.rev:\n"
        "            self._ignore",
        (
            f"{_TABLE_OF_SYNC}::test_row[account:deactivated]",
            f"{_APPLY}::test_inactive_account",
        ),
    ),
    Mutant(
        "back-and-not-fetched",
        "account",
        "indexer/batch.py",
        "                if repo.active and repo.state != REPO_DESYNCHRONIZED:\n",
        "                if repo.active and repo.state is None:\n",
        (
            f"{_TABLE_OF_SYNC}::test_row[account:back-again]",
            f"{_APPLY}::test_inactive_account",
        ),
    ),
    Mutant(
        "an-old-word-overrules",
        "account",
        "indexer/batch.py",
        "if event.asked_at is not None and actor in self._overtaken:",
        "if actor < 0:",
        (
            f"{_APPLY}::test_newer_account_event_overrules_reply",
            f"{_DELETION}::test_older_listing_does_not_override_an_event[gone]",
            f"{_DELETION}::test_older_listing_does_not_override_an_event[back]",
        ),
    ),
    Mutant(
        "unknown-words-show",
        "account",
        "indexer/account.py",
        "    return UNKNOWN_INACTIVE\n",
        "    return STATUS_ACTIVE\n",
        (
            f"{_TABLE_OF_SYNC}::test_row[account:inactive-by-an-unknown-word]",
            f"{_TABLE_OF_SYNC}::test_row[account:inactive-without-a-word]",
            f"{_APPLY}::test_unknown_status_is_inactive",
        ),
    ),
    Mutant(
        "the-word-beats-the-flag",
        "account",
        "indexer/account.py",
        "    if active:\n        return STATUS_ACTIVE\n    if status in",
        "    if active and status is None:\n"
        "        return STATUS_ACTIVE\n"
        "    if status in",
        (
            f"{_TABLE_OF_SYNC}::test_row[account:active-and-throttled]",
            f"{_TABLE_OF_SYNC}::test_row[account:active-and-deleted]",
        ),
    ),
    Mutant(
        "the-throttled-are-shown",
        "account",
        "appview/hydration/actors.py",
        "self.upstream_status == STATUS_ACTIVE",
        'self.upstream_status in (STATUS_ACTIVE, "throttled")',
        (f"{_DELETION}::test_inactive_account_is_shown_nowhere[throttled]",),
    ),
    Mutant(
        "our-takedown-not-asked",
        "account",
        "appview/hydration/actors.py",
        "            and self.takedown is None\n",
        "",
        (f"{_DELETION}::test_local_takedown_is_independent_of_the_host",),
    ),
    Mutant(
        "upstream-lifts-our-takedown",
        "account",
        "indexer/account.py",
        "UPDATE actor SET upstream_status = d.status\n",
        "UPDATE actor SET upstream_status = d.status, takedown = NULL\n",
        (
            f"{_TABLE_OF_SYNC}::test_row[account:taken-down-by-ourselves]",
            f"{_APPLY}::test_local_takedown_is_another_column",
        ),
    ),
    Mutant(
        "search-keeps-who-went",
        "account",
        "search/drain.py",
        " or not accounts[a].shown}",
        "}",
        (
            f"{_SEARCH_SYNC}::test_hidden_accounts_return",
            f"{_DELETION}::test_inactive_account_is_shown_nowhere[deleted]",
        ),
    ),
    Mutant(
        "search-is-not-told",
        "account",
        "indexer/account.py",
        "(actor, NO_COLLECTION, NO_RKEY) for actor, _ in rows])",
        "(actor, NO_COLLECTION, NO_RKEY) for actor, _ in rows[:0]])",
        (f"{_DELETION}::test_inactive_account_is_shown_nowhere[deleted]",),
    ),
    Mutant(
        "forgotten-without-asking",
        "account",
        "indexer/account.py",
        "    if row is None or row[0] != STATUS_DELETED:\n",
        "    if row is None:\n",
        (
            f"{_ACCOUNTS}::test_purge_needs_a_deletion",
            f"{_ACCOUNTS}::test_deletions_are_done_once",
        ),
    ),
    Mutant(
        "never-forgotten",
        "account",
        "indexer/account.py",
        "    put_jobs(conn, PURGE_JOB, deleted)\n",
        "",
        (
            f"{_ACCOUNTS}::test_deletions_are_done_once",
            f"{_DELETION}::test_large_account_is_purged_in_bounded_steps",
        ),
    ),
    Mutant(
        "forgotten-in-one-step",
        "account",
        "indexer/account.py",
        "_PURGE_ROWS: Final = 2_000",
        "_PURGE_ROWS: Final = 2_000_000",
        (f"{_DELETION}::test_large_account_is_purged_in_bounded_steps",),
    ),
    Mutant(
        "fetched-back-from-the-dead",
        "account",
        "indexer/repos/checkout.py",
        "        if repo.status == STATUS_DELETED:\n",
        "        if repo.status is None:\n",
        (f"{_EVENTS}::test_deleted_account_is_not_brought_back",),
    ),
    Mutant(
        "tombstones-not-seen",
        "account",
        "crawler/identities/account_lookups.py",
        "        if looked_up.gone:\n",
        "        if looked_up.document is not None and looked_up.gone:\n",
        (f"{_TABLE_OF_SYNC}::test_row[host:a-did-given-up]",),
    ),
    Mutant(
        "memory-settles-doubts",
        "account",
        "crawler/identities/identity_jobs.py",
        "        if not job.doubted:\n",
        "        if job.doubted is not None:\n",
        (f"{_IDENTITIES}::test_cached_document_does_not_settle_a_refresh",),
    ),
)
