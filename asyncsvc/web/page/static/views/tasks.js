/**
 * The list of tasks, and the task that is open beside it: side by side on a desktop, one after the
 * other on a phone.
 */
import { html, useCallback, useEffect, useMemo, useRedraw, useRef, useState } from "../core/html.js";
import { useKeys } from "../core/keys.js";
import { go, href } from "../core/router.js";
import { load, save } from "../core/saved.js";
import { getState, set, useStore } from "../core/store.js";
import { t } from "../core/text.js";
import { Bulk, verbFor } from "./bulk.js";
import { Filters } from "./filters.js";
import { asked, Listing } from "./listing.js";
import { ListEnd, NoRows } from "./listend.js";
import { Rows } from "./rows.js";
import { steer } from "./steer.js";
import { TaskView } from "./task.js";

const WIDTH = { least: 376, most: 800, usual: 528, step: 16 };

/** @param {Record<string, string>} filters @returns {Listing} */
function useListing(filters) {
  const redraw = useRedraw();
  const key = JSON.stringify(asked(filters));
  const listing = useMemo(() => new Listing(filters, redraw), [key]);
  useEffect(() => () => listing.close(), [listing]);
  return listing;
}

/** The number of tasks that the filters let through, where the service counts them. @param {Record<string, string>} filters */
function useTotal(filters) {
  const stats = useStore((s) => s.stats);
  const { status, ...others } = asked(filters);
  if (Object.keys(others).length || !stats) {
    return null;
  }
  return status ? stats[status] : stats.total;
}

/** @param {{width: number, onWidth: (width: number) => void}} props */
function Divider({ width, onWidth }) {
  const drag = (/** @type {PointerEvent} */ event) => {
    const handle = /** @type {HTMLElement} */ (event.currentTarget);
    handle.setPointerCapture(event.pointerId);
    const move = (/** @type {PointerEvent} */ moved) => onWidth(moved.clientX);
    handle.addEventListener("pointermove", move);
    handle.addEventListener("lostpointercapture", () => handle.removeEventListener("pointermove", move), { once: true });
  };
  const keyed = (/** @type {KeyboardEvent} */ event) => {
    const step = { ArrowLeft: -WIDTH.step, ArrowRight: WIDTH.step }[event.key];
    if (step) {
      event.preventDefault();
      onWidth(width + step);
    }
  };
  return html`<div class="divider" role="separator" aria-orientation="vertical" tabindex="0" aria-valuenow=${width}
    aria-valuemin=${WIDTH.least} aria-valuemax=${WIDTH.most} aria-label=${t("tasks.width")} onPointerDown=${drag}
    onKeyDown=${keyed} onDblClick=${() => onWidth(WIDTH.usual)}></div>`;
}

/** @returns {[number, (width: number) => void]} */
function useWidth() {
  const [width, setWidth] = useState(Number(load("list-width")) || WIDTH.usual);
  const change = (/** @type {number} */ wanted) => {
    const next = Math.min(Math.max(Math.round(wanted), WIDTH.least), WIDTH.most);
    setWidth(next);
    save("list-width", String(next));
  };
  return [width, change];
}

/**
 * Which tasks are chosen, and choosing by key, by click and by range.
 * @param {string[]} ids
 */
function useChosen(ids) {
  const [chosen, setChosen] = useState(/** @type {Set<string>} */ (new Set()));
  const last = useRef(/** @type {string | null} */ (null));
  const held = useRef(ids);
  held.current = ids;
  const choose = useCallback((/** @type {string} */ id, /** @type {boolean} */ range) => {
    setChosen((old) => {
      const next = new Set(old);
      const [from, to] = [held.current.indexOf(last.current ?? id), held.current.indexOf(id)].sort((a, b) => a - b);
      if (range && from >= 0) {
        held.current.slice(from, to + 1).forEach((one) => next.add(one));
      } else if (!next.delete(id)) {
        next.add(id);
      }
      last.current = id;
      return next;
    });
  }, []);
  return { chosen, choose, setChosen };
}

/** @param {any} props */
function useListKeys({ ids, route, active, move, chosen, choose, setChosen, ask, say }) {
  const at = () => Math.max(ids.indexOf(active ?? route.id), active === null && !route.id ? -1 : 0);
  const step = (/** @type {number} */ by) => move(ids[Math.min(Math.max(at() + by, 0), ids.length - 1)] ?? null);
  const open = (/** @type {string | null} */ id) => id && go(href({ area: "tasks", id, filters: route.filters }));
  const act = (/** @type {string} */ wanted) => () => {
    if (chosen.size > 1) {
      ask(wanted);
      return;
    }
    const id = [...chosen][0] ?? active ?? route.id;
    const task = id && getState().tasks.get(id);
    const verb = task && verbFor(wanted, task);
    if (!verb) {
      return false;
    }
    steer(id, verb).catch(say);
  };
  useKeys("list", {
    j: () => step(1),
    k: () => step(-1),
    ArrowDown: () => (document.activeElement?.closest(".rows") ? step(1) : false),
    ArrowUp: () => (document.activeElement?.closest(".rows") ? step(-1) : false),
    Enter: () => (document.activeElement?.closest(".rows") && active ? void open(active) : false),
    Escape: () => (chosen.size ? setChosen(new Set()) : route.id ? go(href({ area: "tasks", filters: route.filters })) : false),
    x: () => (active ? choose(active, false) : false),
    "Shift x": () => (active ? choose(active, true) : false),
    c: act("cancel"),
    p: act("pause"),
    r: act("retry"),
  });
}

/** @param {{route: import("../core/types.js").Route}} props */
export default function View({ route }) {
  const listing = useListing(route.filters);
  const counted = useTotal(route.filters);
  const total = listing.done ? listing.ids.length : (counted ?? listing.ids.length);
  const [width, setWidth] = useWidth();
  const [active, setActive] = useState(/** @type {string | null} */ (null));
  const [moved, setMoved] = useState(0);
  const [range, setRange] = useState([0, 0]);
  const [wanted, ask] = useState("");
  const [failure, say] = useState(/** @type {any} */ (null));
  const { chosen, choose, setChosen } = useChosen(listing.ids);
  const move = (/** @type {string | null} */ id) => {
    setActive(id);
    setMoved((n) => n + 1);
  };
  const gone = (/** @type {string} */ id) => {
    listing.drop(id);
    go(href({ area: "tasks", filters: route.filters }), { replace: true });
  };
  useListKeys({ ids: listing.ids, route, active, move, chosen, choose, setChosen, ask, say });
  useEffect(() => say(null), [active, route.id]);
  useEffect(() => {
    if (route.id) {
      setActive(route.id);
    }
    set({ notice: "" });
  }, [route.id]);
  const seen = useCallback((/** @type {number} */ from, /** @type {number} */ to) => {
    setRange((old) => (old[0] === from && old[1] === to ? old : [from, to]));
  }, []);
  return html`<h1 class="vh">${t("core.area.tasks")}</h1>
    <div class="split ${route.id ? "" : "no-task"}" style=${{ "--list-w": `${width}px` }}>
      <section class="side" aria-label=${t("core.area.tasks")}>
        <${Filters} filters=${route.filters} />
        <${NoRows} listing=${listing} filters=${route.filters} />
        <${Rows} key=${JSON.stringify(asked(route.filters))} listing=${listing} ids=${listing.ids} total=${total}
          route=${route} chosen=${chosen} active=${active} moved=${moved} onView=${seen} onChoose=${choose} onActive=${setActive} />
        <${ListEnd} listing=${listing} total=${total} counted=${counted} range=${range} failure=${failure} />
        ${chosen.size > 0 && html`<${Bulk} chosen=${chosen} listing=${listing} wanted=${wanted} onWanted=${ask}
          onClear=${() => setChosen(new Set())} onAll=${() => setChosen(new Set(listing.ids))} />`}
      </section>
      <${Divider} width=${width} onWidth=${setWidth} />
      ${route.id
        ? html`<${TaskView} key=${route.id} route=${route} onGone=${gone} />`
        : html`<div class="task none"><p class="ink3">${t("tasks.none_open")}</p></div>`}
    </div>`;
}
