// Lets the official lexicon validator judge responses. Standard input: lines of JSON {nsid, body}.
// Prints a JSON object: the number of responses, the methods, and the first refusals of each method.
import readline from 'node:readline'
import { jsonToLex, lexicons } from '@atproto/api'

const methods = {}
const refused = {}
let responses = 0
for await (const line of readline.createInterface({ input: process.stdin })) {
  const { nsid, body } = JSON.parse(line)
  responses += 1
  methods[nsid] = (methods[nsid] ?? 0) + 1
  try {
    if (lexicons.get(nsid)?.defs.main.output?.schema) lexicons.assertValidXrpcOutput(nsid, jsonToLex(body))
  } catch (error) {
    const found = (refused[nsid] ??= [])
    if (found.length < 5) found.push(`${error.message}: ${line.slice(0, 600)}`)
  }
}
console.log(JSON.stringify({ responses, methods, refused }))
