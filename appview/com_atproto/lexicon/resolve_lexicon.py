"""com.atproto.lexicon.resolveLexicon: the lexicon that an NSID's owner publishes."""

from __future__ import annotations

from typing import Any, Final

from cachetools import TTLCache

from appview.app import AppView
from appview.pipeline import Handler
from network.errors import IdentityError, LexiconNotFoundError
from network.http.single_flight import SingleFlight
from network.identity.lexicon_source import PublishedLexicon
from network.server.admission import resting
from network.xrpc.server import AuthMode, Call, XrpcError, XrpcServer
from protocol.data.cid import cid_to_text
from protocol.data.json_form import to_json
from protocol.errors import ProtocolError

_KEPT: Final = 256
_KEPT_S: Final = 300.0

_Found = PublishedLexicon | XrpcError


class _ResolveLexicon:
    """Results are kept for five minutes, also that there is no such lexicon."""

    auth: AuthMode = "none"

    def handler(self, app: AppView, server: XrpcServer) -> Handler:
        kept: TTLCache[str, _Found] = TTLCache(_KEPT, _KEPT_S)
        flight: SingleFlight[str, _Found] = SingleFlight()

        async def find(nsid: str) -> _Found:
            try:
                kept[nsid] = await app.network.find_lexicon(nsid)
            except (LexiconNotFoundError, IdentityError) as error:
                kept[nsid] = _not_found(str(error))
            except (XrpcError, ProtocolError) as error:
                # The owner's server refuses, or sends no proof.
                kept[nsid] = _not_found(f"no proven record of {nsid}: {error}")
            return kept[nsid]

        async def answer(call: Call) -> dict[str, Any]:
            nsid = call.params["nsid"]
            found = kept.get(nsid)
            if found is None:
                async with resting(call.request.scope):
                    found = await flight.run(nsid, lambda: find(nsid))
            if isinstance(found, XrpcError):
                raise XrpcError(found.name, found.message, found.status)
            schema = to_json(found.record)
            if not _is_schema(schema):
                raise _not_found(f"the record of {nsid} is no lexicon")
            cid = cid_to_text(found.cid)
            return {"uri": found.uri, "cid": cid, "schema": schema}

        return answer


def _is_schema(record: Any) -> bool:
    """Return True if a record has the fields that its lexicon requires."""
    return isinstance(record, dict) and type(record.get("lexicon")) is int


def _not_found(message: str) -> XrpcError:
    return XrpcError("LexiconNotFound", message[:300], 400)


METHOD: Final = _ResolveLexicon()
