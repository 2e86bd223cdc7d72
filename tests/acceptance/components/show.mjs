// Open the components in Chromium; print their texts, the requests and the errors.
// Arguments: a JSON object with the values of `page.mjs` and `page`, the page's address.
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { build } from "esbuild";
import { chromium } from "playwright-core";

const PATIENCE_MS = 20_000;
const PARTS = ["post", "comments", "comments-by-link", "author-feed", "feed", "search"];

const shown = JSON.parse(process.argv[2]);
const host = new URL(shown.page).host;

// Two components have a fixed service: the bundle names ours instead.
const ownService = {
  name: "own-service",
  setup(bundler) {
    bundler.onLoad({ filter: /(bsky-embed|bluesky-comments)\.es\.js$/ }, async (file) => {
      const code = await readFile(file.path, "utf8");
      const address = /https:\/\/(public\.)?api\.bsky\.app/g;
      if (!address.test(code)) throw new Error(`${file.path} names no service`);
      return { contents: code.replaceAll(address, shown.service), loader: "js" };
    });
  },
};

const { outputFiles } = await build({
  entryPoints: [new URL("page.mjs", import.meta.url).pathname],
  absWorkingDir: new URL(".", import.meta.url).pathname,
  bundle: true,
  format: "iife",
  outdir: "out",
  write: false,
  logLevel: "error",
  define: { "process.env.NODE_ENV": '"production"' },
  plugins: [ownService],
});
const bundled = (suffix) => outputFiles.find((file) => file.path.endsWith(suffix)).text;
const files = {
  "/page.js": ["text/javascript", bundled(".js")],
  "/page.css": ["text/css", bundled(".css")],
};
const html = `<!doctype html><html lang="en"><meta charset="utf-8"><title>Components</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="/page.css"><body>
<script>window.shown = ${JSON.stringify(shown)};</script><script src="/page.js"></script>`;

const server = createServer((request, response) => {
  const [type, text] = files[request.url] ?? ["text/html", html];
  response.writeHead(200, { "content-type": `${type}; charset=utf-8` });
  response.end(text);
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    `--host-resolver-rules=MAP ${host} 127.0.0.1:${server.address().port},` +
      "MAP * ~NOTFOUND,EXCLUDE localhost",
  ],
});

// The text of an element with the open shadow roots in it.
function textOf(id) {
  const read = (node) => {
    if (node.nodeName === "STYLE") return "";
    if (node.nodeType === Node.TEXT_NODE) return node.textContent;
    const children = [...(node.shadowRoot?.childNodes ?? []), ...node.childNodes];
    return children.map(read).join(" ");
  };
  return read(document.getElementById(id)).replace(/\s+/g, " ").trim();
}

const requests = [];
const errors = [];
try {
  const page = await browser.newPage({ viewport: { width: 800, height: 1000 } });
  const note = (request, status) => {
    if (request.url().startsWith("http") && new URL(request.url()).host !== host) {
      requests.push({ method: request.method(), url: request.url(), status });
    }
  };
  page.on("response", (response) => note(response.request(), response.status()));
  page.on("requestfailed", (request) => note(request, request.failure().errorText));
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") errors.push(message.text());
  });
  await page.goto(shown.page);
  // The first two are drawn last: they wait for a thread.
  await page
    .waitForFunction(
      ([read, parts, words]) => {
        const text = new Function(`return ${read}`)();
        return parts.every((part) => text(part).includes(words));
      },
      [textOf.toString(), PARTS, shown.words],
      { timeout: PATIENCE_MS },
    )
    .catch((error) => errors.push(error.message));
  await page.waitForLoadState("networkidle");
  const texts = {};
  for (const part of PARTS) texts[part] = await page.evaluate(textOf, part);
  if (process.env.SCREENSHOT) {
    await page.screenshot({ path: process.env.SCREENSHOT, fullPage: true });
  }
  console.log(JSON.stringify({ texts, requests, errors }));
} finally {
  await browser.close();
  server.close();
}
