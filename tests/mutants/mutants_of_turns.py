"""Bugs by which one host's lookups keep the accounts of all others waiting."""

from __future__ import annotations

from mutant import Mutant

_GATE_LIMITS = "tests/integration/live/test_crawl_gate_limits.py"
_GATE_KEYS = "tests/integration/live/test_crawl_gate_keys.py"
_GATE_HOSTS = "tests/integration/live/test_crawl_gate_hosts.py"
_SLOTS = "tests/unit/crawler/identities/test_crawler_fair_slots.py"
_JOBS = "tests/unit/storage/test_storage_identity_slots.py"
_NAMES = "tests/unit/network/http/test_network_guarded_connector.py"

TURN = (
    Mutant(
        "any-number-of-lookups",
        "turn",
        "crawler/live/gate.py",
        "        return bucket.take()\n",
        "        return True\n",
        (
            f"{_GATE_LIMITS}::test_an_untrusted_host_brings_few_accounts_and_few_lookups",
            f"{_GATE_KEYS}::test_one_host_cannot_make_us_refresh_the_keys_of_many",
        ),
    ),
    Mutant(
        "first-namer-only",
        "turn",
        "storage/jobs.py",
        "payload = job.payload || excluded.payload || '{\"again\": true}'",
        "payload = job.payload || '{\"again\": true}'",
        (
            f"{_GATE_HOSTS}::test_account_named_by_a_wrong_host_first_is_resolved_for_its_host",
        ),
    ),
    Mutant(
        "any-namer-admits",
        "turn",
        "storage/hosts/host_rows.py",
        "WHERE id = ANY(%s) AND (relay OR hostname = %s)",
        "WHERE id = ANY(%s) AND (true OR hostname = %s)",
        (f"{_GATE_HOSTS}::test_wrong_host_alone_admits_no_account",),
    ),
    Mutant(
        "any-slots-for-one-host",
        "turn",
        "crawler/identities/fair_slots.py",
        "if self._in_use[host] >= self._per_host:",
        "if False:",
        (f"{_SLOTS}::test_slots_per_host_are_bounded",),
    ),
    Mutant(
        "slow-hosts-take-all-slots",
        "turn",
        "crawler/identities/fair_slots.py",
        "return host not in self._slow or self._free_to_slow > 0",
        "return True",
        (
            f"{_SLOTS}::test_slow_hosts_share_half_of_the_slots",
            f"{_JOBS}::test_slow_hosts_get_half",
        ),
    ),
    Mutant(
        "no-turns",
        "turn",
        "crawler/identities/fair_slots.py",
        "        self._lanes.move_to_end(host)\n",
        "",
        (f"{_SLOTS}::test_slots_hosts_take_turns_in_order",),
    ),
    Mutant(
        "names-that-hang-take-all-threads",
        "turn",
        "network/http/guarded_connector.py",
        "_DNS_THREADS: Final = 256",
        "_DNS_THREADS: Final = 64",
        (f"{_NAMES}::test_hanging_lookups_do_not_block_other_names",),
    ),
)
