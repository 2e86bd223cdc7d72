"""Seeding of the demo network: writes a plan to real servers over XRPC.

Idempotent: records have planned keys, so that a second run writes what is missing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from demo.plan import (
    Address,
    DemoAccount,
    DemoNetwork,
    Draft,
    Json,
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
    """The seeding failed; another run may succeed if `may_retry`."""

    def __init__(self, message: str, *, may_retry: bool) -> None:
        super().__init__(message)
        self.may_retry = may_retry


@dataclass(slots=True)
class _Member:
    """A signed-in account: its client, DID and records written so far."""

    account: DemoAccount
    client: XrpcClient
    did: str
    written: dict[tuple[str, str], str]
    blobs: dict[bytes, Json]
    say: Say


async def fetch_domains(fetcher: Fetcher, servers: Sequence[str]) -> tuple[str, ...]:
    """Return the first handle suffix of each server."""
    domains = []
    try:
        for server in servers:
            answer = await XrpcClient(fetcher, server).query(DESCRIBE_SERVER)
            domains.append(str(answer["availableUserDomains"][0]))
    except (NetworkError, XrpcError) as error:
        raise _describe("a demo PDS does not answer", error) from error
    return tuple(domains)


async def seed_network(
    network: DemoNetwork,
    fetcher: Fetcher,
    servers: Sequence[str],
    password: str,
    progress: Progress,
    say: Say = lambda _: None,
) -> dict[int, str]:
    """Create the accounts and write all records; return DIDs by account number.

    `servers` are the origins of the PDSes, in the order of the plan. `progress(what,
    done, total)` is called after every step, `say` before a pause. Raises SeedingError;
    another run continues.
    """
    try:
        members = await _open_accounts(
            network, fetcher, servers, password, progress, say
        )
        await _write_everything(network, members, progress)
    except (NetworkError, XrpcError) as error:
        raise _describe("the demo network is not filled yet", error) from error
    return {number: member.did for number, member in members.items()}


async def _open_accounts(
    network: DemoNetwork,
    fetcher: Fetcher,
    servers: Sequence[str],
    password: str,
    progress: Progress,
    say: Say,
) -> dict[int, _Member]:
    members: dict[int, _Member] = {}

    async def open_one(account: DemoAccount) -> None:
        server = servers[account.server]
        member = await _enter(fetcher, server, account, password, say)
        members[account.number] = member
        progress("accounts", len(members), len(network.accounts))

    await _each(network.accounts, open_one)
    return members


async def _enter(
    fetcher: Fetcher, server: str, account: DemoAccount, password: str, say: Say
) -> _Member:
    """Create the account, or sign in if an earlier run created it."""
    client = XrpcClient(fetcher, server)
    sign_up = {
        "handle": account.handle,
        "email": f"{account.handle.partition('.')[0]}@example.com",
        "password": password,
    }
    existed = False
    try:
        session = await _with_retries(
            lambda: client.procedure(CREATE_ACCOUNT, sign_up), say
        )
    except XrpcError as error:
        if error.name != HANDLE_TAKEN:
            raise
        existed = True
        login = {"identifier": account.handle, "password": password}
        session = await _with_retries(
            lambda: client.procedure(CREATE_SESSION, login), say
        )
    signed_in = XrpcClient(fetcher, server, auth=session["accessJwt"])
    member = _Member(account, signed_in, session["did"], {}, {}, say)
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
    network: DemoNetwork, members: Mapping[int, _Member], progress: Progress
) -> None:
    """Write round by round: a record refers to CIDs of earlier rounds only."""
    dids = {number: member.did for number, member in members.items()}
    cids: dict[Address, str] = {}
    done = 0

    async def write(item: tuple[_Member, list[Draft]]) -> None:
        nonlocal done
        member, drafts = item
        for address, cid in (await _write(member, drafts, dids, cids)).items():
            cids[address] = cid
        done += len(drafts)
        progress("records", done, len(network.drafts))

    for turn in range(network.rounds):
        batches: dict[int, list[Draft]] = defaultdict(list)
        for draft in network.drafts:
            if draft.round == turn:
                batches[draft.address.account].append(draft)
        await _each(
            [
                (members[account], drafts[start : start + MAX_WRITES])
                for account, drafts in batches.items()
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
    """Write the missing drafts of one account; return the CIDs of all."""
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
    answer = await _with_retries(
        lambda: member.client.procedure(APPLY_WRITES, call), member.say
    )
    for draft, result in zip(missing, answer["results"], strict=True):
        found[draft.address] = result["cid"]
    return found


async def _upload(member: _Member, png: bytes) -> Json:
    answer = await _with_retries(
        lambda: member.client.procedure(UPLOAD_BLOB, png, encoding="image/png"),
        member.say,
    )
    blob: Json = answer["blob"]
    return blob


async def _with_retries(call: Callable[[], Any], say: Say) -> Any:
    """Call, and retry after the time that a rate limit names."""
    attempt = 0
    while True:
        try:
            return await call()
        except RateLimitedError as error:
            wait = error.retry_after or min(2.0**attempt, _LONGEST_PAUSE_S)
            attempt += 1
            say(f"{error}: retrying in {wait:.0f} s")
            await asyncio.sleep(wait)


def _describe(what: str, error: NetworkError | XrpcError) -> SeedingError:
    """Return the error to raise; server errors and timeouts may be retried."""
    if isinstance(error, XrpcError) and error.status < _SERVER_ERROR:
        return SeedingError(
            f"a demo PDS refused its records: {error}; set BIGWORLD_HOME to a new"
            " folder to start over",
            may_retry=False,
        )
    return SeedingError(f"{what}: {error}", may_retry=True)


async def _each(items: Iterable[Any], work: Callable[[Any], Any]) -> None:
    """Run `work` on every item, a few at once; stop at the first error."""
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
