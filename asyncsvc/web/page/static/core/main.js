/**
 * Starts the page: language, theme, address, keys, the socket, and the view of the area.
 */
import { ApiError } from "./api.js";
import { apply, missed, readCounts, skips, startCounts } from "./feed.js";
import { html, render, useEffect, useState } from "./html.js";
import { startKeys } from "./keys.js";
import { ErrorBlock } from "./parts.js";
import { startRouter } from "./router.js";
import { load } from "./saved.js";
import { Shell, setTheme } from "./shell.js";
import { connectNow, startSocket } from "./socket.js";
import { set, useStore } from "./store.js";
import { firstLang } from "./lang.js";
import { setLang, t } from "./text.js";
import { token } from "./token.js";

const VIEWS = new Set(["tasks", "models", "overview", "schedules", "batches", "settings", "new", "help", "signin", "first"]);
/** @type {Map<string, any>} */
const loaded = new Map();

/** The view of an area, once its module is here. @param {string} area */
function useView(area) {
  const [, redraw] = useState(0);
  useEffect(() => {
    if (loaded.has(area)) {
      return;
    }
    import(`../views/${area}.js`)
      .then((module) => loaded.set(area, module.default))
      .catch((error) => loaded.set(area, () => html`<div class="page"><${ErrorBlock} error=${error} /></div>`))
      .finally(() => redraw((n) => n + 1));
  }, [area]);
  return loaded.get(area);
}

/** Whether there is nothing to show but how to begin. @param {import("./store.js").State} state */
function isFirst({ models, stats, route }) {
  const begins = route.area === "tasks" && !route.id && stats?.total === 0;
  return begins && models !== null && models.every((model) => !model.enabled);
}

function App() {
  const route = useStore((s) => s.route);
  const who = useStore((s) => s.who);
  const first = useStore(isFirst);
  useStore((s) => s.lang);
  const asked = VIEWS.has(route.area) ? route.area : "tasks";
  const area = who === "signed-out" ? "signin" : first ? "first" : asked;
  const View = useView(area);
  useEffect(() => {
    document.title = area === "tasks" ? "asyncsvc" : `${t(`core.area.${area}`)} · asyncsvc`;
  });
  return html`<${Shell}>${View && html`<${View} route=${route} />`}<//>`;
}

/** Read what the service can say, and connect; without a token that is wanted, the sign-in does. */
async function begin() {
  try {
    await readCounts();
    if (token()) {
      set({ who: "signed-in" });
    }
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) {
      return;
    }
  }
  connectNow();
}

async function start() {
  setTheme(load("theme"));
  startRouter();
  await setLang(firstLang());
  startKeys();
  render(html`<${App} />`, /** @type {HTMLElement} */ (document.getElementById("app")));
  startSocket({ event: apply, missed, skips });
  startCounts();
  await begin();
}

start();
