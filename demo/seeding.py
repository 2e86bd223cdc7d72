"""Carry a planned society out on real servers, over XRPC like any other client.

Idempotent: records have planned keys, so a second run writes only what is missing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from demo.plan import (
    Address,
    Draft,
    Json,
    Person,
    Society,
    fill_in,
    pictures_in,
)
from network.errors import NetworkError, RateLimitedError, XrpcError
from network.http.client import Fetcher
from network.xrpc.client import XrpcClient

# Lexicon com.atproto.repo.applyWrites: at most 200 writes a call.
MAX_WRITES = 200
_AT_ONCE = 6
_PAGE = 100
_LONGEST_PAUSE_S = 60.0
_SERVER_ERROR = 500

CREATE_ACCOUNT = "com.atproto.server.createAccount"
CREATE_SESSION = "com.atproto.server.createSession"
DESCRIBE_SERVER = "com.atproto.server.describeServer"
APPLY_WRITES = "com.atproto.repo.applyWrites"
LIST_RECORDS = "com.atproto.repo.listRecords"
DESCRIBE_REPO = "com.atproto.repo.describeRepo"
UPLOAD_BLOB = "com.atproto.repo.uploadBlob"
HANDLE_TAKEN = "HandleNotAvailable"

Progress = Callable[[str, int, int], None]
Say = Callable[[str], None]


class SeedingError(Exception):
    """The demo network could not be filled. `may_retry`: another run may succeed."""

    def __init__(self, message: str, *, may_retry: bool) -> None:
        super().__init__(message)
        self.may_retry = may_retry


@dataclass(slots=True)
class _Member:
    """A person with an account: its client, DID and records written so far."""

    person: Person
    client: XrpcClient
    did: str
    written: dict[tuple[str, str], str]
    blobs: dict[bytes, Json]
    say: Say


async def handle_domains(fetcher: Fetcher, servers: Sequence[str]) -> tuple[str, ...]:
    """The first handle suffix that each server gives names under."""
    domains = []
    try:
        for server in servers:
            answer = await XrpcClient(fetcher, server).query(DESCRIBE_SERVER)
            domains.append(str(answer["availableUserDomains"][0]))
    except (NetworkError, XrpcError) as error:
        raise _describe("a demo PDS does not answer", error) from error
    return tuple(domains)


async def settle(
    society: Society,
    fetcher: Fetcher,
    servers: Sequence[str],
    password: str,
    progress: Progress,
    say: Say = lambda _: None,
) -> dict[int, str]:
    """Create the accounts and write everything; returns person -> DID.

    `servers` are the origins of the PDSes, in the order that the plan numbers them.
    `progress(what, done, total)` is called after every step, `say` before a pause. A
    server that asks to wait is waited for. Raises SeedingError for what another run
    may do: it goes on where this one stopped.
    """
    try:
        members = await _open_accounts(
            society, fetcher, servers, password, progress, say
        )
        await _write_everything(society, members, progress)
    except (NetworkError, XrpcError) as error:
        raise _describe("the demo network is not filled yet", error) from error
    return {number: member.did for number, member in members.items()}


async def _open_accounts(
    society: Society,
    fetcher: Fetcher,
    servers: Sequence[str],
    password: str,
    progress: Progress,
    say: Say,
) -> dict[int, _Member]:
    members: dict[int, _Member] = {}

    async def open_one(person: Person) -> None:
        server = servers[person.server]
        member = await _enter(fetcher, server, person, password, say)
        members[person.number] = member
        progress("accounts", len(members), len(society.people))

    await _each(society.people, open_one)
    return members


async def _enter(
    fetcher: Fetcher, server: str, person: Person, password: str, say: Say
) -> _Member:
    """Create the account, or log in where an earlier run created it."""
    client = XrpcClient(fetcher, server)
    account = {
        "handle": person.handle,
        "email": f"{person.handle.partition('.')[0]}@example.com",
        "password": password,
    }
    existed = False
    try:
        session = await _obey(lambda: client.procedure(CREATE_ACCOUNT, account), say)
    except XrpcError as error:
        if error.name != HANDLE_TAKEN:
            raise
        existed = True
        login = {"identifier": person.handle, "password": password}
        session = await _obey(lambda: client.procedure(CREATE_SESSION, login), say)
    signed_in = XrpcClient(fetcher, server, auth=session["accessJwt"])
    member = _Member(person, signed_in, session["did"], {}, {}, say)
    if existed:
        member.written = {key: cid async for key, cid in _written(member)}
    return member


async def _written(member: _Member) -> AsyncIterator[tuple[tuple[str, str], str]]:
    repo = {"repo": member.did}
    described = await member.client.query(DESCRIBE_REPO, repo)
    for collection in described["collections"]:
        cursor: dict[str, str] = {}
        while True:
            params = {**repo, "collection": collection, "limit": _PAGE, **cursor}
            page = await member.client.query(LIST_RECORDS, params)
            for record in page["records"]:
                yield (collection, record["uri"].rpartition("/")[2]), record["cid"]
            if not page.get("cursor"):
                break
            cursor = {"cursor": page["cursor"]}


async def _write_everything(
    society: Society, members: Mapping[int, _Member], progress: Progress
) -> None:
    """Round by round: a record may name the CIDs of earlier rounds only."""
    dids = {number: member.did for number, member in members.items()}
    cids: dict[Address, str] = {}
    done = 0

    async def write(item: tuple[_Member, list[Draft]]) -> None:
        nonlocal done
        member, drafts = item
        for address, cid in (await _write(member, drafts, dids, cids)).items():
            cids[address] = cid
        done += len(drafts)
        progress("records", done, len(society.drafts))

    for turn in range(society.rounds):
        batches: dict[int, list[Draft]] = defaultdict(list)
        for draft in society.drafts:
            if draft.round == turn:
                batches[draft.address.person].append(draft)
        await _each(
            [
                (members[person], drafts[start : start + MAX_WRITES])
                for person, drafts in batches.items()
                for start in range(0, len(drafts), MAX_WRITES)
            ],
            write,
        )


async def _write(
    member: _Member,
    drafts: Sequence[Draft],
    dids: Mapping[int, str],
    cids: Mapping[Address, str],
) -> dict[Address, str]:
    """Write the drafts of one account that are not there yet; their CIDs."""
    found = {}
    missing = []
    for draft in drafts:
        key = (draft.address.collection, draft.address.rkey)
        if key in member.written:
            found[draft.address] = member.written[key]
        else:
            missing.append(draft)
    if not missing:
        return found
    for draft in missing:
        for png in pictures_in(draft.record):
            if png not in member.blobs:
                member.blobs[png] = await _upload(member, png)
    writes = [
        {
            "$type": f"{APPLY_WRITES}#create",
            "collection": draft.address.collection,
            "rkey": draft.address.rkey,
            "value": fill_in(draft.record, dids, cids, member.blobs.__getitem__),
        }
        for draft in missing
    ]
    call = {"repo": member.did, "writes": writes}
    answer = await _obey(
        lambda: member.client.procedure(APPLY_WRITES, call), member.say
    )
    for draft, result in zip(missing, answer["results"], strict=True):
        found[draft.address] = result["cid"]
    return found


async def _upload(member: _Member, png: bytes) -> Json:
    answer = await _obey(
        lambda: member.client.procedure(UPLOAD_BLOB, png, encoding="image/png"),
        member.say,
    )
    blob: Json = answer["blob"]
    return blob


async def _obey(call: Callable[[], Any], say: Say) -> Any:
    """Call again, as often as the server asks us to wait, after the time it names."""
    attempt = 0
    while True:
        try:
            return await call()
        except RateLimitedError as error:
            wait = error.retry_after or min(2.0**attempt, _LONGEST_PAUSE_S)
            attempt += 1
            say(f"{error}: going on in {wait:.0f} s")
            await asyncio.sleep(wait)


def _describe(what: str, error: NetworkError | XrpcError) -> SeedingError:
    """Return the error to raise; a server error or silence may pass."""
    if isinstance(error, XrpcError) and error.status < _SERVER_ERROR:
        return SeedingError(
            f"a demo PDS refused what it was to be filled with: {error}; set"
            " BIGWORLD_HOME to a new folder to start anew",
            may_retry=False,
        )
    return SeedingError(f"{what}: {error}", may_retry=True)


async def _each(items: Iterable[Any], work: Callable[[Any], Any]) -> None:
    """Run `work` on every item, a few at once; the first error stops all."""
    queue = iter(items)

    async def run() -> None:
        for item in queue:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(run())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
