// What three accounts write, and what they then see of it.

const PIXEL = Uint8Array.from(
  atob('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='),
  (char) => char.charCodeAt(0),
)

export const writes = async (world) => {
  const { ann, ben, cat, dids, step, eventually, expect, RichText } = world
  const now = () => new Date().toISOString()
  const create = async (agent, collection, record, rkey) => {
    const made = await agent.com.atproto.repo.createRecord({
      repo: agent.assertDid,
      collection,
      rkey,
      record: { $type: collection, createdAt: now(), ...record },
    })
    return { uri: made.data.uri, cid: made.data.cid }
  }
  const refs = (world.refs = {})
  world.create = create

  for (const [who, agent] of [['ann', ann], ['ben', ben], ['cat', cat]]) {
    await eventually(`profile of ${who} is served`, async () => {
      const { data } = await agent.getProfile({ actor: agent.assertDid })
      expect(data.did === agent.assertDid && data.handle.startsWith(world.prefix), 'the own profile')
    })
    await step(`write profile of ${who}`, () =>
      agent.upsertProfile((old) => ({ ...old, displayName: `The ${who}`, description: `About ${who}` })),
    )
  }
  const blob = await step('upload an avatar', () => ann.uploadBlob(PIXEL, { encoding: 'image/png' }))
  await step('set the avatar', () => ann.upsertProfile((old) => ({ ...old, avatar: blob.data.blob })))
  await eventually('the new profile is shown at once', async () => {
    const { data } = await ann.getProfile({ actor: dids.ann })
    expect(data.displayName === 'The ann' && data.avatar, 'name and avatar')
  })

  refs.post = await step('write a post', () => ann.post({ text: `${world.prefix} first quokka` }))
  await step('write a post with facets', async () => {
    const text = new RichText({ text: `see @${world.prefix}ben${world.domain} and #quokka at https://example.com` })
    await text.detectFacets(ann)
    expect(text.facets?.length === 3, `three facets, not ${text.facets?.length}`)
    refs.facets = await ann.post({ text: text.text, facets: text.facets, langs: ['en'] })
  })
  await step('write a post with a picture', async () => {
    refs.picture = await ann.post({
      text: 'a picture',
      embed: { $type: 'app.bsky.embed.images', images: [{ image: blob.data.blob, alt: 'pixel' }] },
    })
  })
  await eventually('the author sees the post at once', async () => {
    const { data } = await ann.getAuthorFeed({ actor: dids.ann })
    expect(data.feed.some((item) => item.post.uri === refs.post.uri), 'the post in the author feed')
  })
  await eventually('another account sees the post', async () => {
    const { data } = await ben.getPosts({ uris: [refs.post.uri] })
    expect(data.posts.length === 1, 'one post')
  })
  refs.reply = await step('write a reply', () =>
    ben.post({ text: 'a reply', reply: { root: refs.post, parent: refs.post } }),
  )
  refs.nested = await step('write a reply to the reply', () =>
    cat.post({ text: 'a nested reply', reply: { root: refs.post, parent: refs.reply } }),
  )
  refs.quote = await step('write a quote', () =>
    cat.post({ text: 'a quote', embed: { $type: 'app.bsky.embed.record', record: refs.post } }),
  )
  refs.like = await step('like a post', () => ben.like(refs.post.uri, refs.post.cid))
  refs.repost = await step('repost a post', () => ben.repost(refs.post.uri, refs.post.cid))
  await step('like by way of the repost', () => cat.like(refs.post.uri, refs.post.cid, refs.repost))
  refs.follow = await step('follow ann', () => ben.follow(dids.ann))
  await step('follow back', () => ann.follow(dids.ben))
  await step('follow from a third account', () => cat.follow(dids.ann))
  await step('follow ben too', () => cat.follow(dids.ben))
  refs.gate = await step('gate a thread', () =>
    create(ann, 'app.bsky.feed.threadgate', { post: refs.facets.uri, allow: [] }, refs.facets.uri.split('/').pop()),
  )
  await step('forbid quotes', () =>
    create(ann, 'app.bsky.feed.postgate', {
      post: refs.facets.uri,
      embeddingRules: [{ $type: 'app.bsky.feed.postgate#disableRule' }],
    }, refs.facets.uri.split('/').pop()),
  )
  const list = (agent, name, purpose) =>
    create(agent, 'app.bsky.graph.list', { name, purpose: `app.bsky.graph.defs#${purpose}`, description: name })
  refs.curated = await step('make a curated list', () => list(ann, 'curated', 'curatelist'))
  refs.mods = await step('make a moderation list', () => list(ann, 'moderated', 'modlist'))
  refs.members = await step('make a reference list', () => list(ann, 'members', 'referencelist'))
  for (const [note, who] of [['curated', 'ben'], ['curated', 'cat'], ['mods', 'cat'], ['members', 'ben']]) {
    await step(`add ${who} to the list ${note}`, async () => {
      refs[`${note} ${who}`] = await create(ann, 'app.bsky.graph.listitem', {
        list: refs[note].uri,
        subject: dids[who],
      })
    })
  }
  refs.pack = await step('make a starter pack', () =>
    create(ann, 'app.bsky.graph.starterpack', { name: `${world.prefix} pack`, list: refs.members.uri, feeds: [] }),
  )
  refs.feed = await step('make a feed generator', () =>
    create(ann, 'app.bsky.feed.generator', { did: 'did:web:feeds.example.com', displayName: 'A feed' }, 'a-feed'),
  )
  await step('declare a labeler', () =>
    create(cat, 'app.bsky.labeler.service', { policies: { labelValues: ['rude'] } }, 'self'),
  )
  refs.gone = await step('write a post to delete', () => ann.post({ text: 'soon gone' }))
  await step('delete the post', () => ann.deletePost(refs.gone.uri))
}
