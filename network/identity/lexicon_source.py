"""The published lexicon of an NSID: DNS names its repo, the repo proves the record."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from network.errors import LexiconNotFoundError
from network.http.client import Fetcher
from network.http.dns import TxtLookup
from network.identity.resolver import IdentityResolver
from network.xrpc.client import XrpcClient
from protocol.data.cbor import Value, decode
from protocol.data.cid import cid_for
from protocol.identity.keys import parse_did_key
from protocol.repo.record_proof import verify_record_proof
from protocol.syntax import Did, is_did, is_nsid

SCHEMA_COLLECTION: Final = "com.atproto.lexicon.schema"
MAX_PROOF_BYTES: Final = 4 * 1024 * 1024
_GET_RECORD: Final = "com.atproto.sync.getRecord"
_TXT_PREFIX: Final = "did="
_MAX_DOMAIN_CHARS: Final = 253


def lexicon_domain(nsid: str) -> str:
    """Return the name whose TXT record names the repo of an NSID's lexicon.

    All segments but the last, reversed: that of com.example.blog.entry is
    _lexicon.blog.example.com.
    """
    *authority, _ = nsid.split(".")
    return "_lexicon." + ".".join(reversed(authority)).lower()


@dataclass(frozen=True, slots=True)
class PublishedLexicon:
    """The record of a lexicon, its AT-URI and its CID."""

    uri: str
    cid: bytes
    record: Value


class LexiconSource:
    """Resolver of published lexicons (specs/lexicon)."""

    def __init__(
        self, fetcher: Fetcher, resolver: IdentityResolver, txt: TxtLookup
    ) -> None:
        self._fetcher = fetcher
        self._resolver = resolver
        self._txt = txt

    async def find(self, nsid: str) -> object:
        """Return the record of a lexicon. Raises as `resolve` does."""
        return (await self.resolve(nsid)).record

    async def resolve(self, nsid: str) -> PublishedLexicon:
        """Return a lexicon, whose proof was verified.

        Raises LexiconNotFoundError if nobody publishes it, and NetworkError,
        IdentityError, XrpcError or ProtocolError.
        """
        did = await self._find_repo(nsid)
        document = await self._resolver.resolve_did(did)
        if document.signing_key is None or document.pds is None:
            raise LexiconNotFoundError(f"{did} names no key or no server")
        client = XrpcClient(self._fetcher, document.pds)
        car = await client.query_bytes(
            _GET_RECORD,
            {"did": did, "collection": SCHEMA_COLLECTION, "rkey": nsid},
            max_bytes=MAX_PROOF_BYTES,
        )
        proof = verify_record_proof(
            car,
            did,
            f"{SCHEMA_COLLECTION}/{nsid}",
            parse_did_key(document.signing_key),
            time.time_ns() // 1_000,
        )
        if proof.value is None:
            raise LexiconNotFoundError(f"{did} holds no record of {nsid}")
        uri = f"at://{did}/{SCHEMA_COLLECTION}/{nsid}"
        return PublishedLexicon(uri, cid_for(proof.value), decode(proof.value))

    async def _find_repo(self, nsid: str) -> Did:
        if not is_nsid(nsid):
            raise LexiconNotFoundError(f"{nsid[:80]!r} is not an NSID")
        domain = lexicon_domain(nsid)
        if len(domain) > _MAX_DOMAIN_CHARS:
            raise LexiconNotFoundError(f"{domain[:80]} is too long for DNS")
        named = {
            value.removeprefix(_TXT_PREFIX)
            for value in await self._txt(domain)
            if value.startswith(_TXT_PREFIX)
        }
        dids = [did for did in named if is_did(did)]
        if len(dids) != 1:
            raise LexiconNotFoundError(f"{domain} names {len(dids)} DIDs")
        return Did(dids[0])
