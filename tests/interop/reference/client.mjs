// The official client goes through a whole visit of three accounts: boot, writing, reading every screen, settings.
// Argument: JSON {pds, domain, prefix, proxy}: the PDS, its handle domain, the start of the handles, the atproto-proxy.
// Prints a JSON list of steps, {name, ok, error}. A step that reads a fresh record is tried again for a while.
import { AtpAgent, RichText, lexicons, lexToJson } from '@atproto/api'
import { reads } from './client_reads.mjs'
import { settings } from './client_settings.mjs'
import { writes } from './client_writes.mjs'

const options = JSON.parse(process.argv[2])
const steps = []
const PATIENCE = 15_000

const expect = (condition, what) => {
  if (!condition) throw new Error(`expected ${what}`)
}

const note = (name, error) => {
  const text = error && `${error.status ?? ''} ${error.error ?? ''} ${error.message ?? error}`.trim()
  steps.push(error ? { name, ok: false, error: text.slice(0, 300) } : { name, ok: true })
}

/** Run a step once; return its result, undefined after a failure. */
const step = async (name, run) => {
  try {
    const result = await run()
    note(name)
    return result
  } catch (error) {
    note(name, error)
    return undefined
  }
}

/** Run a step until it passes. */
const eventually = async (name, run) => {
  const end = Date.now() + PATIENCE
  for (;;) {
    try {
      const result = await run()
      note(name)
      return result
    } catch (error) {
      if (Date.now() > end || error?.status === 501) {
        note(name, error)
        return undefined
      }
      await new Promise((done) => setTimeout(done, 250))
    }
  }
}

/** A step that must be refused with this error name. */
const refused = (name, wanted, run) =>
  step(name, async () => {
    try {
      await run()
    } catch (error) {
      expect(wanted.split('|').includes(error.error), `${wanted}, not ${error.error}: ${error.message}`)
      return
    }
    throw new Error(`expected ${wanted}, not success`)
  })

const agents = {}
for (const who of ['ann', 'ben', 'cat']) {
  const agent = new AtpAgent({ service: options.pds })
  const handle = `${options.prefix}${who}${options.domain}`
  await step(`create account of ${who}`, () =>
    agent.createAccount({ handle, email: `${handle}@example.com`, password: 'reference-password' }),
  )
  const logged = new AtpAgent({ service: options.pds })
  await step(`log in as ${who}`, () => logged.login({ identifier: handle, password: 'reference-password' }))
  if (options.proxy) logged.configureProxy(options.proxy)
  agents[who] = logged
}
const world = { ...agents, step, eventually, refused, expect, RichText, prefix: options.prefix, domain: options.domain }
world.dids = Object.fromEntries(Object.entries(agents).map(([who, agent]) => [who, agent.session?.did]))
// Answers are checked as the client itself does not: every reply by the lexicon of its method.
for (const agent of Object.values(agents)) {
  const call = agent.call.bind(agent)
  agent.call = async (nsid, ...rest) => {
    const reply = await call(nsid, ...rest)
    if (lexicons.get(nsid)?.defs.main.output?.schema) lexicons.assertValidXrpcOutput(nsid, reply.data)
    return reply
  }
}
await writes(world)
await reads(world)
await settings(world)
console.log(JSON.stringify(steps))
process.exit(0)
