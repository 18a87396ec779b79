/**
 * What stands around every area: the bar with the areas, the counts, the connection, theme and
 * language; a line below it where the connection is lost for longer.
 */
import { html, useState } from "./html.js";
import { useKeys } from "./keys.js";
import { daytime } from "./format.js";
import { Sign, useNow } from "./parts.js";
import { go, href } from "./router.js";
import { save } from "./saved.js";
import { connectNow } from "./socket.js";
import { getState, set, useStore } from "./store.js";
import { chooseLang, t } from "./text.js";

const AREAS = ["tasks", "models", "overview", "schedules", "batches", "settings"];
const THEMES = ["", "light", "dark"];
const QUIET_MS = 10000;

/** @param {string} theme */
export function setTheme(theme) {
  if (theme) {
    document.documentElement.dataset.theme = theme;
  } else {
    delete document.documentElement.dataset.theme;
  }
  save("theme", theme);
  set({ theme });
}

function nextTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const order = dark ? ["", "light", "dark"] : [...THEMES].reverse();
  const at = order.indexOf(getState().theme);
  setTheme(order[(at + 1) % order.length]);
}

function Switches() {
  const { lang, theme } = useStore((s) => s);
  const other = lang === "zh" ? "en" : "zh";
  return html`<button class="btn plain" lang=${other} onClick=${() => chooseLang(other)}>
      ${other === "zh" ? "中文" : "English"}
    </button>
    <button class="btn plain" title=${t(`core.theme.${theme || "system"}`)} onClick=${nextTheme}>
      ${t("core.theme")}
    </button>`;
}

function Link() {
  const { state, retryAt, lagMs } = useStore((s) => s.connection);
  const now = useNow(state === "away");
  const left = Math.max(Math.ceil(((retryAt ?? now) - now) / 1000), 0);
  const live = state === "live";
  const word = live ? t("core.live") : state === "away" ? t("core.reconnecting", { left }) : t("core.connecting");
  const title = live && lagMs !== null ? t("core.lag", { lag: Math.round(lagMs) }) : word;
  return html`<span class="link" title=${title}><i class="dot ${live ? "" : "off"}"></i><span>${word}</span></span>`;
}

function tokensPerSecond() {
  let sum = 0;
  for (const { status, tokens_per_s: rate } of getState().live.values()) {
    sum += status === "running" ? (rate ?? 0) : 0;
  }
  return Math.round(sum);
}

function Pulse() {
  const stats = useStore((s) => s.stats);
  const signedOut = useStore((s) => s.who === "signed-out");
  const rate = useStore(tokensPerSecond);
  if (signedOut) {
    return html`<div class="pulse"><span class="sw"><${Switches} /></span></div>`;
  }
  const { needs_approval: approvals = 0, needs_review: reviews = 0 } = stats ?? {};
  const needs = approvals + reviews;
  const kind = approvals && reviews ? "" : approvals ? "approval" : "review";
  return html`<div class="pulse">
    ${needs > 0 &&
    html`<a class="need" href=${href({ area: "tasks", filters: { status: "paused", waiting_for: kind } })}
      ><${Sign} name="call" state="call" /><b>${needs}</b
      ><span class="narrow-no">${t("core.need_you", { count: needs })}</span></a
    >`}
    ${stats &&
    html`<span class="wide narrow-no"><b>${stats.running}</b> ${t("core.running")}</span>
      <span class="wide narrow-no"><b>${stats.pending}</b> ${t("core.waiting")}</span>
      ${rate > 0 && html`<span class="narrow-no rate"><b>${rate}</b> ${t("core.tokens_s")}</span>`}`}
    <${Link} />
    <span class="wide narrow-no sw"><${Switches} /></span>
    <a class="btn main" href=${href({ area: "new" })}>${t("core.new_task")} <kbd class="narrow-no">n</kbd></a>
  </div>`;
}

function Bar() {
  const route = useStore((s) => s.route);
  const signedOut = useStore((s) => s.who === "signed-out");
  const [menu, setMenu] = useState(false);
  const links = AREAS.map(
    (area) =>
      html`<a href=${href({ area })} aria-current=${area === route.area ? "page" : null}>${t(`core.area.${area}`)}</a>`,
  );
  const back = () => go(href({ area: "tasks", filters: route.filters }));
  return html`<header class="bar">
      ${route.id &&
      html`<button class="btn plain only-narrow back" aria-label=${t("core.back")} onClick=${back}>
        <${Sign} name="back" />
      </button>`}
      <a class="name" href="#/tasks">asyncsvc</a>
      ${!signedOut &&
      html`<nav class="nav" aria-label=${t("core.areas")}>${links}</nav>
        <button class="btn plain only-narrow menu" aria-expanded=${menu} onClick=${() => setMenu(!menu)}>
          ${t("core.menu")}
        </button>`}
      <${Pulse} />
    </header>
    ${menu &&
    html`<nav class="drawer only-narrow" aria-label=${t("core.areas")} onClick=${() => setMenu(false)}>
      ${links}<span class="sw"><${Switches} /></span>
    </nav>`}`;
}

function Away() {
  const { state, since } = useStore((s) => s.connection);
  const signedOut = useStore((s) => s.who === "signed-out");
  const now = useNow(state === "away");
  if (state !== "away" || signedOut || now - since < QUIET_MS) {
    return null;
  }
  return html`<div class="notice" role="status">
    <i class="dot off"></i>
    <span>${t("core.away", { seconds: Math.round((now - since) / 1000), time: daytime(since) })}</span>
    <button class="btn plain" onClick=${connectNow}>${t("core.try_now")}</button>
  </div>`;
}

/** @param {{children: any}} props */
export function Shell({ children }) {
  const route = useStore((s) => s.route);
  const notice = useStore((s) => s.notice);
  document.body.dataset.view = route.area === "tasks" && route.id ? "task" : "list";
  useKeys("all", {
    n: () => go(href({ area: "new" })),
    "?": () => go(href({ area: "help" })),
    "g t": () => go(href({ area: "tasks" })),
    "g m": () => go(href({ area: "models" })),
    "g o": () => go(href({ area: "overview" })),
  });
  return html`<${Bar} /><${Away} />
    <main>${children}</main>
    <div class="vh" role="status" aria-live="polite">${notice}</div>`;
}
