// Suggests accounts in the search box. Pages work without it.
const WAIT_MS = 150;
const MOST = 8;

function profileLink(actor) {
  return "/profile/" + encodeURIComponent(actor.did).replaceAll("%3A", ":");
}

class Typeahead {
  constructor(input) {
    this.input = input;
    this.actors = [];
    this.chosen = -1;
    this.timer = 0;
    this.asking = false;
    this.again = false;
    this.list = document.createElement("ul");
    this.list.className = "typeahead";
    this.list.id = "typeahead";
    this.list.hidden = true;
    this.list.setAttribute("role", "listbox");
    this.list.setAttribute("aria-label", "Accounts");
    input.closest("form").append(this.list);
    input.autocomplete = "off";
    for (const [name, value] of Object.entries({
      role: "combobox", "aria-autocomplete": "list",
      "aria-controls": this.list.id, "aria-expanded": "false",
    })) input.setAttribute(name, value);
    input.addEventListener("input", () => this.schedule());
    input.addEventListener("keydown", (event) => this.onKey(event));
    input.addEventListener("blur", () => setTimeout(() => this.close(), 150));
  }

  // The last word, if it is all letters that may begin a handle or name.
  term() {
    const text = this.input.value.trim().replace(/^@/, "");
    return /[":()]/.test(text) || text.length > 64 ? "" : text;
  }

  schedule() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), WAIT_MS);
  }

  // One request at a time; the newest text is asked for when it ends.
  async ask() {
    if (this.asking) {
      this.again = true;
      return;
    }
    const term = this.term();
    if (!term) return this.close();
    this.asking = true;
    try {
      const params = new URLSearchParams({ q: term, limit: String(MOST) });
      const reply = await fetch("/xrpc/app.bsky.actor.searchActorsTypeahead?" + params);
      const answer = reply.ok ? await reply.json() : { actors: [] };
      if (document.activeElement === this.input) this.show(answer.actors);
    } catch {
      this.close();
    } finally {
      this.asking = false;
      if (this.again) {
        this.again = false;
        this.schedule();
      }
    }
  }

  show(actors) {
    this.actors = actors;
    this.chosen = -1;
    this.list.replaceChildren(...actors.map((actor, place) => this.option(actor, place)));
    this.list.hidden = actors.length === 0;
    this.input.setAttribute("aria-expanded", String(actors.length > 0));
    this.input.removeAttribute("aria-activedescendant");
  }

  option(actor, place) {
    const option = document.createElement("li");
    const name = document.createElement("b");
    const handle = document.createElement("span");
    name.textContent = actor.displayName || actor.handle;
    handle.textContent = " @" + actor.handle;
    handle.className = "handle";
    option.id = "typeahead-" + place;
    option.setAttribute("role", "option");
    option.setAttribute("aria-selected", "false");
    option.append(name, handle);
    option.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      location.assign(profileLink(actor));
    });
    return option;
  }

  onKey(event) {
    if (event.isComposing || this.list.hidden) return;
    const count = this.actors.length;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const step = event.key === "ArrowDown" ? 1 : -1;
      // One place more than options: the text itself.
      this.choose(((this.chosen + 1 + step + count + 1) % (count + 1)) - 1);
    } else if (event.key === "Enter" && this.chosen >= 0) {
      location.assign(profileLink(this.actors[this.chosen]));
    } else if (event.key === "Escape") {
      this.close();
    } else {
      return;
    }
    event.preventDefault();
  }

  choose(place) {
    this.chosen = place;
    for (const [number, option] of [...this.list.children].entries()) {
      option.setAttribute("aria-selected", String(number === place));
      if (number === place) option.scrollIntoView({ block: "nearest" });
    }
    if (place < 0) this.input.removeAttribute("aria-activedescendant");
    else this.input.setAttribute("aria-activedescendant", "typeahead-" + place);
  }

  close() {
    this.show([]);
  }
}

const box = document.querySelector("[data-typeahead]");
if (box) new Typeahead(box);
