// Runs the reference directory, two PDSes, the reference AppView and a feed generator until standard input closes.
// Argument: JSON {plc, pds, appview, ours: {url, did}, postgres}: ports (pds: two of them) and URLs.
// Prints one line of JSON when all stand. Every further line of standard input is a request, answered by one line:
// {"keys": [did, ...]} gives their signing keys in hex, {"settle": true} waits until the AppView has read all events,
// {"verifier": did} makes an account a trusted verifier of the AppView, {"labels": [...]} stores labels there.
import fs from 'node:fs/promises'
import readline from 'node:readline'
import { TestBsky, TestBsync, TestFeedGen, TestPds, TestPlc, RepoSubscription } from '@atproto/dev-env'

const options = JSON.parse(process.argv[2])
const feeds = {}

const plc = await TestPlc.create({ port: options.plc })
const bsync = await TestBsync.create({
  apiKeys: ['bsync-api-key'],
  dbUrl: options.postgres,
  dbSchema: 'bsync',
})
const bsky = await TestBsky.create({
  port: options.appview,
  plcUrl: plc.url,
  bsyncApiKey: 'bsync-api-key',
  bsyncUrl: bsync.url,
  repoProvider: `ws://localhost:${options.pds[0]}`,
  dbPostgresSchema: 'appview',
  dbPostgresUrl: options.postgres,
  labelsFromIssuerDids: [options.ours.did],
})
bsync.ctx.dataplaneClients = [bsky.ctx.dataplane]
const indexers = [
  { url: bsky.url, did: bsky.serverDid },
  { url: options.ours.url, did: options.ours.did },
]
const servers = []
for (const [number, port] of options.pds.entries()) {
  servers.push(
    await TestPds.create({
      port,
      hostname: 'localhost',
      didPlcUrl: plc.url,
      serviceHandleDomains: [number ? '.two.test' : '.one.test'],
      bskyAppViewUrl: indexers[number].url,
      bskyAppViewDid: indexers[number].did,
      crawlers: [],
    }),
  )
}

// Handles are asked of the two servers themselves: nothing here has a name in the DNS.
const resolve = async (handle) => {
  for (const server of servers) {
    const account = await server.ctx.accountManager.getAccount(handle)
    if (account) return account.did
  }
  return undefined
}
const resolvers = [bsky.ctx.idResolver, bsky.dataplane.idResolver]
for (const resolver of [...resolvers, ...servers.map((server) => server.ctx.idResolver)]) {
  resolver.handle.resolve = resolve
}

const second = new RepoSubscription({
  service: `ws://localhost:${options.pds[1]}`,
  db: bsky.db,
  idResolver: bsky.dataplane.idResolver,
})
await second.start()
// One event at a time, of both servers: the AppView's counts and gates depend on what it has read before.
for (const subscription of [bsky.sub, second]) {
  subscription.current.runner.mainQueue = bsky.sub.current.runner.mainQueue
  subscription.background.queue.concurrency = 1
}
bsky.sub.current.runner.mainQueue.concurrency = 1
const generator = await TestFeedGen.create(plc.url, feeds)

const settle = async () => {
  for (const [number, subscription] of [bsky.sub, second].entries()) {
    const last = (await servers[number].ctx.sequencer.curr()) ?? 0
    while ((subscription.getCursor() ?? 0) < last) {
      await new Promise((done) => setTimeout(done, 20))
    }
    await subscription.processAll()
  }
  await bsky.bsyncSub.processAll(await bsync.getStreamHeads())
}

const answer = async (request) => {
  if (request.settle) {
    await settle()
    return true
  }
  if (request.feed) {
    feeds[request.feed.uri] = () => ({ encoding: 'application/json', body: request.feed.body })
    return true
  }
  if (request.verifier) {
    await bsky.db.db.updateTable('actor').set({ trustedVerifier: true }).where('did', '=', request.verifier).execute()
    return true
  }
  if (request.labels) {
    await bsky.db.db.insertInto('label').values(request.labels).execute()
    return true
  }
  const keys = {}
  for (const did of request.keys) {
    for (const server of servers) {
      const { keyLocation } = await server.ctx.actorStore.getLocation(did)
      const key = await fs.readFile(keyLocation).catch(() => undefined)
      if (key) keys[did] = key.toString('hex')
    }
  }
  return keys
}

console.log(
  JSON.stringify({
    plc: plc.url,
    pds: servers.map((server) => server.url),
    appview: { url: bsky.url, did: bsky.serverDid },
    generator: generator.did,
  }),
)
for await (const line of readline.createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(JSON.parse(line)).catch((error) => ({ error: String(error.stack) }))))
}
process.exit(0)
