// The panel of the search: what it gains when scripts run.
// 1 sliders   2 adding a feature
"use strict";

(() => {
  const { find, findAll, dropEmpty } = window.saefari;
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
      if (!link || !acts[link.dataset.act] || event.ctrlKey || event.metaKey || event.shiftKey) return;
      const row = link.closest("[data-latent]");
      if (!row) return;
      event.preventDefault();
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
})();
