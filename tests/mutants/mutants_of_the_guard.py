"""Bugs in the guards: addresses that may be dialled, tokens used once."""

from __future__ import annotations

from mutant import Mutant

_ADDRESSES = "tests/unit/network/http/test_network_addresses.py"
_CLIENT = "tests/unit/network/http/test_network_guard.py"
_JTI = "tests/unit/storage/test_storage_jti.py"
_REPLAY = "tests/unit/service/test_service_tokens.py"
_SERVICE_AUTH = "tests/unit/network/identity/test_network_service_auth.py"
_TABLE = "tests/unit/network/http/test_network_address_table.py"

ADDRESS = (
    Mutant(
        "only-private-addresses",
        "address",
        "network/http/addresses.py",
        "        return not any(address in network for network in _NOT_PUBLIC_V4)",
        "        return not address.is_private",
        (
            f"{_ADDRESSES}::test_refuses",
            f"{_TABLE}::test_no_name_reaches_a_refused_address",
            f"{_TABLE}::test_mixed_lookups_dial_only_public_addresses",
        ),
    ),
    Mutant(
        "what-python-calls-global",
        "address",
        "network/http/addresses.py",
        "    if address.scope_id is not None or address not in _UNICAST_V6:\n"
        "        return False\n"
        "    return not any(address in network for network in _NOT_PUBLIC_V6)",
        "    return address.is_global",
        (
            f"{_ADDRESSES}::test_refuses",
            f"{_TABLE}::test_no_name_reaches_a_refused_address",
        ),
    ),
    Mutant(
        "carrier-nat",
        "address",
        "network/http/addresses.py",
        '        "100.64.0.0/10",  # carrier NAT, and one cloud\'s metadata\n',
        "",
        (
            f"{_ADDRESSES}::test_refuses",
            f"{_TABLE}::test_no_name_reaches_a_refused_address",
        ),
    ),
    Mutant(
        "six-to-four",
        "address",
        "network/http/addresses.py",
        '        "2002::/16",  # 6to4 wraps any IPv4 address\n',
        "",
        (
            f"{_ADDRESSES}::test_refuses",
            f"{_TABLE}::test_no_name_reaches_a_refused_address",
        ),
    ),
    Mutant(
        "loopback-always",
        "address",
        "network/http/addresses.py",
        "is_public_address(text) or (allow_loopback and is_loopback_address(text))",
        "is_public_address(text) or is_loopback_address(text)",
        (
            f"{_ADDRESSES}::test_development_adds_loopback_and_nothing_else",
            f"{_TABLE}::test_no_name_reaches_a_refused_address",
            f"{_CLIENT}::test_only_checked_addresses_are_dialled",
        ),
    ),
    Mutant(
        "resolver-passes-all",
        "address",
        "network/http/guarded_connector.py",
        "allowed = [text for text in addresses if self._policy.may_dial(text)]",
        "allowed = list(addresses)",
        (f"{_TABLE}::test_resolver_returns_no_refused_address",),
    ),
    Mutant(
        "one-good-address-is-enough",
        "address",
        "network/http/guarded_connector.py",
        "allowed = [text for text in addresses if self._policy.may_dial(text)]",
        "allowed = list(addresses) if any(map(self._policy.may_dial, addresses)) "
        "else []",
        (f"{_TABLE}::test_resolver_returns_no_refused_address",),
    ),
    Mutant(
        "socket-asks-nobody",
        "address",
        "network/http/guarded_connector.py",
        "        if not policy.may_dial(str(address[0])):",
        "        if not address[0]:",
        (f"{_CLIENT}::test_socket_refuses_a_bad_address_of_the_resolver",),
    ),
)

REPLAY = (
    Mutant(
        "store-says-yes",
        "replay",
        "storage/repos/jti.py",
        "    return cursor.rowcount == 1",
        "    return True",
        (
            f"{_JTI}::test_of_fifty_uses_in_five_processes_one_succeeds",
            f"{_JTI}::test_a_second_use_is_refused",
            f"{_REPLAY}::test_token_is_accepted_once_by_all_processes",
            f"{_REPLAY}::test_concurrent_requests_with_one_token_are_accepted_once",
        ),
    ),
    Mutant(
        "look-then-write",
        "replay",
        "storage/repos/jti.py",
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
        "storage/repos/jti.py",
        "DELETE FROM jti WHERE expires_at < %s",
        "DELETE FROM jti WHERE expires_at < %s + interval '1 minute'",
        (f"{_JTI}::test_only_expired_tokens_are_deleted",),
    ),
    Mutant(
        "answer-of-the-store-ignored",
        "replay",
        "network/identity/service_authenticator.py",
        "        if not first:",
        "        if first is None:",
        (
            f"{_SERVICE_AUTH}::test_token_is_accepted_once",
            f"{_SERVICE_AUTH}::test_concurrent_uses_of_a_token_succeed_once",
            f"{_REPLAY}::test_token_is_accepted_once_by_all_processes",
        ),
    ),
    Mutant(
        "forgotten-before-it-expires",
        "replay",
        "network/identity/service_authenticator.py",
        "until = math.ceil(jwt.exp)",
        "until = int(self._now())",
        (f"{_SERVICE_AUTH}::test_token_is_accepted_once",),
    ),
    Mutant(
        "provider-without-a-store",
        "replay",
        "service/provider.py",
        "        jti_store=ThreadedJtiStore("
        "use_once, threads, shared=app.shared_buckets),\n",
        "",
        (
            f"{_REPLAY}::test_token_is_accepted_once_by_all_processes",
            f"{_REPLAY}::test_concurrent_requests_with_one_token_are_accepted_once",
        ),
    ),
)
