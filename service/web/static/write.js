// Previews a recipe while it is written, and explains posts in place. The form works
// without it.
const WAIT_MS = 700;
const form = document.querySelector("[data-live-form]");

class Live {
  constructor() {
    this.timer = 0;
    this.busy = false;
    this.again = false;
    form.elements.recipe.addEventListener("input", () => this.schedule());
    form.addEventListener("submit", (event) => {
      const pressed = event.submitter;
      if (pressed?.value === "download") return;
      event.preventDefault();
      this.send(pressed);
    });
    this.send(null);
  }

  schedule() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.send(null), WAIT_MS);
  }

  // One request at a time; the newest text is sent when it ends.
  async send(pressed) {
    if (this.busy) {
      this.again = true;
      return;
    }
    this.busy = true;
    try {
      const values = new URLSearchParams({ recipe: form.elements.recipe.value });
      const typed = document.getElementById("ask")?.value;
      if (pressed?.name === "explain") values.set("explain", pressed.value);
      else if (pressed && typed) values.set("ask", typed);
      const reply = await fetch(form.getAttribute("action"), { method: "POST", body: values });
      const text = await reply.text();
      if (reply.headers.get("content-type")?.startsWith("text/html")) this.show(text, pressed);
      else this.fail(text);
    } catch {
      this.fail("The provider does not answer.");
    } finally {
      this.busy = false;
      if (this.again) {
        this.again = false;
        this.schedule();
      }
    }
  }

  show(text, pressed) {
    const page = new DOMParser().parseFromString(text, "text/html");
    const found = page.getElementById("result");
    if (!found) return this.fail(page.querySelector(".problem")?.textContent ?? "");
    document.getElementById("result").replaceWith(document.adoptNode(found));
    if (pressed) document.getElementById("explanation")?.scrollIntoView({ block: "center" });
  }

  fail(text) {
    const problem = document.createElement("p");
    problem.className = "problem";
    problem.textContent = text;
    document.getElementById("result").replaceChildren(problem);
  }
}

if (form) new Live();
