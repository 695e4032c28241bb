// The panel of the search: what it gains when scripts run.
// 1 sliders   2 modes, families   3 what is sent   4 hands   5 adding, lenses, links   6 undo and redo
"use strict";

(() => {
  const { find, findAll, dropEmpty, announce } = window.saefari;
  const steer = find("#steer");
  if (!steer) return;
  const finder = find("#finder");
  const phrases = JSON.parse(steer.dataset.phrases);

  // --- 1 sliders ----------------------------------------------------------------------------
  // A row's state is its data-strength, and data-moved where that differs from where it stands unless it is
  // moved by hand: at the query's own activation, or where a lens puts it.

  const rowsOf = (form) => findAll("[data-slider]", form);
  const numbersOf = (row) =>
    Object.fromEntries(["own", "base", "low", "high", "step", "strength"].map((name) => [name, Number(row.dataset[name])]));

  function printed(value) {
    const text = value.toFixed(3);
    return Number(text) === 0 ? text.replace("-", "") : text;
  }

  function signed(value) {
    const text = printed(value).replace(/0$/, "");
    return text.startsWith("-") ? text : `+${text}`;
  }

  function phraseOf(row, strength) {
    if (!row.dataset.bounds) return "";
    if (strength <= 0) return phrases[strength < 0 ? 0 : 1];
    const bounds = row.dataset.bounds.split(" ").map(Number);
    const most = bounds.pop();
    return phrases[2 + bounds.filter((bound) => strength >= bound).length + (strength > most)];
  }

  function setStrength(row, wanted, source) {
    const { own, base, low, high, step } = numbersOf(row);
    let strength = Math.min(high, Math.max(low, wanted));
    // Neither seldom lies on the slider's grid.
    for (const place of [own, base]) if (Math.abs(strength - place) <= step / 2) strength = place;
    row.dataset.strength = strength;
    row.toggleAttribute("data-moved", strength !== base);
    row.classList.toggle("is-moved", strength !== own);

    const range = find("input[type=range]", row);
    const number = find("input[type=number]", row);
    if (source !== range) range.value = strength;
    if (source !== number) number.value = printed(strength);
    const isBeyond = wanted < low || wanted > high;
    if (isBeyond && source === number) number.setAttribute("aria-invalid", "true");
    else number.removeAttribute("aria-invalid");
    const words = phraseOf(row, strength);
    if (words) find(".slider-words", row).textContent = words;
    const long = words ? `, ${words}; the query's own is ${signed(own)}` : "";
    range.setAttribute("aria-valuetext", signed(strength) + long);

    const place = (value) => (100 * (value - low)) / (high - low);
    const fill = find(".rail-fill", row);
    fill.setAttribute("x", Math.min(place(0), place(strength)));
    fill.setAttribute("width", Math.abs(place(strength) - place(0)));
    fill.classList.toggle("is-negative", strength < 0);
    for (const notch of findAll(".notch", row)) notch.removeAttribute("title"); // what it said was of before
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
    mode: (row, _, link) => setMode(row, link.dataset.value),
  };

  function notch({ low, high, step }, parts = 10) {
    return Math.max(step, Math.round((high - low) / parts / step) * step);
  }

  // --- 2 modes, families --------------------------------------------------------------------

  const parameterOf = { ignored: "ignore", required: "require", excluded: "exclude" };

  // A row's data-mode is what holds for it, by hand or by a lens; its data-hand what the address is to say.
  function setMode(row, mode) {
    if (row.dataset.mode === "ignored" && row.dataset.hand !== "ignored" && !mode) row.toggleAttribute("data-kept", true);
    row.dataset.mode = row.dataset.hand = mode;
    for (const name of Object.keys(parameterOf)) row.classList.toggle(`is-${name}`, name === mode);
    for (const input of findAll("input", row)) input.disabled = mode === "ignored";
    for (const link of findAll("[data-act=mode]", row)) {
      const isChosen = link.dataset.value === mode;
      isChosen ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
    }
    const menu = find(".mode", row);
    find(".mode-name", menu).textContent = mode || "mode";
    if (menu.open) find("summary", menu).focus();
    menu.open = false;
  }

  // Members follow their family, except those that are locked or have a strength of their own.
  function moveFollowers() {
    for (const family of findAll("[data-family]", steer)) {
      const amount = Number(family.dataset.strength);
      for (const member of findAll("[data-follower]", family)) {
        const row = find(`#s${member.dataset.follower}`);
        const isSet = row ? isSent(row) || row.dataset.hand === "ignored" : member.hasAttribute("data-set");
        const stays = isSet || member.hasAttribute("data-locked");
        const followed = Number(member.dataset.own) + (stays ? 0 : amount * Number(member.dataset.share));
        if (row || !isSet) find("[data-value]", member).textContent = signed(isSet ? Number(row.dataset.strength) : followed);
      }
      const n = findAll("[data-locked]", family).length;
      find("[data-locked-count]", family).textContent = n ? `, ${n} locked` : "";
    }
  }

  function toggleLock(link) {
    const member = link.closest("[data-follower]");
    const isLocked = member.toggleAttribute("data-locked");
    member.classList.toggle("is-locked", isLocked);
    link.firstChild.textContent = isLocked ? "unlock" : "lock";
    link.setAttribute("aria-pressed", isLocked);
  }

  // --- 3 what is sent -----------------------------------------------------------------------

  const isSent = (row) => row.isConnected && row.matches("[data-moved], [data-kept]");

  // Latents in the order in which they were first moved, which is that of the chips.
  let order = [];

  function noteOrder(row) {
    const { latent } = row.dataset;
    if (latent === undefined) return;
    if (!isSent(row)) order = order.filter((other) => other !== latent);
    else if (!order.includes(latent)) order.push(latent);
  }

  // Moved and added sliders as f=812:+0.40, nothing for what is left as it was.
  function writeState(data) {
    for (const family of findAll("[data-family]", steer))
      if (isSent(family)) data.append("family", `${family.dataset.family}:${signed(numbersOf(family).strength)}`);
    for (const latent of order) {
      data.append("f", `${latent}:${signed(numbersOf(find(`#s${latent}`)).strength)}`);
    }
    for (const row of findAll("[data-latent]", steer))
      if (row.dataset.hand) data.append(parameterOf[row.dataset.hand], row.dataset.latent);
    const locked = new Set(findAll("[data-follower][data-locked]", steer).map((member) => member.dataset.follower));
    for (const latent of locked) data.append("lock", latent);
    dropEmpty(data);
  }

  // What the panel shows takes the place of its hidden fields; what it does not show keeps them.
  function takeOver(field) {
    const { name, value } = field;
    const [number] = value.split(":");
    const row = name === "family" ? find(`#family${number}`) : find(`#s${number}`);
    if (name === "lock") {
      if (!find(`[data-follower="${number}"]`)) return;
    } else if (!row) return;
    field.remove();
    if (name === "f") noteOrder(row);
    const mode = Object.keys(parameterOf).find((key) => parameterOf[key] === name);
    if (mode) row.dataset.hand = mode;
  }

  for (const row of rowsOf(steer))
    for (const input of findAll("input", row)) input.disabled = row.dataset.mode === "ignored";
  for (const name of ["family", "f", "ignore", "require", "exclude", "lock"])
    for (const field of findAll(`input[type=hidden][name=${name}]`, steer)) takeOver(field);

  for (const element of findAll("[data-without-script]", steer)) element.hidden = true;

  steer.addEventListener("formdata", (event) => {
    writeState(event.formData);
    const words = find("#find")?.value;
    if (words) event.formData.set("find", words);
  });

  // --- 4 hands ------------------------------------------------------------------------------

  // What is done without a pause, with one slider, is one step to undo.
  const PAUSE = 1000; // ms
  let gesture = 0;
  let lastInput = 0;

  const isPlain = (event) => !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);

  steer.addEventListener("input", (event) => {
    const { target } = event;
    if (!isDragging && event.timeStamp - lastInput > PAUSE) gesture += 1;
    lastInput = event.timeStamp;
    if (target.id === "keep-range") find("#keep").value = target.value === "1" ? "" : Number(target.value).toFixed(2);
    if (target.id === "keep") find("#keep-range").value = target.value || 1;
    const row = target.closest("[data-slider]");
    if (row && target.value !== "") {
      setStrength(row, target.type === "range" ? felt(target, row) : Number(target.value), target);
      noteOrder(row);
    }
    moveFollowers();
  });
  steer.addEventListener("change", (event) => {
    isDragging = false;
    const row = event.target.closest("[data-slider]");
    if (!row) return;
    const { low, high, strength } = numbersOf(row);
    if (event.target.hasAttribute("aria-invalid")) announce(`It reaches from ${signed(low)} to ${signed(high)}.`);
    setStrength(row, strength);
  });
  steer.addEventListener("pointerdown", (event) => {
    isDragging = event.target.type === "range";
    gesture += 1;
  });
  steer.addEventListener("keydown", (event) => {
    isDragging = false;
    const by = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    const row = event.target.closest("[data-slider]");
    if (event.target.type !== "range" || !by || !row) return;
    event.preventDefault();
    const n = numbersOf(row);
    setStrength(row, n.strength + by * (event.shiftKey ? n.step : notch(n, 100)));
    noteOrder(row);
    changed();
  });
  steer.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-act]");
    if (!link || !isPlain(event)) return;
    event.preventDefault();
    lastInput = 0;
    const row = link.closest("[data-slider]");
    if (link.dataset.act === "lock") toggleLock(link);
    else acts[link.dataset.act](row, numbersOf(row), link);
    if (link.matches(".notch") && row.dataset.mode === "ignored") setMode(row, "");
    noteOrder(row);
    if (link.closest(".mode")) link.closest(".mode").open = false;
    changed();
  });
  steer.addEventListener("focusin", () => (gesture += 1));

  // --- 5 adding, lenses, links --------------------------------------------------------------

  // These forms have one field of their own; the rest of what they send is the panel as it stands.
  function sendWithMoves(form) {
    const field = find("[name]:not([type=hidden])", form);
    form.addEventListener("formdata", ({ formData }) => {
      const value = formData.get(field.name);
      for (const name of new Set(formData.keys())) formData.delete(name);
      for (const [name, sent] of new FormData(steer)) formData.append(name, sent);
      formData.delete("find");
      if (value) formData.set(field.name, value);
    });
  }
  for (const form of [finder, ...findAll("form[data-with-moves]")]) sendWithMoves(form);

  find("#found").addEventListener("click", (event) => {
    const link = event.target.closest("a[data-add], a[data-add-family]");
    if (!link || !isPlain(event)) return;
    event.preventDefault();
    const { add, addFamily } = link.dataset;
    const shown = find(add ? `#s${add}` : `#family${addFamily}`);
    if (shown) {
      shown.closest("details")?.setAttribute("open", "");
      find("input[type=range]", shown).focus();
      return;
    }
    // The link was made before the sliders moved: take only what it adds, and the sliders as they stand.
    const name = add ? "f" : "family";
    const added = new URL(link.href).searchParams.getAll(name).find((f) => f.startsWith(`${add ?? addFamily}:`));
    const field = Object.assign(document.createElement("input"), { type: "hidden", name, value: added.replace(" ", "+") });
    steer.append(field);
    find("#find").value = "";
    keepPlace();
    steer.requestSubmit();
  });

  // Other links of the panel were made when it was. What they change is done to the search as it is by now.
  const written = (name, value) => (/^(f|family)$/.test(name) ? value.replace(": ", ":+") : value);
  const pairsOf = (parameters) => [...parameters].map(([name, value]) => [name, written(name, value)].join("="));

  function without(pairs, others) {
    const left = [...others];
    return pairs.filter((pair) => !left.includes(pair) || !left.splice(left.indexOf(pair), 1));
  }

  function onto(link) {
    const made = pairsOf(new URL(steer.dataset.address, location.href).searchParams);
    const wanted = pairsOf(new URL(link.href).searchParams);
    const now = without(pairsOf(new FormData(steer)), without(made, wanted));
    const isLens = (pair) => pair.startsWith("lens=");
    const rest = [...without(wanted, made), ...now].filter((pair) => !isLens(pair));
    const pairs = [...wanted.filter(isLens), ...rest].map((pair) => pair.split(/=(.*)/s, 2));
    return `${new URL(link.href).pathname}?${new URLSearchParams(pairs)}`;
  }

  find("#panel").addEventListener("click", (event) => {
    const link = event.target.closest("a[data-onto]");
    if (!link || event.defaultPrevented || !isPlain(event)) return;
    event.preventDefault();
    go(onto(link));
  });

  // --- 6 undo and redo ----------------------------------------------------------------------
  // The addresses of this tab's search, in two stacks. What one hand does in one go is one step.

  const MOST = 100;
  const KEY = `saefari steps ${location.pathname}`;
  let counted = -1;
  let steps = { undo: [], redo: [], at: null };

  function remember() {
    for (const name of ["undo", "redo"]) steps[name] = steps[name].slice(-MOST);
    try {
      sessionStorage.setItem(KEY, JSON.stringify(steps));
    } catch {
      // without storage, steps last as long as the page
    }
    for (const name of ["undo", "redo"]) find(`button[data-step=${name}]`).disabled = !steps[name].length;
  }

  function recall() {
    const [entry] = performance.getEntriesByType("navigation");
    const from = document.referrer ? new URL(document.referrer).pathname : "";
    if (entry?.type === "navigate" && from !== location.pathname) return;
    try {
      steps = JSON.parse(sessionStorage.getItem(KEY)) ?? steps;
    } catch {
      // as above
    }
  }

  function visit(address) {
    if (address === steps.at) return;
    const isSameGesture = counted === gesture;
    if (steps.at === null) counted = -1;
    else if (address === steps.undo.at(-1)) {
      steps.undo.pop();
      if (!isSameGesture) steps.redo.push(steps.at);
      counted = -1;
    } else if (address === steps.redo.at(-1)) {
      steps.redo.pop();
      steps.undo.push(steps.at);
    } else if (!isSameGesture) {
      steps.undo.push(steps.at);
      steps.redo = [];
      counted = gesture;
    }
    steps.at = address;
    remember();
  }

  // What one looks at, or for, is no step: only what changes the search is.
  function here() {
    const pairs = location.search.slice(1).split("&");
    const steering = pairs.filter((pair) => pair && !/^(find|why|against|view|page)=/.test(pair));
    return location.pathname + (steering.length ? `?${steering.join("&")}` : "");
  }

  // A page that takes the place of this one begins where this one was left.
  function keepPlace() {
    steps.place = [window.scrollY, find("#panel").scrollTop];
    remember();
  }

  function go(address) {
    keepPlace();
    location.assign(address);
  }

  recall();
  if (steps.place) {
    window.scrollTo(0, steps.place[0]);
    find("#panel").scrollTop = steps.place[1];
    steps.place = null;
  }
  visit(here());
  remember();
  document.addEventListener("htmx:after:history:replace", () => visit(here()));
  window.addEventListener("pageshow", (event) => event.persisted && visit(here()));
  for (const button of findAll("button[data-step]"))
    button.addEventListener("click", () => go(steps[button.dataset.step].at(-1)));
  document.addEventListener("click", (event) => {
    if (event.target.closest("a[data-undo], a[data-reset]") && isPlain(event)) keepPlace();
  });
})();
