// Keys of result pages: / focuses the search box, j and k move, Enter opens.
const cards = [...document.querySelectorAll("main .card.post, main .card.account, main .card.generator, main .card.record")];
let current = -1;

function move(step) {
  const next = Math.min(Math.max(current + step, 0), cards.length - 1);
  if (!cards.length || next === current) return;
  cards[current]?.classList.remove("current");
  current = next;
  const card = cards[current];
  card.classList.add("current");
  card.tabIndex = -1;
  card.focus({ preventScroll: true });
  card.scrollIntoView({ block: "center" });
}

function open() {
  const card = cards[current];
  const link = ["a.time", "a.who", "a.proof"]
    .map((kind) => card.querySelector(`:scope ${kind}`))
    .find((found) => found);
  if (link) location.assign(link.href);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const at = event.target;
  if (at instanceof Element && at.closest("input, textarea, select")) {
    if (event.key === "Escape") at.blur();
    return;
  }
  if (event.key === "/") {
    const box = document.querySelector("input[type=search]");
    if (!box) return;
    event.preventDefault();
    box.focus();
    box.select();
  } else if (event.key === "j") {
    move(1);
  } else if (event.key === "k") {
    move(-1);
  } else if (event.key === "Enter" && at === cards[current]) {
    event.preventDefault();
    open();
  }
});
