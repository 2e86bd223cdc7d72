"""bigworld.search.putSavedSearch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from appview.pipeline import BlockingMethod, Params
from appview.session import RequestContext
from appview.shapes.procedure import require_account_of
from appview.views.saved_search import read_search_id, saved_search_view
from network.xrpc.server import AuthMode, XrpcError
from search.matches.saving import Draft, UnknownSearchError, save_draft
from search.query.operators import InvalidQueryError
from storage.collections import FEED_POST
from storage.postgres.pool import Conn
from storage.private.match_webhooks import find_webhooks
from storage.private.saved_searches import TooManySearchesError


class _PutSavedSearch(BlockingMethod):
    auth: AuthMode = "required"

    def run(self, context: RequestContext, params: Params) -> dict[str, Any]:
        owner = require_account_of(context)
        draft = Draft(
            query=params["query"],
            name=params.get("name", ""),
            collections=params.get("collections", (FEED_POST,)),
            webhook=params.get("webhook"),
            replace=read_search_id(params["id"]) if "id" in params else None,
        )

        @contextmanager
        def open_index() -> Iterator[Conn]:
            with context.session() as session:
                yield session.conn

        private = context.app.private
        try:
            saved, secret = save_draft(private, open_index, owner, draft)
        except InvalidQueryError as error:
            raise XrpcError("BadQueryString", str(error), 400) from error
        except TooManySearchesError as error:
            raise XrpcError("TooManySavedSearches", str(error), 400) from error
        except UnknownSearchError as error:
            raise XrpcError("SavedSearchNotFound", str(error), 400) from error
        with private.read() as conn:
            webhook = find_webhooks(conn, [saved.id]).get(saved.id)
        key = context.app.cursor_secret
        answer: dict[str, Any] = {"search": saved_search_view(key, saved, webhook)}
        if secret is not None:
            answer["webhookSecret"] = secret.decode()
        return answer


METHOD: Final = _PutSavedSearch()
