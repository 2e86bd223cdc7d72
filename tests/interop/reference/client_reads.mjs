// Every screen that a client reads: boot, timeline, threads, profile tabs, lists, packs, feeds, search.

export const reads = async (world) => {
  const { ann, ben, cat, dids, refs, step, eventually, refused, expect } = world
  const app = ann.app.bsky

  // Boot.
  await step('boot: session', async () => expect((await ann.com.atproto.server.getSession()).data.did === dids.ann, 'me'))
  await step('boot: preferences', async () => expect(await ann.getPreferences(), 'preferences'))
  await step('boot: config', () => app.unspecced.getConfig())
  await step('boot: age assurance config', () => app.ageassurance.getConfig())
  await step('boot: age assurance state', () => app.ageassurance.getState({ countryCode: 'NL' }))
  await step('boot: old age assurance state', () => app.unspecced.getAgeAssuranceState())
  await step('boot: unread count', async () => {
    const { data } = await ann.countUnreadNotifications()
    expect(Number.isInteger(data.count), 'a count')
  })
  await step('boot: notifications', () => ann.listNotifications({ limit: 40 }))
  await step('boot: notification preferences', async () => {
    const { data } = await app.notification.getPreferences()
    expect(data.preferences.like.include === 'all', 'defaults')
  })
  await step('boot: activity subscriptions', () => app.notification.listActivitySubscriptions())
  await step('boot: labelers', () => ann.getLabelers({ dids: [dids.cat], detailed: true }))
  await step('boot: list mutes', () => app.graph.getListMutes())
  await step('boot: list blocks', () => app.graph.getListBlocks())
  await step('boot: mutes', () => app.graph.getMutes())
  await step('boot: blocks', () => app.graph.getBlocks())
  await step('boot: trending topics', () => app.unspecced.getTrendingTopics({ limit: 14 }))
  await step('boot: trends', () => app.unspecced.getTrends({ limit: 5 }))
  await step('boot: suggested follows', () => ann.getSuggestions({ limit: 30 }))
  await step('boot: suggested users', () => app.unspecced.getSuggestedUsers({ limit: 10 }))
  await step('boot: suggested feeds', () => app.unspecced.getSuggestedFeeds({ limit: 10 }))
  await step('boot: suggested starter packs', () => app.unspecced.getSuggestedStarterPacks({ limit: 10 }))
  await step('boot: popular feeds', () => app.unspecced.getPopularFeedGenerators({ limit: 10 }))
  await step('boot: bookmarks', () => app.bookmark.getBookmarks())
  await step('boot: drafts', () => app.draft.getDrafts())

  // Timeline and posts.
  await eventually('timeline of a follower', async () => {
    const { data } = await cat.getTimeline({ limit: 50 })
    expect(data.feed.some((item) => item.post.uri === refs.post.uri), 'the post')
    expect(data.feed.some((item) => item.post.uri === refs.reply.uri), 'the reply')
  })
  await eventually('timeline shows the repost', async () => {
    const { data } = await cat.getTimeline({ limit: 50 })
    expect(
      data.feed.some((item) => item.reason?.by?.did === dids.ben) ||
        data.feed.filter((item) => item.post.uri === refs.post.uri).length === 1,
      'the repost or the post once',
    )
  })
  await step('timeline page by page', async () => {
    const seen = []
    let cursor
    for (let page = 0; page < 50; page++) {
      const { data } = await cat.getTimeline({ limit: 2, cursor })
      seen.push(...data.feed.map((item) => `${item.post.uri} ${item.reason?.uri}`))
      if (!(cursor = data.cursor)) break
    }
    expect(new Set(seen).size === seen.length && seen.length >= 5, `no repeats, at least five: ${seen.length}`)
  })
  await eventually('counts of a post', async () => {
    const { data } = await cat.getPosts({ uris: [refs.post.uri] })
    const [post] = data.posts
    expect(post.likeCount === 2 && post.repostCount === 1 && post.quoteCount === 1, 'likes, repost, quote')
    expect(post.replyCount >= 1 && post.viewer.like, 'reply and own like')
  })
  await eventually('a deleted post is gone', async () => {
    const { data } = await ben.getPosts({ uris: [refs.gone.uri] })
    expect(data.posts.length === 0, 'no post')
  })
  await eventually('thread', async () => {
    const { data } = await cat.getPostThread({ uri: refs.post.uri })
    expect(data.thread.replies?.[0]?.post.uri === refs.reply.uri, 'the reply')
    expect(data.thread.replies[0].replies?.[0]?.post.uri === refs.nested.uri, 'the nested reply')
  })
  await step('thread from below', async () => {
    const { data } = await cat.getPostThread({ uri: refs.nested.uri })
    expect(data.thread.parent?.parent?.post?.uri === refs.post.uri, 'the root')
  })
  await step('thread of a gated post', async () => {
    const { data } = await cat.getPostThread({ uri: refs.facets.uri })
    expect(data.thread.post.viewer.replyDisabled && data.thread.post.threadgate, 'replies disabled')
    expect(data.thread.post.viewer.embeddingDisabled, 'quotes disabled')
  })
  await step('thread V2', async () => {
    const { data } = await app.unspecced.getPostThreadV2({ anchor: refs.post.uri })
    const at = data.thread.map((item) => `${item.depth} ${item.uri}`)
    expect(at.join() === [`0 ${refs.post.uri}`, `1 ${refs.reply.uri}`, `2 ${refs.nested.uri}`].join(), 'three in order')
  })
  for (const sort of ['newest', 'oldest', 'top']) {
    await step(`thread V2 by ${sort}`, () => app.unspecced.getPostThreadV2({ anchor: refs.reply.uri, sort, below: 3 }))
  }
  await step('thread V2 from below', async () => {
    const { data } = await app.unspecced.getPostThreadV2({ anchor: refs.nested.uri, above: true })
    expect(data.thread[0].depth === -2 && data.thread.length === 3, 'two above')
  })
  await step('other replies V2', () => app.unspecced.getPostThreadOtherV2({ anchor: refs.post.uri }))
  await step('likes', async () => expect((await ann.getLikes({ uri: refs.post.uri })).data.likes.length === 2, 'two'))
  await step('reposts', async () => {
    const { data } = await ann.getRepostedBy({ uri: refs.post.uri })
    expect(data.repostedBy.length === 1, 'one')
  })
  await step('quotes', async () => {
    const { data } = await app.feed.getQuotes({ uri: refs.post.uri })
    expect(data.posts[0]?.uri === refs.quote.uri, 'the quote')
  })

  // A profile with its tabs.
  await eventually('profile of another account', async () => {
    const { data } = await ben.getProfile({ actor: dids.ann })
    expect(data.followersCount === 2 && data.followsCount === 1 && data.postsCount === 3, 'counts')
    expect(data.viewer.following && data.viewer.followedBy, 'relations')
    expect(data.associated?.lists === 3 && data.associated?.starterPacks === 1, 'lists and packs')
    expect(data.associated?.feedgens === 1, 'feeds')
  })
  await step('profile by handle', async () => {
    const { data } = await ben.getProfile({ actor: `${world.prefix}ann${world.domain}` })
    expect(data.did === dids.ann, 'the account')
  })
  await step('profiles', async () => {
    const { data } = await ben.getProfiles({ actors: [dids.ann, dids.ben, dids.cat] })
    expect(data.profiles.length === 3, 'three')
  })
  for (const filter of [
    'posts_and_author_threads', 'posts_with_replies', 'posts_no_replies', 'posts_with_media', 'posts_with_video',
  ]) {
    await step(`profile tab ${filter}`, async () => {
      const { data } = await ben.getAuthorFeed({ actor: dids.ann, filter, includePins: true })
      const count = { posts_with_media: 1, posts_with_video: 0 }[filter] ?? 3
      expect(data.feed.length === count, `${count} posts, not ${data.feed.length}`)
    })
  }
  await eventually('profile tab likes', async () => {
    const { data } = await ben.getActorLikes({ actor: dids.ben })
    expect(data.feed[0]?.post.uri === refs.post.uri, 'the liked post')
  })
  await refused('likes of another account are private', 'InvalidRequest', () => ben.getActorLikes({ actor: dids.cat }))
  await step('profile tab feeds', async () => {
    const { data } = await ben.app.bsky.feed.getActorFeeds({ actor: dids.ann })
    expect(data.feeds[0]?.uri === refs.feed.uri, 'the feed')
  })
  await step('profile tab lists', async () => {
    const { data } = await ben.app.bsky.graph.getLists({ actor: dids.ann })
    expect(data.lists.length === 2, 'two lists')
  })
  await step('lists of a purpose', async () => {
    const { data } = await ben.app.bsky.graph.getLists({ actor: dids.ann, purposes: ['modlist'] })
    expect(data.lists.length === 1 && data.lists[0].uri === refs.mods.uri, 'one list')
  })
  await step('profile tab starter packs', async () => {
    const { data } = await ben.app.bsky.graph.getActorStarterPacks({ actor: dids.ann })
    expect(data.starterPacks[0]?.uri === refs.pack.uri, 'the pack')
  })
  await step('followers', async () => {
    const { data } = await ben.getFollowers({ actor: dids.ann })
    expect(data.followers.length === 2, 'two')
  })
  await step('followers sorted', () => ben.app.bsky.graph.getFollowers({ actor: dids.ann, sort: 'top' }))
  await step('follows', async () => {
    const { data } = await ben.getFollows({ actor: dids.cat })
    expect(data.follows.length === 2, 'two')
  })
  await step('known followers', async () => {
    const { data } = await cat.app.bsky.graph.getKnownFollowers({ actor: dids.ann })
    expect(data.followers[0]?.did === dids.ben, 'ben')
  })
  await step('relationships', async () => {
    const { data } = await ann.app.bsky.graph.getRelationships({ actor: dids.ann, others: [dids.ben, dids.cat] })
    expect(data.relationships[0].following && data.relationships[0].followedBy, 'both follow')
    expect(!data.relationships[1].following && data.relationships[1].followedBy, 'one follows')
  })
  await step('suggested follows by account', () => ann.app.bsky.graph.getSuggestedFollowsByActor({ actor: dids.ben }))

  // Lists, packs and feeds.
  await eventually('list', async () => {
    const { data } = await ben.app.bsky.graph.getList({ list: refs.curated.uri })
    expect(data.items.length === 2 && data.list.listItemCount === 2, 'two members')
  })
  await step('list page by page', async () => {
    const first = await ben.app.bsky.graph.getList({ list: refs.curated.uri, limit: 1 })
    const second = await ben.app.bsky.graph.getList({ list: refs.curated.uri, limit: 1, cursor: first.data.cursor })
    expect(first.data.items[0].uri !== second.data.items[0].uri, 'another member')
  })
  await eventually('feed of a list', async () => {
    const { data } = await ben.app.bsky.feed.getListFeed({ list: refs.curated.uri })
    expect(data.feed.some((item) => item.post.uri === refs.quote.uri), 'a post of a member')
  })
  await step('lists with membership', async () => {
    const { data } = await ann.app.bsky.graph.getListsWithMembership({ actor: dids.cat })
    expect(data.listsWithMembership.filter((item) => item.listItem).length === 2, 'member of two')
  })
  await step('starter pack', async () => {
    const { data } = await ben.app.bsky.graph.getStarterPack({ starterPack: refs.pack.uri })
    expect(data.starterPack.list?.uri === refs.members.uri, 'its list')
  })
  await step('starter packs', async () => {
    const { data } = await ben.app.bsky.graph.getStarterPacks({ uris: [refs.pack.uri] })
    expect(data.starterPacks.length === 1, 'one')
  })
  await step('starter packs with membership', async () => {
    const { data } = await ann.app.bsky.graph.getStarterPacksWithMembership({ actor: dids.ben })
    expect(data.starterPacksWithMembership[0]?.listItem, 'a member')
  })
  await step('feed generators', async () => {
    const { data } = await ben.app.bsky.feed.getFeedGenerators({ feeds: [refs.feed.uri] })
    expect(data.feeds[0]?.displayName === 'A feed', 'the feed')
  })
  await step('labeler services', async () => {
    const { data } = await ben.getLabelers({ dids: [dids.cat], detailed: false })
    expect(data.views[0]?.creator.did === dids.cat, 'the labeler')
  })
  await step('label definitions', () => ben.getLabelDefinitions([dids.cat]))

  // Search.
  await eventually('search posts', async () => {
    const { data } = await ben.app.bsky.feed.searchPosts({ q: `${world.prefix} first quokka` })
    expect(data.posts.some((post) => post.uri === refs.post.uri), 'the post')
  })
  await step('search posts, newest', () => ben.app.bsky.feed.searchPosts({ q: 'quokka', sort: 'latest', limit: 5 }))
  await eventually('search accounts', async () => {
    const { data } = await ben.searchActors({ q: `${world.prefix}ann` })
    expect(data.actors.some((actor) => actor.did === dids.ann), 'the account')
  })
  await eventually('search as you type', async () => {
    const { data } = await ben.searchActorsTypeahead({ q: `${world.prefix}an` })
    expect(data.actors.some((actor) => actor.did === dids.ann), 'the account')
  })
  await eventually('search starter packs', async () => {
    const { data } = await ben.app.bsky.graph.searchStarterPacks({ q: `${world.prefix} pack` })
    expect(data.starterPacks.some((pack) => pack.uri === refs.pack.uri), 'the pack')
  })

  // Records, handles and errors.
  await step('record of another account', async () => {
    const [, , repo, collection, rkey] = refs.reply.uri.split('/')
    const { data } = await ann.com.atproto.repo.getRecord({ repo, collection, rkey })
    expect(data.value.text === 'a reply', 'the record')
  })
  await step('resolve a handle', async () => {
    const { data } = await ann.resolveHandle({ handle: `${world.prefix}ben${world.domain}` })
    expect(data.did === dids.ben, 'the account')
  })
  await refused('a missing thread', 'NotFound', () => ann.getPostThread({ uri: `${refs.post.uri}x` }))
  await refused('a missing profile', 'InvalidRequest', () => ann.getProfile({ actor: `did:plc:${'b'.repeat(24)}` }))
  await refused('a missing list', 'InvalidRequest', () => app.graph.getList({ list: `${refs.curated.uri}x` }))
  await refused('a missing starter pack', 'InvalidRequest', () =>
    app.graph.getStarterPack({ starterPack: `${refs.pack.uri}x` }),
  )
  await refused('a limit that is too large', 'InvalidRequest', () => ann.getTimeline({ limit: 101 }))
  await refused('a missing feed', 'InvalidRequest|UnknownFeed|RecordNotFound', () =>
    app.feed.getFeed({ feed: `${refs.feed.uri}x` }),
  )
  await step('missing thread V2', async () => {
    const { data } = await app.unspecced.getPostThreadV2({ anchor: `${refs.post.uri}x` })
    expect(data.thread[0].value.$type === 'app.bsky.unspecced.defs#threadItemNotFound', 'not found')
  })
}
