// The results of the search: what they gain when scripts run.
// 1 marks   2 what stays while results are renewed   3 previews   4 counts of filters   5 before and after
"use strict";

(() => {
  const { find, findAll } = window.saefari;
  const results = find("#results");
  const panel = find("#panel");

  // --- 1 marks ------------------------------------------------------------------------------
  // A button of a result sends the search as the panel stands now, with its own word added.

  let pressed = null;
  const opposite = { up: "down", down: "up" };

  function without(data, name, value) {
    const others = data.getAll(name).filter((other) => other !== value);
    data.delete(name);
    for (const other of others) data.append(name, other);
  }

  results.addEventListener("click", (event) => {
    const tool = event.target.closest(".tool");
    if (!tool) return;
    focused = { id: tool.closest(".tools")?.dataset.of, role: tool.dataset.role };
    pressed = tool.matches("button[form=marks]") ? { name: tool.name, value: tool.value } : null;
  });

  results.addEventListener("formdata", (event) => {
    const data = event.formData;
    if (event.target.id !== "marks" || !pressed) return;
    const page = data.get("page");
    for (const name of new Set(data.keys())) data.delete(name);
    for (const [name, value] of new FormData(find("#steer"))) data.append(name, value);
    if (page) data.set("page", page);
    const { name, value } = pressed;
    if (name === "why") data.delete("against");
    if (name === "why" || name === "against") data.set(name, value);
    else {
      without(data, name, value);
      if (opposite[name]) without(data, opposite[name], value);
      data.append(name, value);
    }
  });

  // --- 2 what stays while results are renewed -----------------------------------------------

  let focused = null;
  let unfolded = new Set();

  const isOurs = (event) => event.detail.ctx.target === results;

  document.addEventListener("htmx:before:swap", (event) => {
    if (isOurs(event)) unfolded = new Set(findAll("details[id][open]", results).map((each) => each.id));
  });

  document.addEventListener("htmx:after:swap", (event) => {
    if (!isOurs(event)) return;
    for (const each of findAll("details[id]", results)) each.open = unfolded.has(each.id);
    if (focused) {
      const tools = findAll(".tools", results).find((each) => each.dataset.of === focused.id);
      (tools && (find(`[data-role="${focused.role}"]`, tools) ?? find(".tool", tools)))?.focus({ preventScroll: true });
    }
    focused = null;
    showCounts();
    if (!isDragging) foretell();
  });

  // --- 3 previews -----------------------------------------------------------------------------
  // The table of previews knows what a notch of each slider would do; the slider at hand shows its row.

  let atHand = null; // { latent, isUp }
  let isDragging = false;

  function clearGhosts() {
    for (const ghost of findAll(".ghost", results)) ghost.remove();
    const line = find("#foretold");
    if (line) line.textContent = "";
  }

  function foretell() {
    clearGhosts();
    const row = atHand && find(`#previews [data-preview="${atHand.latent}"]`);
    if (!row) return;
    const cell = row.cells[atHand.isUp ? 2 : 1];
    find("#foretold").textContent =
      `${row.cells[0].textContent.trim()}, a notch ${atHand.isUp ? "stronger" : "weaker"}: ${cell.textContent.trim()}`;
    const places = cell.dataset.places ? cell.dataset.places.split(" ").map(Number) : [];
    findAll(".result-rank", results).forEach((rank, at) => {
      if (!places[at]) return;
      const ghost = document.createElement("span");
      ghost.className = `ghost ${places[at] > 0 ? "moved-up" : "moved-down"}`;
      ghost.textContent = `${places[at] > 0 ? "▲" : "▼"}${Math.abs(places[at])}`;
      ghost.setAttribute("aria-hidden", "true");
      rank.append(ghost);
    });
  }

  // Left of the knob a pointer means weaker, right of it stronger.
  function isStronger(target, event) {
    const act = target.closest("[data-act]")?.dataset.act;
    if (act === "weaker") return false;
    if (target.type !== "range" || event.clientX === undefined) return true;
    const { left, width } = target.getBoundingClientRect();
    const share = (Number(target.value) - Number(target.min)) / (Number(target.max) - Number(target.min));
    return event.clientX >= left + share * width;
  }

  function reach(event) {
    const row = event.target.closest?.(".slider[data-latent]");
    const next = row ? { latent: row.dataset.latent, isUp: isStronger(event.target, event) } : null;
    if (next?.latent === atHand?.latent && next?.isUp === atHand?.isUp) return;
    atHand = next;
    if (!isDragging) foretell();
  }

  panel.addEventListener("pointermove", reach);
  panel.addEventListener("focusin", (event) => {
    if (event.target.matches(":focus-visible")) reach(event);
  });
  for (const name of ["pointerleave", "focusout"])
    panel.addEventListener(name, () => {
      atHand = null;
      clearGhosts();
    });
  panel.addEventListener("pointerdown", (event) => {
    isDragging = event.target.type === "range";
    if (isDragging) clearGhosts();
  });
  window.addEventListener("pointerup", () => {
    isDragging = false;
  });

  // --- 4 counts of filters ----------------------------------------------------------------------

  function showCounts() {
    const printed = find("#facet-counts")?.dataset.counts ?? "";
    const counts = new Map(printed.split(" ").map((pair) => pair.split(":")));
    const number = (text) => Number(text).toLocaleString("en");
    for (const each of findAll("[data-count]", panel)) {
      const count = counts.get(each.dataset.count);
      if (each.matches("rect")) {
        const height = count ? (23 * Number(count)) / Number(each.ownerSVGElement.dataset.tallest) : 0;
        each.setAttribute("height", height);
        each.setAttribute("y", 24 - height);
      } else if (each.matches("option")) each.textContent = each.dataset.text + (count ? ` (${number(count)})` : "");
      else each.textContent = count ? number(count) : "";
    }
  }

  panel.addEventListener("input", (event) => {
    const share = find("#keywords-share");
    if (share && event.target.id === "keywords") share.textContent = `${Math.round(100 * event.target.value)}\u202f%`;
  });

  // --- 5 before and after -----------------------------------------------------------------------

  function pair(event) {
    const wanted = event.target.closest?.("[data-pair]")?.dataset.pair;
    for (const each of findAll(".ab [data-pair]", results))
      each.classList.toggle("is-paired", each.dataset.pair === wanted);
  }

  results.addEventListener("pointerover", pair);
  results.addEventListener("focusin", pair);
})();
