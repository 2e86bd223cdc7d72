"""Who lives in the demo network."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from demo.phrases import SPEECHES, TOPICS, Speech
from demo.plan import Person

# The accounts that people are told about; everybody else is company.
DEMO = (
    ("alice", "Alice", "en", 0),
    ("bob", "Bob", "en", 1),
    ("carla", "Carla", "es", 0),
    ("daiki", "大輝", "ja", 1),
)


def gather_people(rng: random.Random, domains: Sequence[str]) -> list[Person]:
    """The demo accounts first, then 27 speakers of each language.

    `domains` are the handle suffixes of the servers (".a.test"); people are spread
    evenly over them. A few people weigh much more than the rest, as everywhere.
    """
    people: list[Person] = []
    for stem, name, code, server in DEMO:
        speech = next(speech for speech in SPEECHES if speech.code == code)
        home = server % len(domains)
        people.append(_person(rng, len(people), stem, name, speech, home, domains, 9.0))
    for speech in SPEECHES:
        for stem, name in _names(speech):
            number = len(people)
            weight = rng.paretovariate(1.3)
            server = number % len(domains)
            people.append(
                _person(rng, number, stem, name, speech, server, domains, weight)
            )
    return people


def _names(speech: Speech) -> Iterator[tuple[str, str]]:
    for family_stem, family in speech.family:
        for given_stem, given in speech.given:
            ordered = (family, given) if speech.family_first else (given, family)
            joint = "" if speech.code == "ko" else " "
            yield f"{given_stem}-{family_stem}", joint.join(ordered)


def _person(
    rng: random.Random,
    number: int,
    stem: str,
    name: str,
    speech: Speech,
    server: int,
    domains: Sequence[str],
    weight: float,
) -> Person:
    topic, other = rng.sample(TOPICS, 2)
    return Person(
        number=number,
        handle=stem + domains[server],
        display_name=name,
        speech=speech,
        topic=topic,
        other_topic=other,
        server=server,
        weight=min(weight, 12.0),
    )
