// The island: what a page gains when scripts run. Pages are complete without it.
// 1 sliders   2 adding a feature   3 messages   4 copy and keyboard
"use strict";

(() => {
  const find = (selector, root = document) => root.querySelector(selector);
  const findAll = (selector, root = document) => [...root.querySelectorAll(selector)];
  const steer = find("#steer");
  const finder = find("#finder");

  // --- 1 sliders ----------------------------------------------------------------------------
  // A row's state is its data-strength, and data-moved where that differs from the query's own activation.

  const rowsOf = (form) => findAll("[data-latent]", form);
  const numbersOf = (row) =>
    Object.fromEntries(["own", "low", "high", "step", "strength"].map((name) => [name, Number(row.dataset[name])]));

  function decimalsOf(step) {
    return Math.min(3, Math.max(2, Math.ceil(-Math.log10(step))));
  }

  function printed(value, step) {
    const text = value.toFixed(decimalsOf(step));
    return Number(text) === 0 ? text.replace("-", "") : text;
  }

  function signed(value, step) {
    const text = printed(value, step);
    return text.startsWith("-") ? text : `+${text}`;
  }

  function setStrength(row, wanted, source) {
    const { own, low, high, step } = numbersOf(row);
    let strength = Math.min(high, Math.max(low, wanted));
    const isMoved = Math.abs(strength - own) > step / 2;
    if (!isMoved) strength = own; // the query's own activation seldom lies on the slider's grid
    row.dataset.strength = strength;
    row.toggleAttribute("data-moved", isMoved);
    row.classList.toggle("is-moved", isMoved);

    const range = find("input[type=range]", row);
    const number = find("input[type=number]", row);
    if (source !== range) range.value = strength;
    if (source !== number) number.value = printed(strength, step);
    range.setAttribute("aria-valuetext", `${signed(strength, step)}; the query's own is ${signed(own, step)}`);

    const place = (value) => (100 * (value - low)) / (high - low);
    const fill = find(".rail-fill", row);
    fill.setAttribute("x", Math.min(place(0), place(strength)));
    fill.setAttribute("width", Math.abs(place(strength) - place(0)));
    fill.classList.toggle("is-negative", strength < 0);
  }

  // Thousandths are for fields; a hand on the slider feels the query's own value, and arrow keys take 1 % at a time.
  let isDragging = false;

  function felt(range, row) {
    const { own, low, high } = numbersOf(row);
    const value = Number(range.value);
    return isDragging && Math.abs(value - own) < (high - low) / 80 ? own : value;
  }

  function changed() {
    steer.dispatchEvent(new Event("input", { bubbles: true }));
  }

  const acts = {
    own: (row, n) => setStrength(row, n.own),
    zero: (row) => setStrength(row, 0),
    weaker: (row, n) => setStrength(row, n.strength - notch(n)),
    stronger: (row, n) => setStrength(row, n.strength + notch(n)),
    remove: (row) => row.remove(),
  };

  function notch({ low, high, step }, parts = 10) {
    return Math.max(step, Math.round((high - low) / parts / step) * step);
  }

  // Latents in the order in which they were first moved: the last one is what `u` undoes.
  let order = [];

  function noteOrder(row) {
    const { latent } = row.dataset;
    const isSent = row.isConnected && row.matches("[data-moved], [data-kept]");
    if (!isSent) order = order.filter((other) => other !== latent);
    else if (!order.includes(latent)) order.push(latent);
  }

  // What the form sends: moved and added sliders as f=812:+0.40, nothing for what is left as it was.
  function writeState(data) {
    for (const latent of order) {
      const { strength, step } = numbersOf(find(`#s${latent}`));
      data.append("f", `${latent}:${signed(strength, step)}`);
    }
    dropEmpty(data);
  }

  function dropEmpty(data) {
    for (const [name, value] of [...data]) if (value === "") data.delete(name);
  }

  function wakeSliders() {
    for (const row of rowsOf(steer)) for (const input of findAll("input", row)) input.disabled = false;
    for (const field of findAll("input[type=hidden][name=f]", steer)) {
      const row = find(`#s${field.value.split(":")[0]}`);
      if (!row) continue; // a feature that the panel does not show keeps its field
      field.remove();
      noteOrder(row);
    }

    steer.addEventListener("input", (event) => {
      const { target } = event;
      const row = target.closest("[data-latent]");
      if (!row || target.value === "") return;
      setStrength(row, target.type === "range" ? felt(target, row) : Number(target.value), target);
      noteOrder(row);
    });
    steer.addEventListener("change", (event) => {
      isDragging = false;
      const row = event.target.closest("[data-latent]");
      if (row) setStrength(row, numbersOf(row).strength);
    });
    steer.addEventListener("pointerdown", (event) => {
      isDragging = event.target.type === "range";
    });
    steer.addEventListener("keydown", (event) => {
      isDragging = false;
      const by = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
      if (event.target.type !== "range" || !by) return;
      event.preventDefault();
      const row = event.target.closest("[data-latent]");
      const n = numbersOf(row);
      setStrength(row, n.strength + by * (event.shiftKey ? n.step : notch(n, 100)));
      noteOrder(row);
      changed();
    });
    steer.addEventListener("click", (event) => {
      const link = event.target.closest("a[data-act]");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      const row = link.closest("[data-latent]");
      acts[link.dataset.act](row, numbersOf(row));
      noteOrder(row);
      changed();
    });
    steer.addEventListener("formdata", (event) => {
      writeState(event.formData);
      const words = find("#find")?.value;
      if (words) event.formData.set("find", words);
    });
  }

  // --- 2 adding a feature -------------------------------------------------------------------

  function wakeFinder() {
    finder.addEventListener("formdata", (event) => {
      const words = event.formData.get("find");
      for (const name of new Set(event.formData.keys())) event.formData.delete(name);
      for (const [name, value] of new FormData(steer)) event.formData.append(name, value);
      event.formData.delete("find");
      if (words) event.formData.set("find", words);
    });
    find("#found").addEventListener("click", (event) => {
      const link = event.target.closest("a[data-add]");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      const latent = link.dataset.add;
      const shown = find(`#s${latent}`);
      if (shown) {
        shown.closest("details")?.setAttribute("open", "");
        find("input[type=range]", shown).focus();
        return;
      }
      // The link was made before the sliders moved: take only its feature, and the sliders as they stand.
      const strengths = new URL(link.href).searchParams.getAll("f");
      const added = Object.assign(document.createElement("input"), { type: "hidden", name: "f" });
      added.value = strengths.find((f) => f.startsWith(`${latent}:`)).replace(" ", "+");
      steer.append(added);
      find("#find").value = "";
      steer.requestSubmit();
    });
  }

  if (steer) wakeSliders();
  if (steer && finder) wakeFinder();
  // A form prints its address in its own way: show the one that links have.
  const address = find("[data-address]")?.dataset.address;
  if (address && address !== location.pathname + location.search)
    history.replaceState(history.state, "", address + location.hash);
  for (const form of findAll("form[data-tidy]")) form.addEventListener("formdata", (e) => dropEmpty(e.formData));

  // --- 3 messages ---------------------------------------------------------------------------

  const announce = (text) => {
    find("#announcer").textContent = text;
  };

  document.addEventListener("htmx:after:swap", (event) => {
    const { ctx } = event.detail;
    if (ctx.response?.status >= 400) return;
    find("#error")?.replaceChildren();
    const summary = find("[data-announce]", ctx.target instanceof Element ? ctx.target : document);
    if (summary) announce(summary.textContent.trim());
    if (unfolded) find(`#${unfolded} li a`)?.focus();
    unfolded = null;
  });

  // Where a branch of a tree is unfolded, the link that did it is gone: the focus goes to what it brought.
  let unfolded = null;
  document.addEventListener("click", (event) => {
    unfolded = event.target.closest("a[data-open]")?.dataset.open ?? null;
  });

  document.addEventListener("htmx:error", () => {
    const message = Object.assign(document.createElement("p"), { className: "message" });
    message.textContent = "The server did not answer. What you set is kept: change something to try again, or reload.";
    find("#error")?.replaceChildren(message);
  });

  // --- 4 copy and keyboard ------------------------------------------------------------------

  async function copyLink() {
    const button = find("[data-copy-link]:not([hidden])");
    try {
      await navigator.clipboard.writeText(location.href);
      announce("Link copied");
      if (button) flash(button, "Copied");
    } catch {
      // Only secure addresses may write to the clipboard.
      window.prompt("Copy this link", location.href);
    }
  }

  function flash(button, text) {
    button.dataset.text ??= button.textContent;
    button.textContent = text;
    setTimeout(() => (button.textContent = button.dataset.text), 1600);
  }

  function moveRow(by) {
    const rows = findAll("[data-row]").filter((row) => row.offsetParent !== null);
    if (!rows.length) return;
    const at = rows.indexOf(document.activeElement);
    const next = at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by));
    rows[next].focus();
    rows[next].scrollIntoView({ block: "nearest" });
  }

  const keys = {
    "/": () => find("[data-search]")?.select(),
    j: () => moveRow(1),
    k: () => moveRow(-1),
    "[": () => find("main a[rel=prev]")?.click(),
    "]": () => find("main a[rel=next]")?.click(),
    u: () => findAll("[data-undo]").at(-1)?.click(),
    r: () => find("[data-reset]")?.click(),
    c: copyLink,
    "?": () => find("#keys").showModal(),
  };

  function isTyping(element) {
    if (element.isContentEditable || element.matches("textarea, select")) return true;
    return element.matches("input:not([type=range], [type=checkbox], [type=radio])");
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (isTyping(event.target) || find("#keys").open || !Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  });

  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-copy-link]")) copyLink();
    if (event.target.closest("[data-open-keys]")) keys["?"]();
  });

  for (const element of findAll("[data-needs-script]")) element.hidden = false;
})();
