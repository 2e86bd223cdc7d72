// Runs the reference PLC directory and PDS until standard input closes.
// Arguments: PLC port, PDS port, URL and DID of the indexer that the PDS asks and announces itself to.
import { TestNetworkNoAppView } from '@atproto/dev-env'

const [plcPort, pdsPort, indexerUrl, indexerDid] = process.argv.slice(2)
const network = await TestNetworkNoAppView.create({
  plc: { port: Number(plcPort) },
  pds: {
    port: Number(pdsPort),
    hostname: 'localhost',
    bskyAppViewUrl: indexerUrl,
    bskyAppViewDid: indexerDid,
    crawlers: [indexerUrl],
  },
})
console.log(JSON.stringify({ plc: network.plc.url, pds: network.pds.url }))
process.stdin.resume()
process.stdin.on('end', async () => {
  await network.close()
  process.exit(0)
})
