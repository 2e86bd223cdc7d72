// Calls of XRPC methods: queries and procedures over HTTP, streams over WebSockets.
// It needs `fetch` and `WebSocket`: a browser, or Node 22.18 and later.

/**
 * token: access token of the PDS, or service token of the provider.
 * proxy: service that the PDS forwards to, such as did:web:example.com#bsky_appview.
 * headers: more headers of each request, such as accept-language.
 * timeout: milliseconds for a reply.
 */
export interface Options {
  token?: string
  proxy?: string
  headers?: Record<string, string>
  timeout?: number
}

/** A refusal. The status is 0 for a stream that the server ends with an error. */
export class XrpcError extends Error {
  readonly status: number
  readonly error: string

  constructor(status: number, error: string, message: string) {
    super(message ? `${error}: ${message}` : error)
    this.name = 'XrpcError'
    this.status = status
    this.error = error
  }
}

export class Transport {
  #service: string
  #headers: Record<string, string>
  #timeout: number

  constructor(service: string, options: Options = {}) {
    this.#service = service.replace(/\/+$/, '')
    this.#timeout = options.timeout ?? 30_000
    this.#headers = { accept: 'application/json', ...options.headers }
    if (options.token) this.#headers['authorization'] = `Bearer ${options.token}`
    if (options.proxy) this.#headers['atproto-proxy'] = options.proxy
  }

  /** Return the reply of a query. Throws XrpcError. */
  query<Output>(nsid: string, params: object): Promise<Output> {
    return this.#send(this.#url(nsid, params), { headers: this.#headers })
  }

  /** Return the reply of a procedure, or undefined if it has none. Throws XrpcError. */
  procedure<Output>(nsid: string, body: object): Promise<Output> {
    const given = JSON.stringify(body)
    const init: RequestInit = { method: 'POST', headers: this.#headers }
    if (given !== '{}') {
      init.body = given
      init.headers = { ...this.#headers, 'content-type': 'application/json' }
    }
    return this.#send(this.#url(nsid, {}), init)
  }

  /** Yield the messages of a stream until the server or the caller ends it. */
  async *subscribe<Message>(nsid: string, params: object): AsyncGenerator<Message> {
    const url = this.#url(nsid, params).replace(/^http/, 'ws')
    const socket = new WebSocket(url, ['xrpc.v1.json'])
    const waiting: string[] = []
    let ended = false
    let failed = false
    let wake = () => {}
    socket.onmessage = (event) => {
      waiting.push(String(event.data))
      wake()
    }
    socket.onerror = () => {
      failed = true
      ended = true
      wake()
    }
    socket.onclose = () => {
      ended = true
      wake()
    }
    try {
      for (;;) {
        const next = waiting.shift()
        if (next !== undefined) {
          yield readMessage<Message>(next)
        } else if (ended) {
          if (failed) throw new XrpcError(0, 'ConnectionFailed', url.split('?')[0]!)
          return
        } else {
          await new Promise<void>((resolve) => (wake = resolve))
        }
      }
    } finally {
      socket.close()
    }
  }

  async #send<Output>(url: string, init: RequestInit): Promise<Output> {
    const signal = AbortSignal.timeout(this.#timeout)
    const reply = await fetch(url, { ...init, signal })
    const text = await reply.text()
    if (!reply.ok) throw readError(reply.status, text)
    if (!text) return undefined as Output
    try {
      return JSON.parse(text) as Output
    } catch {
      throw new XrpcError(reply.status, 'InvalidResponse', 'no JSON')
    }
  }

  #url(nsid: string, params: object): string {
    const query = new URLSearchParams()
    for (const [name, value] of Object.entries(params)) {
      for (const item of Array.isArray(value) ? value : [value]) {
        if (item !== undefined && item !== null) query.append(name, String(item))
      }
    }
    const text = query.toString()
    return `${this.#service}/xrpc/${nsid}${text && `?${text}`}`
  }
}

/** Yield the pages of a query with a cursor, to the end. */
export async function* readPages<
  Params extends { cursor?: string },
  Page extends { cursor?: string },
>(call: (params: Params) => Promise<Page>, params: Params): AsyncGenerator<Page> {
  let cursor: string | undefined
  for (;;) {
    const page = await call({ ...params, cursor })
    yield page
    if (!page.cursor || page.cursor === cursor) return
    cursor = page.cursor
  }
}

function readMessage<Message>(text: string): Message {
  const value = JSON.parse(text)
  if ('error' in value) throw new XrpcError(0, value.error, value.message ?? '')
  return value as Message
}

function readError(status: number, text: string): XrpcError {
  try {
    const value = JSON.parse(text)
    if (typeof value.error === 'string') {
      return new XrpcError(status, value.error, String(value.message ?? ''))
    }
  } catch {
    // A server in between has no names of errors.
  }
  return new XrpcError(status, `HTTP${status}`, '')
}
