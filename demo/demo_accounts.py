"""Accounts of the demo network."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from demo.phrases import LANGUAGES, TOPICS, Language
from demo.plan import DemoAccount

# Accounts whose passwords are printed; all others only fill the network.
DEMO = (
    ("alice", "Alice", "en", 0),
    ("bob", "Bob", "en", 1),
    ("carla", "Carla", "es", 0),
    ("daiki", "大輝", "ja", 1),
)


def make_accounts(rng: random.Random, domains: Sequence[str]) -> list[DemoAccount]:
    """Return the demo accounts, then 27 accounts of each language.

    They are spread evenly over `domains`, the handle suffixes of the servers.
    A few accounts are much more popular than the rest.
    """
    accounts: list[DemoAccount] = []
    for stem, name, code, server in DEMO:
        language = next(language for language in LANGUAGES if language.code == code)
        home = server % len(domains)
        accounts.append(
            _make_account(rng, len(accounts), stem, name, language, home, domains, 9.0)
        )
    for language in LANGUAGES:
        for stem, name in _names(language):
            number = len(accounts)
            weight = rng.paretovariate(1.3)
            server = number % len(domains)
            accounts.append(
                _make_account(
                    rng, number, stem, name, language, server, domains, weight
                )
            )
    return accounts


def _names(language: Language) -> Iterator[tuple[str, str]]:
    for family_stem, family in language.family:
        for given_stem, given in language.given:
            ordered = (family, given) if language.family_first else (given, family)
            joint = "" if language.code == "ko" else " "
            yield f"{given_stem}-{family_stem}", joint.join(ordered)


def _make_account(
    rng: random.Random,
    number: int,
    stem: str,
    name: str,
    language: Language,
    server: int,
    domains: Sequence[str],
    weight: float,
) -> DemoAccount:
    topic, other = rng.sample(TOPICS, 2)
    return DemoAccount(
        number=number,
        handle=stem + domains[server],
        display_name=name,
        language=language,
        topic=topic,
        other_topic=other,
        server=server,
        weight=min(weight, 12.0),
    )
