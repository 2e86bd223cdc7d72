// The official client reads feeds as an account: their views, and all pages of their posts.
// Argument: JSON {pds, identifier, password, feeds}. Prints a JSON object of {online, valid, posts, contexts} by feed.
import { AtpAgent } from '@atproto/api'

const { pds, identifier, password, feeds } = JSON.parse(process.argv[2])
const agent = new AtpAgent({ service: pds })
await agent.login({ identifier, password })

const found = {}
for (const feed of feeds) {
  const { data } = await agent.app.bsky.feed.getFeedGenerator({ feed })
  const posts = []
  const contexts = []
  let cursor
  do {
    const page = await agent.app.bsky.feed.getFeed({ feed, cursor, limit: 7 })
    posts.push(...page.data.feed.map((item) => item.post.uri))
    contexts.push(...page.data.feed.map((item) => item.feedContext ?? ''))
    cursor = page.data.cursor
  } while (cursor && posts.length < 500)
  found[feed] = { online: data.isOnline, valid: data.isValid, posts, contexts }
}
console.log(JSON.stringify(found))
