"""The registration of the methods of the read side."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Final

from appview.app import AppView
from appview.pipeline import Method
from appview.views.checked import load_catalog
from network.xrpc.server import XrpcServer

METHODS: Final = (
    "app.bsky.actor.getProfile",
    "app.bsky.actor.getProfiles",
    "app.bsky.actor.getSuggestions",
    "app.bsky.actor.searchActors",
    "app.bsky.actor.searchActorsTypeahead",
    "app.bsky.feed.describeFeedGenerator",
    "app.bsky.feed.getAuthorFeed",
    "app.bsky.feed.getFeed",
    "app.bsky.feed.getFeedGenerator",
    "app.bsky.feed.getFeedGenerators",
    "app.bsky.feed.getFeedSkeleton",
    "app.bsky.feed.getLikes",
    "app.bsky.feed.getPostThread",
    "app.bsky.feed.getPosts",
    "app.bsky.feed.getRepostedBy",
    "app.bsky.feed.getSuggestedFeeds",
    "app.bsky.feed.searchPosts",
    "app.bsky.feed.searchPostsV2",
    "app.bsky.graph.getFollowers",
    "app.bsky.graph.getFollows",
    "app.bsky.graph.getMutes",
    "app.bsky.graph.getSuggestedFollowsByActor",
    "app.bsky.graph.muteActor",
    "app.bsky.graph.searchStarterPacks",
    "app.bsky.graph.searchStarterPacksV2",
    "app.bsky.graph.unmuteActor",
    "app.bsky.unspecced.getOnboardingSuggestedStarterPacks",
    "app.bsky.unspecced.getOnboardingSuggestedStarterPacksSkeleton",
    "app.bsky.unspecced.getOnboardingSuggestedUsersSkeleton",
    "app.bsky.unspecced.getPopularFeedGenerators",
    "app.bsky.unspecced.getSuggestedFeeds",
    "app.bsky.unspecced.getSuggestedFeedsSkeleton",
    "app.bsky.unspecced.getSuggestedOnboardingUsers",
    "app.bsky.unspecced.getSuggestedStarterPacks",
    "app.bsky.unspecced.getSuggestedStarterPacksSkeleton",
    "app.bsky.unspecced.getSuggestedUsers",
    "app.bsky.unspecced.getSuggestedUsersForDiscover",
    "app.bsky.unspecced.getSuggestedUsersForDiscoverSkeleton",
    "app.bsky.unspecced.getSuggestedUsersForExplore",
    "app.bsky.unspecced.getSuggestedUsersForExploreSkeleton",
    "app.bsky.unspecced.getSuggestedUsersForSeeMore",
    "app.bsky.unspecced.getSuggestedUsersForSeeMoreSkeleton",
    "app.bsky.unspecced.getSuggestedUsersSkeleton",
    "app.bsky.unspecced.getSuggestionsSkeleton",
    "app.bsky.unspecced.getTaggedSuggestions",
    "app.bsky.unspecced.getTrendingTopics",
    "app.bsky.unspecced.getTrends",
    "app.bsky.unspecced.getTrendsSkeleton",
    "app.bsky.unspecced.searchActorsSkeleton",
    "app.bsky.unspecced.searchPostsSkeleton",
    "app.bsky.unspecced.searchStarterPacksSkeleton",
    "bigworld.link.getBacklinkCounts",
    "bigworld.link.getBacklinks",
    "bigworld.search.deleteSavedSearch",
    "bigworld.search.explain",
    "bigworld.search.listRecords",
    "bigworld.search.listSavedSearches",
    "bigworld.search.putSavedSearch",
    "bigworld.search.searchRecords",
    "blue.microcosm.links.getBacklinkDids",
    "blue.microcosm.links.getBacklinks",
    "blue.microcosm.links.getBacklinksCount",
    "blue.microcosm.links.getManyToManyCounts",
    "com.atproto.identity.resolveHandle",
    "com.atproto.sync.requestCrawl",
)
"""Each is a module with a `METHOD`: app.bsky.feed.getPosts is
appview/app_bsky/feed/get_posts.py."""


def add_methods(server: XrpcServer, app: AppView) -> None:
    """Register every method of the read side on `server`."""
    load_catalog()
    for nsid in METHODS:
        add_method(server, app, nsid, load_method(nsid))


def add_method(server: XrpcServer, app: AppView, nsid: str, method: Method) -> None:
    """Register one method."""
    server.add(nsid, method.handler(app, server), method.auth)


def load_method(nsid: str) -> Method:
    """Import the method of an NSID."""
    method: Method = import_module(module_of(nsid)).METHOD
    return method


def module_of(nsid: str) -> str:
    """Return the name of the module that holds a method."""
    authority, domain, *path, name = nsid.split(".")
    if path[-1:] == ["unspecced"] and name.endswith("Skeleton"):
        # Too many for one folder.
        path.append("skeleton")
    file = re.sub(r"(?=[A-Z])", "_", name).lower()
    return ".".join(("appview", f"{authority}_{domain}", *path, file))
