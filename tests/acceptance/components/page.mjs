// The page that the browser opens: each component once in each of its modes.
import "bluesky-post-embed";
import "bluesky-post-embed/style.css";
import "bluesky-post-embed/themes/light.css";
import "bluesky-comments/bluesky-comments.css";
import "bsky-embed/dist/bsky-embed.es.js";
import { BlueskyComments } from "bluesky-comments";
import { createElement } from "react";
import { createRoot } from "react-dom/client";

const { service, uri, link, handle, feed, words } = window.shown;

function place(id, tag, attributes) {
  const element = document.createElement(tag);
  element.id = id;
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, value);
  }
  document.body.append(element);
  return element;
}

function comments(id, properties) {
  createRoot(place(id, "div", {})).render(createElement(BlueskyComments, properties));
}

place("post", "bluesky-post", { src: uri, "service-uri": service });
comments("comments", { uri: link });
// Without the address of a post the component searches for one that links to this page.
comments("comments-by-link", { author: handle });
place("author-feed", "bsky-embed", { username: handle, limit: "5" });
place("feed", "bsky-embed", { feed, limit: "5" });
place("search", "bsky-embed", { search: words, limit: "5" });
