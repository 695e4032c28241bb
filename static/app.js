// The island: what a page gains when scripts run. Pages are complete without it.
// 1 what scripts share   2 messages   3 copy and keyboard
"use strict";

(() => {
  const find = (selector, root = document) => root.querySelector(selector);
  const findAll = (selector, root = document) => [...root.querySelectorAll(selector)];

  // --- 1 what scripts share -----------------------------------------------------------------

  function dropEmpty(data) {
    for (const [name, value] of [...data]) if (value === "") data.delete(name);
  }

  const announce = (text) => {
    find("#announcer").textContent = text;
  };

  window.saefari = { find, findAll, dropEmpty, announce };

  // A form prints its address in its own way: show the one that links have.
  const address = find("[data-address]")?.dataset.address;
  if (address && address !== location.pathname + location.search)
    history.replaceState(history.state, "", address + location.hash);
  for (const form of findAll("form[data-tidy]")) form.addEventListener("formdata", (e) => dropEmpty(e.formData));

  // --- 2 messages ---------------------------------------------------------------------------

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

  // --- 3 copy and keyboard ------------------------------------------------------------------

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

  async function copyFrom(button) {
    const text = find(`#${button.dataset.copyFrom}`);
    try {
      await navigator.clipboard.writeText(text.value);
      announce("Copied");
      flash(button, "Copied");
    } catch {
      text.select(); // only secure addresses may write to the clipboard
    }
  }

  // A form that stores the view as it stands: the address follows what was moved since the page was made.
  document.addEventListener("formdata", (event) => {
    const field = find("[data-here]", event.target);
    if (field) event.formData.set(field.name, location.pathname + location.search);
  });

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
    u: () => (find("button[data-step=undo]:enabled") ?? findAll("[data-undo]").at(-1))?.click(),
    U: () => find("button[data-step=redo]:enabled")?.click(),
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
    const copy = event.target.closest("[data-copy-from]");
    if (copy) copyFrom(copy);
  });

  for (const element of findAll("[data-needs-script]")) element.hidden = false;
})();
