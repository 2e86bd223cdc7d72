// Refreshes the counters of the status page.
const tiles = document.querySelector("[data-live]");

async function refresh() {
  if (document.hidden) return;
  const answer = await fetch(tiles.dataset.live);
  if (!answer.ok) return;
  const status = await answer.json();
  for (const element of tiles.querySelectorAll("[data-count]")) {
    element.textContent = status[element.dataset.count].toLocaleString("en");
  }
}

setInterval(() => refresh().catch(() => {}), 2000);
