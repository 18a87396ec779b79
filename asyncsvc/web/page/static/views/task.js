/**
 * One task: its head, and below it the log, attempts, files, events and the request.
 *
 * It follows the task's own events from the first, by cursor: a lost connection costs no word and
 * doubles none.
 */
import { api } from "../core/api.js";
import { traces } from "../core/feed.js";
import { count } from "../core/format.js";
import { html, memo, useEffect, useMemo, useRedraw, useRef, useState } from "../core/html.js";
import { ErrorBlock, stateOf } from "../core/parts.js";
import { go, href } from "../core/router.js";
import { follow } from "../core/socket.js";
import { getState, nextFrame, set, useStore } from "../core/store.js";
import { t } from "../core/text.js";
import { Attempts } from "./attempts.js";
import { Events } from "./events.js";
import { Files } from "./files.js";
import { TaskHead } from "./head.js";
import { Log } from "./log.js";
import { RequestView } from "./request.js";
import { learn } from "./steer.js";
import { TaskLog } from "./tasklog.js";

const EXPLAIN_MS = 600;
const SAY_MS = 3000;

/**
 * The log of a task, drawn again at most once a frame.
 * @param {string} id
 */
function useLog(id) {
  const redraw = useRedraw();
  const log = useMemo(() => ({ current: new TaskLog() }), [id]);
  const [gone, setGone] = useState(/** @type {any} */ (null));
  useEffect(() => {
    let due = false;
    let open = true;
    const changed = () => {
      if (!due) {
        due = true;
        nextFrame(() => {
          due = false;
          if (open) {
            redraw();
          }
        });
      }
    };
    const end = follow(id, {
      event(event) {
        log.current.add(event);
        traces.set(id, log.current.trace);
        changed();
      },
      gone: setGone,
      again() {
        log.current = new TaskLog();
        changed();
      },
    });
    return () => {
      open = false;
      end();
    };
  }, [id]);
  return { log: log.current, gone };
}

/**
 * The task with its texts, and its explanation: read again when its state changes.
 * @param {string} id
 * @param {string} status  from its events
 */
function useWhole(id, status) {
  const [whole, setWhole] = useState(/** @type {any} */ (null));
  const [explained, setExplained] = useState(/** @type {any} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  const live = useStore((s) => s.connection.state === "live");
  useEffect(() => {
    const ending = new AbortController();
    const path = `/tasks/${encodeURIComponent(id)}`;
    const read = async () => {
      try {
        const found = await api.get(path, ending.signal);
        learn(found);
        setWhole(found);
        setError(null);
        setExplained(await api.get(`${path}/explain`, ending.signal));
      } catch (failure) {
        if (!ending.signal.aborted) {
          setError(failure);
        }
      }
    };
    const timer = setTimeout(read, whole ? EXPLAIN_MS : 0);
    return () => {
      clearTimeout(timer);
      ending.abort();
    };
  }, [id, status, live]);
  return { whole, explained, error };
}

/** Says a change of state to a screen reader, not too often. @param {string} state */
function useSaid(state) {
  const said = useRef({ state: "", at: 0 });
  useEffect(() => {
    const held = said.current;
    const now = Date.now();
    if (held.state && state && held.state !== state && now - held.at > SAY_MS) {
      held.at = now;
      set({ notice: t(`core.state.${state}`) });
    }
    held.state = state;
  }, [state]);
}

/** @param {{tab: string, task: any, log: TaskLog, turns: number, route: import("../core/types.js").Route}} props */
function drawTabs({ tab, task, log, route }) {
  const tabs = tabsOf(task, log);
  const link = (/** @type {string} */ name) =>
    href({ area: "tasks", id: route.id, tab: name === "log" ? null : name, filters: route.filters });
  const keyed = (/** @type {KeyboardEvent} */ event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const at = tabs.findIndex(([name]) => name === tab);
    if (step) {
      event.preventDefault();
      const next = tabs[(at + step + tabs.length) % tabs.length][0];
      go(link(next), { replace: true });
      document.getElementById(`tab-${next}`)?.focus();
    }
  };
  return html`<div class="tabs" role="tablist" onKeyDown=${keyed}>
    ${tabs.map(([name, figure]) => html`<a role="tab" id="tab-${name}" href=${link(name)} aria-selected=${name === tab}
      aria-controls="task-panel" tabindex=${name === tab ? 0 : -1}>${t(`task.tab.${name}`)} <span>${figure}</span></a>`)}
  </div>`;
}

const Tabs = memo(drawTabs);
const Head = memo(TaskHead);

/** @param {any} task @param {TaskLog} log @returns {[string, string][]} */
function tabsOf(task, log) {
  /** @type {[string, string][]} */
  const tabs = [["log", ""], ["attempts", count(log.attempts.length)]];
  if (task.type === "agent") {
    tabs.push(["files", ""]);
  }
  return [...tabs, ["events", count(log.events)], ["request", ""]];
}

/** @param {{route: import("../core/types.js").Route, onGone: (id: string) => void}} props */
export function TaskView({ route, onGone }) {
  const id = /** @type {string} */ (route.id);
  const { log, gone } = useLog(id);
  const { whole, explained, error } = useWhole(id, log.status);
  useStore((s) => s.tasks.get(id));
  const task = getState().tasks.get(id) ?? whole;
  const state = task ? stateOf(task) : "";
  useSaid(state);
  const failure = gone ?? (whole ? null : error);
  if (!task) {
    return html`<article class="task" aria-label=${t("task.task")}>
      <div class="log">${failure && html`<div class="at"><div></div><${ErrorBlock} error=${failure} /></div>`}</div>
    </article>`;
  }
  const tabs = tabsOf(task, log);
  const tab = tabs.some(([name]) => name === route.tab) ? /** @type {string} */ (route.tab) : "log";
  const panel = {
    log: () => html`<${Log} log=${log} version=${log.version} task=${task} />`,
    attempts: () => html`<${Attempts} log=${log} explained=${explained} />`,
    files: () => html`<${Files} id=${id} status=${task.status} calls=${task.metadata?.tool_calls} />`,
    events: () => html`<${Events} id=${id} count=${log.events} />`,
    request: () => html`<${RequestView} whole=${whole} />`,
  }[tab];
  return html`<article class="task" aria-label=${t("task.task")}>
    <header class="task-head">
      <${Head} task=${task} whole=${whole} log=${log} turns=${log.turns} explained=${explained} route=${route} onGone=${onGone} />
      <${Tabs} tab=${tab} task=${task} log=${log} turns=${log.turns} route=${route} />
    </header>
    ${failure && html`<div class="log-error"><${ErrorBlock} error=${failure} /></div>`}
    <div id="task-panel" role="tabpanel" aria-labelledby="tab-${tab}" class="panel">${panel?.()}</div>
  </article>`;
}
