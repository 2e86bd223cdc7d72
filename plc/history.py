"""The history of a did:plc in words: what each operation changed, and who signed it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from plc.operation import LogEntry, format_time
from plc.operation_format import (
    AnyOperation,
    Operation,
    Tombstone,
    find_signer,
    normalize,
)
from protocol.errors import InvalidSignatureError
from protocol.identity.did_document import PDS_SERVICE, SIGNING_KEY

_PDS: Final = PDS_SERVICE.removeprefix("#")
_SIGNING: Final = SIGNING_KEY.removeprefix("#")
_HANDLE: Final = "at://"
_PLACES: Final = ("strongest", "second", "third")


@dataclass(frozen=True, slots=True)
class Step:
    """One operation: its changes in words, and its signer in words."""

    entry: LogEntry
    changes: tuple[str, ...]
    signer: str

    @property
    def time(self) -> str:
        """Return the time at which the directory accepted it."""
        return format_time(self.entry.created_ms)


def tell_history(entries: Sequence[LogEntry]) -> list[Step]:
    """Return the steps of a whole log, nullified ones too, in its order."""
    by_cid = {entry.cid: entry.operation for entry in entries}
    steps = []
    for entry in entries:
        operation = entry.operation
        before = by_cid.get(operation.prev) if operation.prev else None
        changes = tuple(_changes(before, operation))
        steps.append(Step(entry, changes, _signer(before or operation, operation)))
    return steps


def _changes(before: AnyOperation | None, operation: AnyOperation) -> Iterator[str]:
    if isinstance(operation, Tombstone):
        yield "the identity ended"
        return
    state = normalize(operation)
    if before is None or isinstance(before, Tombstone):
        yield "the identity began"
        old = Operation((), {}, (), {}, None)
    else:
        old = normalize(before)
    found = [
        *_names(old.also_known_as, state.also_known_as),
        *_values("server", "service", _PDS, _endpoints(old), _endpoints(state)),
        *_values(
            "signing key",
            "key",
            _SIGNING,
            old.verification_methods,
            state.verification_methods,
        ),
        *_keys(old.rotation_keys, state.rotation_keys),
    ]
    yield from found or ["nothing changed"]


def _names(old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    before, after = _handle(old), _handle(new)
    if before != after:
        yield _change("name", before and f"@{before}", after and f"@{after}")
    others = [{n for n in names if not n.startswith(_HANDLE)} for names in (old, new)]
    for name in sorted(others[1] - others[0]):
        yield f"another name was added: {name}"
    for name in sorted(others[0] - others[1]):
        yield f"another name was removed: {name}"


def _handle(names: Sequence[str]) -> str | None:
    """Return the handle that clients show: the first."""
    first = next((name for name in names if name.startswith(_HANDLE)), None)
    return None if first is None else first.removeprefix(_HANDLE)


def _endpoints(state: Operation) -> dict[str, str]:
    return {name: service.endpoint for name, service in state.services.items()}


def _values(
    title: str, kind: str, main: str, old: Mapping[str, str], new: Mapping[str, str]
) -> Iterator[str]:
    """Yield the changes of named values, of which one has a title of its own."""
    for name in sorted({*old, *new}, key=lambda name: (name != main, name)):
        if old.get(name) != new.get(name):
            shown = title if name == main else f"{kind} #{name}"
            yield _change(shown, old.get(name), new.get(name))


def _change(what: str, old: str | None, new: str | None) -> str:
    if old is None:
        return f"{what}: {new}"
    if new is None:
        return f"{what} was removed: {old}"
    return f"{what} changed from {old} to {new}"


def _keys(old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    for key in new:
        if key not in old:
            yield f"rotation key added, {_place(new.index(key), len(new))}: {key}"
    for key in old:
        if key not in new:
            yield f"rotation key removed: {key}"
    if [k for k in old if k in new] != [k for k in new if k in old]:
        yield f"rotation keys are in another order: {', '.join(new)}"


def _place(place: int, keys: int) -> str:
    if keys == 1:
        return "the only one"
    if place < len(_PLACES):
        return f"the {_PLACES[place]} of {keys}"
    return f"number {place + 1} of {keys}"


def _signer(before: AnyOperation, operation: AnyOperation) -> str:
    if isinstance(before, Tombstone):
        return "signed after the end"
    keys = normalize(before).rotation_keys
    try:
        place = find_signer(operation, keys)
    except InvalidSignatureError:
        place = None
    if place is None:
        return "without a valid signature of a rotation key"
    return f"signed by the rotation key {keys[place]}, {_place(place, len(keys))}"
