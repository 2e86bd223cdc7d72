"""app.bsky.unspecced.searchPostsSkeleton."""

from __future__ import annotations

from typing import Final

from appview.post_queries import read_v1
from appview.shapes.post_search import post_search
from appview.shapes.skeleton import Skeleton, uri_objects

METHOD: Final = Skeleton(post_search(read_v1, uri_objects("posts"), quotes=0))
