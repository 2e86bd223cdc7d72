// Type-check our TypeScript client, then call a provider with it; print what it sees.
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const [folder, text] = process.argv.slice(2)
const asked = JSON.parse(text)
const { Project } = createRequire(import.meta.url)('ts-morph')

const project = new Project({
  compilerOptions: {
    strict: true,
    noEmit: true,
    target: 99,
    module: 99,
    moduleResolution: 100,
    lib: ['lib.esnext.d.ts', 'lib.dom.d.ts', 'lib.dom.iterable.d.ts'],
    types: [],
    erasableSyntaxOnly: true,
    allowImportingTsExtensions: true,
    noUncheckedIndexedAccess: true,
  },
})
project.addSourceFilesAtPaths(join(folder, '*.ts'))
const typeErrors = project
  .getPreEmitDiagnostics()
  .map((d) => `${d.getSourceFile()?.getBaseName()}:${d.getLineNumber()} ${JSON.stringify(d.getMessageText())}`)

const { Client, readPages } = await import(pathToFileURL(join(folder, 'index.ts')).href)
const client = new Client(asked.service, { headers: { 'x-viewer': asked.viewer } })
const found = await client.search.searchRecords({ q: 'quokka', facets: true })
const links = []
const params = { subject: asked.uri, limit: 1 }
for await (const page of readPages(client.link.getBacklinks, params)) {
  links.push(...page.links)
}
const error = await client.link
  .getBacklinks({ subject: 'nothing at all' })
  .then(() => null, (refused) => [refused.status, refused.error])
const saved = await client.search.listSavedSearches()
let match = 0
const stream = client.search.subscribeMatches({ key: [asked.key], cursor: asked.cursor })
for await (const message of stream) {
  match = message.seq
  break
}
console.log(JSON.stringify({ typeErrors, found, links, error, saved, match }))
