"use strict";
{
  const SAVED = "docs.command";
  /** @type {(what: string, within?: ParentNode) => HTMLElement[]} */
  const all = (what, within = document) => [...within.querySelectorAll(what)].map(html);
  const html = (/** @type {any} */ one) => /** @type {HTMLElement} */ (one);
  /** @type {(name: string, text: string, more?: object) => HTMLElement} */
  const made = (name, text, more) =>
    Object.assign(document.createElement(name), { textContent: text, type: "button", ...more });
  const input = /** @type {HTMLInputElement} */ (document.getElementById("search"));
  const menu = /** @type {HTMLInputElement} */ (document.getElementById("menu"));
  const found = html(document.getElementById("found"));

  for (const one of all(".origin")) {
    const secure = location.protocol === "https:" ? "wss:" : "ws:";
    one.textContent = one.classList.contains("ws") ? `${secure}//${location.host}` : location.origin;
  }

  /* Commands: a bar with a button for each kind, and one to copy what is shown. */
  const saved = () => {
    try {
      return localStorage.getItem(SAVED);
    } catch {
      return null; // storage is forbidden
    }
  };
  let shell = saved() ?? (/Windows/.test(navigator.userAgent) ? "powershell" : "curl");
  const groups = all(".try").map((group) => {
    const commands = all(".command", group);
    const bar = made("div", "", { className: "bar" });
    const buttons = commands.map((one) => {
      const button = made("button", one.dataset.label ?? "");
      button.addEventListener("click", () => choose(one.dataset.kind ?? "", group));
      return button;
    });
    const copy = made("button", "Copy", { className: "copy" });
    const code = () => all("code", group)[commands.findIndex((one) => !one.hidden)];
    copy.addEventListener("click", () => copied(copy, code()));
    for (const one of all(".label", group)) one.hidden = true;
    const label = made("span", commands[0].dataset.label ?? "", { className: "label" });
    bar.append(...(commands.length > 1 ? buttons : [label]), copy);
    group.prepend(bar);
    return { group, commands, buttons };
  });
  /** @type {(within?: HTMLElement) => void} */
  const show = (within) => {
    for (const { group, commands, buttons } of groups) {
      const kinds = commands.map((one) => one.dataset.kind ?? "");
      if (within && within !== group && !kinds.includes(shell)) continue;
      const shown = Math.max(kinds.indexOf(shell), 0);
      commands.forEach((one, place) => (one.hidden = place !== shown));
      buttons.forEach((one, place) => one.setAttribute("aria-pressed", String(place === shown)));
    }
  };
  /** @type {(kind: string, group: HTMLElement) => void} */
  const choose = (kind, group) => {
    shell = kind;
    try {
      localStorage.setItem(SAVED, kind);
    } catch {
      /* it holds for this page alone */
    }
    show(group);
  };
  /** @type {(button: HTMLElement, code: HTMLElement) => Promise<void>} */
  const copied = async (button, code) => {
    try {
      await navigator.clipboard.writeText(code.textContent ?? "");
    } catch {
      // Without TLS a browser has no clipboard for scripts: the text is selected in its place.
      getSelection()?.selectAllChildren(code);
      if (!document.execCommand("copy")) return void (button.textContent = "Press Ctrl+C");
    }
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  };
  show();

  /* Search: of all entries those whose name has every word; where there are none, whose text has;
     and the rows of codes that have. */
  const low = (/** @type {Element} */ one) => (one.textContent ?? "").toLowerCase();
  const entries = all("details.one").map((one) => ({
    one: /** @type {HTMLDetailsElement} */ (one),
    id: all("div[id]", one)[0].id,
    name: low(all("summary", one)[0]),
    text: low(one),
  }));
  const rows = all("#errors tbody tr, #websocket > table tbody tr").map((one) => ({
    one,
    id: "",
    text: low(one),
  }));
  const links = all("nav li");
  const search = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const has = (/** @type {string} */ text) => words.every((word) => text.includes(word));
    const items = [...entries, ...rows];
    const named = entries.filter((item) => has(item.name));
    const shown = named.length ? named : entries.filter((item) => has(item.text));
    const hits = new Set([...shown, ...rows.filter((item) => has(item.text))]);
    for (const item of items) item.one.hidden = !hits.has(item);
    const ids = new Set([...hits].map((item) => `#${item.id}`));
    for (const link of links) {
      link.hidden = words.length > 0 && !ids.has(all("a", link)[0].getAttribute("href") ?? "");
    }
    for (const list of all("nav ul")) {
      const empty = words.length > 0 && !all("li", list).some((link) => !link.hidden);
      list.hidden = empty;
      html(list.previousElementSibling).hidden = empty;
    }
    for (const section of all("main > section")) {
      const inside = items.filter((item) => section.contains(item.one));
      section.hidden = words.length > 0 && !inside.some((item) => hits.has(item));
    }
    const count = hits.size;
    found.textContent = !words.length ? "" : count === 1 ? "1 entry" : `${count || "No"} entries`;
  };
  input.addEventListener("input", search);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      input.value = "";
      search();
    } else if (event.key === "Enter") {
      const first = entries.find((item) => !item.one.hidden)?.one;
      if (!first) return;
      event.preventDefault(); // or the key would fold what has the focus then
      first.open = true;
      first.scrollIntoView({ block: "start" });
      all("summary", first)[0].focus({ preventScroll: true });
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.ctrlKey && !event.metaKey && event.target !== input) {
      event.preventDefault();
      input.focus();
      input.select();
    }
  });
  all(".search")[0].hidden = false;

  /* A link unfolds what it leads to in every browser, shows it though a search hides it, and on a
     phone the list of operations is closed behind it. */
  const unfold = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    if (target.closest("[hidden]")) {
      input.value = "";
      search();
    }
    const within = target.closest("details");
    if (within) within.open = true;
    menu.checked = false;
    (within ?? target).scrollIntoView();
  };
  addEventListener("hashchange", unfold);
  unfold();
}
