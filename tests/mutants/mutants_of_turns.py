"""Bugs by which lookups for one host delay the frames of others."""

from __future__ import annotations

from mutant import Mutant

_GATE = "tests/integration/live/test_crawl_gate.py"
_LATE = "tests/unit/crawler/identities/test_crawler_late_domains.py"
_LOOKUPS = "tests/unit/crawler/identities/test_crawler_lookups.py"
_PARKING = "tests/unit/crawler/live/test_crawler_parking.py"
_SLOTS = "tests/unit/storage/test_storage_identity_slots.py"
_NAMES = "tests/unit/network/http/test_network_guarded_connector.py"
_PITS = "tests/integration/live/test_crawl_tar_pits.py"

TURN = (
    Mutant(
        "all-stop-for-anybody",
        "turn",
        "crawler/live/parking.py",
        'return frame.stream.trusted and did_method(frame.did) == "plc"',
        "return True",
        (
            f"{_GATE}::test_whoever_names_whom_nobody_answers_for_stops_nobody_else",
            f"{_GATE}::test_large_frames_that_wait_cost_their_own_host",
            f"{_PITS}::test_domains_that_never_answer_keep_no_honest_host_waiting",
        ),
    ),
    Mutant(
        "all-stop-for-whom-the-trusted-name",
        "turn",
        "crawler/live/parking.py",
        'return frame.stream.trusted and did_method(frame.did) == "plc"',
        "return frame.stream.trusted",
        (f"{_PARKING}::test_through_a_trusted_host_too_domains_keep_nobody_waiting",),
    ),
    Mutant(
        "any-number-of-accounts-waits",
        "turn",
        "crawler/live/parking.py",
        "return len(self._share_of(frame).accounts) < most",
        "return True",
        (
            f"{_GATE}::test_whoever_names_whom_nobody_answers_for_stops_nobody_else",
            f"{_PARKING}::test_a_host_has_so_many_accounts_waiting_and_no_more",
        ),
    ),
    Mutant(
        "any-bytes-wait",
        "turn",
        "crawler/live/gate.py",
        "for frame in self._parking.shed():",
        "for frame in ():",
        (f"{_GATE}::test_large_frames_that_wait_cost_their_own_host",),
    ),
    Mutant(
        "who-has-least-gives-up",
        "turn",
        "crawler/live/parking.py",
        "max(self._others.values(), key=lambda share: share.size)",
        "min(self._others.values(), key=lambda share: share.size or 1 << 62)",
        (
            f"{_GATE}::test_large_frames_that_wait_cost_their_own_host",
            f"{_PARKING}::test_who_has_most_gives_up_what_he_said_last",
        ),
    ),
    Mutant(
        "whoever-asked-first-is-waited-for",
        "turn",
        "crawler/live/gate.py",
        "if not self._parking.has_asked(message):",
        "if message.did not in self._parking:",
        (f"{_GATE}::test_what_a_liar_asked_first_is_asked_for_its_host_too",),
    ),
    Mutant(
        "given-up-and-fetched",
        "turn",
        "crawler/live/gate.py",
        "if account is None or self._owns(message.stream, account):",
        "if True:",
        (
            f"{_GATE}"
            "::test_frames_given_up_bring_no_doubt_on_the_account_of_another_host",
        ),
    ),
    Mutant(
        "domains-before-the-directory",
        "turn",
        "crawler/identities/lookups.py",
        'turns = self._directory if did_method(did) == "plc" else self._domains',
        "turns = self._domains",
        (f"{_LOOKUPS}::test_who_waits_for_domains_that_never_answer_waits_alone",),
    ),
    Mutant(
        "any-slots-for-one-host",
        "turn",
        "crawler/identities/turns.py",
        "if self._in_use[host] >= self._per_host:",
        "if False:",
        (
            f"{_LOOKUPS}::test_who_waits_for_domains_that_never_answer_waits_alone",
            f"{_PITS}::test_domains_that_never_answer_keep_no_honest_host_waiting",
        ),
    ),
    Mutant(
        "the-late-take-all-slots",
        "turn",
        "crawler/identities/turns.py",
        "return host not in self._late or self._free_to_late > 0",
        "return True",
        (
            f"{_LATE}::test_hosts_whose_domains_never_answer_hold_others_up_once",
            f"{_SLOTS}::test_slow_hosts_get_half",
        ),
    ),
    Mutant(
        "as-long-as-it-takes",
        "turn",
        "crawler/identities/lookups.py",
        "patience = self._patience if domain and not turn.late else None",
        "patience = None",
        (f"{_LATE}::test_hosts_whose_domains_never_answer_hold_others_up_once",),
    ),
    Mutant(
        "no-turns-at-the-directory",
        "turn",
        "crawler/identities/turns.py",
        "        self._lanes.move_to_end(host)\n",
        "",
        (f"{_LOOKUPS}::test_at_the_directory_hosts_take_turns",),
    ),
    Mutant(
        "names-that-hang-take-all-threads",
        "turn",
        "network/http/guarded_connector.py",
        "_DNS_THREADS: Final = 256",
        "_DNS_THREADS: Final = 64",
        (f"{_NAMES}::test_names_that_hang_do_not_keep_others_from_their_addresses",),
    ),
)
