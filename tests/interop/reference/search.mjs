// A reference client that knows only its own PDS: logs in there and searches an indexer through it.
// Arguments: PDS URL, handle, password, indexer DID#service, query. Prints the answer as JSON.
import { AtpAgent } from '@atproto/api'

const [pds, identifier, password, proxy, q] = process.argv.slice(2)
const agent = new AtpAgent({ service: pds })
await agent.login({ identifier, password })
const answer = await agent.app.bsky.feed.searchPosts(
  { q, limit: 25 },
  proxy ? { headers: { 'atproto-proxy': proxy } } : undefined,
)
console.log(JSON.stringify(answer.data))
