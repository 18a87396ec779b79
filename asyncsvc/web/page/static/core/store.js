/**
 * The state of the page: one object, changed by `set`, read by `useStore`.
 *
 * Whoever reads is called once a frame at most, however many changes there were. `tasks` and
 * `live` are maps that are changed in place; `tasksVersion` counts their changes.
 */
import { useEffect, useRedraw, useRef } from "./html.js";

/**
 * @typedef {object} Model  what is known of a model
 * @typedef {object} State
 * @property {Map<string, import("./types.js").Task>} tasks
 * @property {Map<string, any>} live  the last progress of tasks that wait or run
 * @property {number} tasksVersion
 * @property {any} stats
 * @property {any[] | null} models
 * @property {import("./types.js").Connection} connection
 * @property {"unknown" | "open" | "signed-in" | "signed-out"} who
 * @property {string} theme
 * @property {string} lang
 * @property {import("./types.js").Route} route
 * @property {string} notice  what is read out to a screen reader
 */

/** @type {State} */
let state = {
  tasks: new Map(),
  live: new Map(),
  tasksVersion: 0,
  stats: null,
  models: null,
  connection: { state: "connecting", since: Date.now(), retryAt: null, lagMs: null },
  who: "unknown",
  theme: "",
  lang: "en",
  route: { area: "tasks", id: null, tab: null, filters: {} },
  notice: "",
};

/** @type {Set<() => void>} */
const readers = new Set();
let due = false;

/**
 * Calls a function at the next frame; soon enough in a tab that is not shown, too.
 * @param {() => void} call
 */
export function nextFrame(call) {
  if (document.visibilityState === "visible") {
    requestAnimationFrame(() => call());
  } else {
    setTimeout(call, 250);
  }
}

export function getState() {
  return state;
}

/** @param {Partial<State>} patch */
export function set(patch) {
  state = { ...state, ...patch };
  if (!due) {
    due = true;
    nextFrame(tell);
  }
}

function tell() {
  due = false;
  for (const reader of [...readers]) {
    reader();
  }
}

/**
 * @param {() => void} reader
 * @returns {() => void} ends it
 */
export function subscribe(reader) {
  readers.add(reader);
  return () => readers.delete(reader);
}

/** What is in `tasks` or `live` has changed. */
export function touch() {
  set({ tasksVersion: state.tasksVersion + 1 });
}

/**
 * A part of the state; the component is drawn again when that part is another one.
 * @template T
 * @param {(state: State) => T} select
 * @returns {T}
 */
export function useStore(select) {
  const redraw = useRedraw();
  const seen = select(state);
  const last = useRef({ seen, select });
  last.current = { seen, select };
  useEffect(() => {
    const look = () => {
      const held = last.current;
      if (!Object.is(held.select(state), held.seen)) {
        redraw();
      }
    };
    look(); // it may have changed between drawing and now
    return subscribe(look);
  }, []);
  return seen;
}
