/**
 * The rows in view, of any number of tasks: each has the same height, so only those that can be
 * seen are drawn.
 */
import { html, useCallback, useEffect, useLayoutEffect, useRef, useState } from "../core/html.js";
import { useNow } from "../core/parts.js";
import { href } from "../core/router.js";
import { getState, useStore } from "../core/store.js";
import { t } from "../core/text.js";
import { moves, Row } from "./row.js";

const BEYOND = 8;
const READ_AHEAD = 40;

/** @param {{current: HTMLElement | null}} box */
function useScroll(box) {
  const [view, setView] = useState({ top: 0, height: 800, row: 56 });
  useLayoutEffect(() => {
    const held = /** @type {HTMLElement} */ (box.current);
    let due = false;
    const measure = () => {
      due = false;
      const row = parseInt(getComputedStyle(held).getPropertyValue("--row"), 10) || 56;
      setView((old) => {
        const next = { top: held.scrollTop, height: held.clientHeight, row };
        return old.top === next.top && old.height === next.height && old.row === row ? old : next;
      });
    };
    const scrolled = () => {
      if (!due) {
        due = true;
        requestAnimationFrame(measure);
      }
    };
    const watcher = new ResizeObserver(scrolled);
    watcher.observe(held);
    held.addEventListener("scroll", scrolled, { passive: true });
    measure();
    return () => {
      watcher.disconnect();
      held.removeEventListener("scroll", scrolled);
    };
  }, []);
  return view;
}

/**
 * Keeps the row with the keyboard's focus in view and focused.
 * @param {{current: HTMLElement | null}} box
 * @param {{ids: string[], active: string | null, moved: number}} what
 * @param {number} row
 */
function useFocus(box, { ids, active, moved }, row) {
  useLayoutEffect(() => {
    const held = box.current;
    const at = active === null ? -1 : ids.indexOf(active);
    if (!held || !moved || at < 0) {
      return;
    }
    const top = at * row;
    if (top < held.scrollTop) {
      held.scrollTop = top;
    } else if (top + row > held.scrollTop + held.clientHeight) {
      held.scrollTop = top + row - held.clientHeight;
    }
    document.getElementById(`row-${active}`)?.focus({ preventScroll: true });
  }, [moved]);
}

/**
 * @param {{listing: import("./listing.js").Listing, ids: string[], total: number, route: import("../core/types.js").Route,
 *          chosen: Set<string>, active: string | null, moved: number, onView: (from: number, to: number) => void,
 *          onChoose: (id: string, range: boolean) => void, onActive: (id: string) => void}} props
 */
export function Rows({ listing, ids, total, route, chosen, active, moved, onView, onChoose, onActive }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const view = useScroll(box);
  useStore((s) => s.tasksVersion);
  const { tasks, live } = getState();
  const first = Math.max(Math.floor(view.top / view.row) - BEYOND, 0);
  const last = Math.min(Math.ceil((view.top + view.height) / view.row) + BEYOND, ids.length);
  const seen = ids.slice(first, last);
  const focused = active === null ? -1 : ids.indexOf(active);
  const now = useNow(seen.some((id) => tasks.has(id) && moves(/** @type {any} */ (tasks.get(id)))));
  useFocus(box, { ids, active, moved }, view.row);
  useEffect(() => {
    const to = Math.ceil((view.top + view.height) / view.row);
    onView(Math.floor(view.top / view.row) + 1, Math.min(to, ids.length));
    listing.want(Math.min(to + READ_AHEAD, Math.max(total, to + READ_AHEAD)));
    listing.holds = view.top > view.row;
  }, [view, ids, total]);
  const release = useCallback(() => {
    listing.release();
    box.current?.scrollTo({ top: 0 });
  }, [listing]);
  const draw = (/** @type {string} */ id, /** @type {number} */ index) => {
    const task = tasks.get(id);
    return task && html`<${Row} key=${id} task=${task} live=${moves(task) ? live.get(id) : null}
      now=${moves(task) ? now : 0} link=${href({ area: "tasks", id, filters: route.filters })} index=${index}
      size=${Math.max(total, ids.length)} open=${id === route.id} chosen=${chosen.has(id)} choosing=${chosen.size > 0}
      active=${active === null ? index === 0 : id === active} onChoose=${onChoose} onActive=${onActive} />`;
  };
  const height = Math.max(total, ids.length) * view.row;
  return html`<div class="rows" ref=${box} role="listbox" aria-multiselectable="true" aria-label=${t("core.area.tasks")} tabindex="-1">
    ${listing.held.length > 0 && html`<button type="button" class="newer" onClick=${release}>
      ${t("tasks.newer", { count: listing.held.length })}
    </button>`}
    <div role="presentation" class="all-rows" style=${{ height: `${height}px` }}>
      <div role="presentation" class="seen-rows" style=${{ transform: `translateY(${first * view.row}px)` }}>
        ${seen.map((id, at) => draw(id, first + at))}
      </div>
      ${(focused >= 0 && (focused < first || focused >= last)) && html`<div role="presentation" class="seen-rows"
        style=${{ transform: `translateY(${focused * view.row}px)` }}>${draw(ids[focused], focused)}</div>`}
    </div>
  </div>`;
}
