// Private state and moderation: notices, preferences, mutes, bookmarks, drafts, blocks, and taking it all back.

export const settings = async (world) => {
  const { ann, ben, cat, dids, refs, step, eventually, refused, expect, create } = world
  const bsky = (agent) => agent.app.bsky

  // Notifications.
  await eventually('notifications tell all', async () => {
    const { data } = await ann.listNotifications({ limit: 50 })
    const found = new Set(data.notifications.map((notice) => notice.reason))
    for (const reason of ['like', 'repost', 'follow', 'reply', 'quote']) expect(found.has(reason), reason)
  })
  await step('a mention notifies', async () => {
    const { data } = await ben.listNotifications({ reasons: ['mention'] })
    expect(data.notifications.length === 1, 'one mention')
  })
  await step('a like of a repost notifies', async () => {
    const { data } = await ben.listNotifications({ reasons: ['like-via-repost'] })
    expect(data.notifications.length === 1, 'one')
  })
  await step('unread count', async () => expect((await ann.countUnreadNotifications()).data.count > 4, 'some'))
  await step('mark as seen', () => ann.updateSeenNotifications())
  await eventually('nothing is unread', async () => {
    expect((await ann.countUnreadNotifications()).data.count === 0, 'none')
  })
  await eventually('notifications are read', async () => {
    const { data } = await ann.listNotifications()
    expect(data.seenAt && data.notifications.every((notice) => notice.isRead), 'all read')
  })
  await step('notification preferences', async () => {
    const { data } = await bsky(ann).notification.putPreferencesV2({
      like: { include: 'follows', list: true, push: false },
    })
    expect(data.preferences.like.include === 'follows', 'the new one')
  })
  await eventually('notification preferences stay', async () => {
    const { data } = await bsky(ann).notification.getPreferences()
    expect(data.preferences.like.include === 'follows' && data.preferences.reply.include === 'all', 'one changed')
  })
  await step('old notification preferences', () => bsky(ann).notification.putPreferences({ priority: false }))
  await step('subscribe to activity', () =>
    bsky(ben).notification.putActivitySubscription({
      subject: dids.ann,
      activitySubscription: { post: true, reply: false },
    }),
  )
  await eventually('activity subscriptions', async () => {
    const { data } = await bsky(ben).notification.listActivitySubscriptions()
    expect(data.subscriptions[0]?.did === dids.ann, 'ann')
    expect(data.subscriptions[0].viewer.activitySubscription?.post, 'by posts')
  })
  refs.news = await step('write a post for subscribers', () => ann.post({ text: 'news' }))
  await eventually('a subscribed post notifies', async () => {
    const { data } = await ben.listNotifications({ reasons: ['subscribed-post'] })
    expect(data.notifications[0]?.uri === refs.news.uri, 'the post')
  })
  await step('unsubscribe', () =>
    bsky(ben).notification.putActivitySubscription({
      subject: dids.ann,
      activitySubscription: { post: false, reply: false },
    }),
  )
  await eventually('no activity subscriptions', async () => {
    const { data } = await bsky(ben).notification.listActivitySubscriptions()
    expect(data.subscriptions.length === 0, 'none')
  })

  // Preferences of the client.
  await step('set preferences: adult content', () => ann.setAdultContentEnabled(true))
  await step('set preferences: a label', () => ann.setContentLabelPref('rude', 'hide', dids.cat))
  await step('set preferences: birth date', () => ann.setPersonalDetails({ birthDate: '2000-02-03T00:00:00.000Z' }))
  await step('set preferences: feed view', () => ann.setFeedViewPrefs('home', { hideReposts: true }))
  await step('set preferences: thread view', () => ann.setThreadViewPrefs({ sort: 'newest' }))
  await step('set preferences: interests', () => ann.setInterestsPref({ tags: ['wombats'] }))
  await step('set preferences: saved feeds', () =>
    ann.overwriteSavedFeeds([{ id: '3kaaaaaaaaaaa', type: 'timeline', value: 'following', pinned: true }]),
  )
  await step('set preferences: a muted word', () =>
    ann.addMutedWord({ value: 'spoiler', targets: ['content'], actorTarget: 'all' }),
  )
  await step('set preferences: a hidden post', () => ann.hidePost(refs.quote.uri))
  await step('preferences stay', async () => {
    const prefs = await ann.getPreferences()
    expect(prefs.moderationPrefs.adultContentEnabled === true, 'adult content')
    expect(prefs.interests.tags[0] === 'wombats' && prefs.threadViewPrefs.sort === 'newest', 'interests and sort')
    expect(prefs.savedFeeds.length === 1 && prefs.moderationPrefs.mutedWords.length === 1, 'feeds and words')
    expect(prefs.moderationPrefs.hiddenPosts[0] === refs.quote.uri, 'the hidden post')
  })

  // Mutes.
  await step('mute an account', () => ann.mute(dids.cat))
  await eventually('the account is muted', async () => {
    const { data } = await ann.getProfile({ actor: dids.cat })
    expect(data.viewer.muted, 'muted')
  })
  await eventually('muted accounts', async () => {
    const { data } = await bsky(ann).graph.getMutes()
    expect(data.mutes[0]?.did === dids.cat, 'cat')
  })
  await eventually('a muted account does not notify', async () => {
    const { data } = await ann.listNotifications()
    expect(data.notifications.every((notice) => notice.author.did !== dids.cat), 'nothing of cat')
  })
  await step('unmute the account', () => ann.unmute(dids.cat))
  await step('mute a list', () => ann.muteModList(refs.mods.uri))
  await eventually('muted lists', async () => {
    const { data } = await bsky(ann).graph.getListMutes()
    expect(data.lists[0]?.uri === refs.mods.uri && data.lists[0].viewer.muted, 'the list')
  })
  await eventually('a member of the muted list', async () => {
    const { data } = await ann.getProfile({ actor: dids.cat })
    expect(data.viewer.muted && data.viewer.mutedByList?.uri === refs.mods.uri, 'muted by the list')
  })
  await step('unmute the list', () => ann.unmuteModList(refs.mods.uri))
  await eventually('no muted lists', async () => {
    expect((await bsky(ann).graph.getListMutes()).data.lists.length === 0, 'none')
  })
  await step('mute a thread', () => bsky(ann).graph.muteThread({ root: refs.post.uri }))
  await eventually('the thread is muted', async () => {
    const { data } = await ann.getPosts({ uris: [refs.post.uri] })
    expect(data.posts[0].viewer.threadMuted, 'muted')
  })
  await step('unmute the thread', () => bsky(ann).graph.unmuteThread({ root: refs.post.uri }))
  await eventually('the thread is not muted', async () => {
    const { data } = await ann.getPosts({ uris: [refs.post.uri] })
    expect(!data.posts[0].viewer.threadMuted, 'not muted')
  })
  await refused('mute oneself', 'InvalidRequest', () => ann.mute(dids.ann))

  // Bookmarks and drafts.
  await step('bookmark a post', () => bsky(ben).bookmark.createBookmark({ uri: refs.post.uri, cid: refs.post.cid }))
  await eventually('bookmarks', async () => {
    const { data } = await bsky(ben).bookmark.getBookmarks()
    expect(data.bookmarks[0]?.item.uri === refs.post.uri, 'the post')
  })
  await eventually('a bookmark in a post view', async () => {
    const { data } = await ben.getPosts({ uris: [refs.post.uri] })
    expect(data.posts[0].viewer.bookmarked, 'bookmarked')
  })
  await step('remove the bookmark', () => bsky(ben).bookmark.deleteBookmark({ uri: refs.post.uri }))
  await eventually('no bookmarks', async () => {
    expect((await bsky(ben).bookmark.getBookmarks()).data.bookmarks.length === 0, 'none')
  })
  await refused('bookmark a feed', 'UnsupportedCollection', () =>
    bsky(ben).bookmark.createBookmark({ uri: refs.feed.uri, cid: refs.feed.cid }),
  )
  const draft = await step('save a draft', () => bsky(ben).draft.createDraft({ draft: { posts: [{ text: 'later' }] } }))
  await eventually('drafts', async () => {
    const { data } = await bsky(ben).draft.getDrafts()
    expect(data.drafts[0]?.draft.posts[0].text === 'later', 'the draft')
  })
  await step('change the draft', () =>
    bsky(ben).draft.updateDraft({ draft: { id: draft.data.id, draft: { posts: [{ text: 'much later' }] } } }),
  )
  await eventually('the draft is changed', async () => {
    const { data } = await bsky(ben).draft.getDrafts()
    expect(data.drafts[0]?.draft.posts[0].text === 'much later', 'the new text')
  })
  await step('delete the draft', () => bsky(ben).draft.deleteDraft({ id: draft.data.id }))
  await eventually('no drafts', async () => {
    expect((await bsky(ben).draft.getDrafts()).data.drafts.length === 0, 'none')
  })

  // Blocks.
  refs.block = await step('block an account', () => create(ann, 'app.bsky.graph.block', { subject: dids.cat }))
  await eventually('the account is blocked', async () => {
    const { data } = await ann.getProfile({ actor: dids.cat })
    expect(data.viewer.blocking === refs.block.uri, 'blocking')
  })
  await eventually('blocked accounts', async () => {
    const { data } = await bsky(ann).graph.getBlocks()
    expect(data.blocks[0]?.did === dids.cat, 'cat')
  })
  await step('posts of a blocked account', () =>
    refusedFeed(ann, dids.cat, 'BlockedActor').then((name) => expect(name === 'BlockedActor', `BlockedActor: ${name}`)),
  )
  await step('posts of a blocking account', () =>
    refusedFeed(cat, dids.ann, 'BlockedByActor').then((name) =>
      expect(name === 'BlockedByActor', `BlockedByActor: ${name}`),
    ),
  )
  await step('a blocked quote', async () => {
    const { data } = await ann.getPostThread({ uri: refs.nested.uri })
    expect(data.thread.$type === 'app.bsky.feed.defs#blockedPost', data.thread.$type)
  })
  await step('unblock the account', () =>
    ann.com.atproto.repo.deleteRecord({
      repo: dids.ann,
      collection: 'app.bsky.graph.block',
      rkey: refs.block.uri.split('/').pop(),
    }),
  )
  await eventually('the account is not blocked', async () => {
    expect(!(await ann.getProfile({ actor: dids.cat })).data.viewer.blocking, 'not blocking')
  })
  const blocked = await step('block a list', () => ann.blockModList(refs.mods.uri))
  await eventually('blocked lists', async () => {
    const { data } = await bsky(ann).graph.getListBlocks()
    expect(data.lists[0]?.viewer.blocked === blocked.uri, 'the list')
  })
  await eventually('a member of the blocked list', async () => {
    const { data } = await ann.getProfile({ actor: dids.cat })
    expect(data.viewer.blockingByList?.uri === refs.mods.uri, 'by the list')
  })
  await step('unblock the list', () => ann.unblockModList(refs.mods.uri))
  await eventually('no blocked lists', async () => {
    expect((await bsky(ann).graph.getListBlocks()).data.lists.length === 0, 'none')
  })

  // Taking it back.
  await step('unlike', () => ben.deleteLike(refs.like.uri))
  await step('take back the repost', () => ben.deleteRepost(refs.repost.uri))
  await step('unfollow', () => ben.deleteFollow(refs.follow.uri))
  await eventually('counts go back', async () => {
    const { data } = await ben.getPosts({ uris: [refs.post.uri] })
    expect(data.posts[0].repostCount === 0 && !data.posts[0].viewer.like, 'no repost, no like')
  })
  await eventually('the follow is gone', async () => {
    expect(!(await ben.getProfile({ actor: dids.ann })).data.viewer.following, 'not following')
  })
  await step('remove a member', () =>
    ann.com.atproto.repo.deleteRecord({
      repo: dids.ann,
      collection: 'app.bsky.graph.listitem',
      rkey: refs['curated cat'].uri.split('/').pop(),
    }),
  )
  await eventually('the list is smaller', async () => {
    expect((await bsky(ben).graph.getList({ list: refs.curated.uri })).data.items.length === 1, 'one member')
  })
  await step('pin a post', () => ann.upsertProfile((old) => ({ ...old, pinnedPost: refs.post })))
  await eventually('the pinned post is first', async () => {
    const { data } = await ben.getAuthorFeed({ actor: dids.ann, includePins: true })
    expect(data.feed[0].reason?.$type === 'app.bsky.feed.defs#reasonPin', 'the pin')
  })
}

const refusedFeed = async (agent, actor) => {
  for (let tries = 0; tries < 80; tries++) {
    try {
      await agent.getAuthorFeed({ actor })
    } catch (error) {
      return error.error
    }
    await new Promise((done) => setTimeout(done, 250))
  }
  return 'success'
}
