// Lets the reference library judge a whole-repo CAR.
// Arguments: CAR file, DID, signing key as did:key. Prints the number of records that it proved.
import fs from 'node:fs'
import { readCarWithRoot, verifyRepo } from '@atproto/repo'

const [file, did, signingKey] = process.argv.slice(2)
const { root, blocks } = await readCarWithRoot(fs.readFileSync(file))
const verified = await verifyRepo(blocks, root, did, signingKey)
console.log(JSON.stringify({ records: verified.creates.length, commit: verified.commit.cid.toString() }))
