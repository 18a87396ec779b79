/**
 * The log of a task: entries with their time in the margin. While the reader is at its end, the end
 * is followed; else a button leads there.
 */
import { html, useEffect, useLayoutEffect, useRef, useState } from "../core/html.js";
import { t } from "../core/text.js";
import { advice } from "./advice.js";
import { EntryView } from "./entries.js";

const NEAR = 48;
const SAME_TIME_MS = 1000;

/** What scrolls: the log on a desktop, the whole task on a phone. @param {HTMLElement} log */
function scrollerOf(log) {
  return getComputedStyle(log).overflowY === "visible" ? /** @type {HTMLElement} */ (log.closest(".task")) : log;
}

/**
 * @param {{current: HTMLElement | null}} box
 * @param {boolean} lively
 */
function useEnd(box, lively) {
  const [atEnd, setAtEnd] = useState(true);
  const follows = useRef(lively);
  useLayoutEffect(() => {
    const log = /** @type {HTMLElement} */ (box.current);
    const scroller = scrollerOf(log);
    const away = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
    let height = 0;
    const scrolled = () => {
      // Growth moves the end away from the reader; only the reader leaves it.
      if (scroller.scrollHeight === height) {
        follows.current = away() < NEAR;
      }
      height = scroller.scrollHeight;
      setAtEnd(away() < NEAR);
    };
    const grown = new ResizeObserver(() => {
      if (follows.current) {
        scroller.scrollTop = scroller.scrollHeight;
      }
      height = scroller.scrollHeight;
      setAtEnd(away() < NEAR);
    });
    grown.observe(/** @type {HTMLElement} */ (log.firstElementChild));
    scroller.addEventListener("scroll", scrolled, { passive: true });
    return () => {
      grown.disconnect();
      scroller.removeEventListener("scroll", scrolled);
    };
  }, []);
  useEffect(() => {
    if (lively) {
      follows.current = follows.current || atEnd;
    }
  }, [lively]);
  const jump = () => {
    const scroller = scrollerOf(/** @type {HTMLElement} */ (box.current));
    follows.current = true;
    scroller.scrollTop = scroller.scrollHeight;
  };
  return { atEnd, jump };
}

/** @param {import("./tasklog.js").TaskLog} log @param {any} task */
function emptyWords(log, task) {
  if (!log.events) {
    return t("task.reading");
  }
  const { live } = log;
  if (task.status === "pending" && live?.reason) {
    return live.reason;
  }
  return t(`task.empty.${task.status}`);
}

/** @param {{log: import("./tasklog.js").TaskLog, version: number, task: any}} props */
export function Log({ log, task }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const lively = !task.finished_at;
  const { atEnd, jump } = useEnd(box, lively);
  const { entries } = log;
  const running = log.status === "running";
  const views = entries.map((entry, at) => {
    const before = entries[at - 1];
    const last = at === entries.length - 1;
    return html`<${EntryView} key=${entry.key} entry=${entry} version=${entry.version} first=${at === 0} last=${last}
      step=${entry.step !== undefined && entry.step !== before?.step} alone=${last && entry.kind === "think"}
      now=${running} advice=${last && entry.kind === "error" ? advice(task) : null} task=${task.task_id}
      showTime=${!before || entry.at - before.at >= SAME_TIME_MS || entry.kind !== "answer"} />`;
  });
  return html`<div class="log" ref=${box} tabindex="0" aria-label=${t("task.tab.log")}>
    <div class="entries">
      ${views}
      ${!entries.length && html`<p class="empty-log ink3"><bdi>${emptyWords(log, task)}</bdi></p>`}
    </div>
    ${!atEnd && lively && html`<button type="button" class="btn jump" onClick=${jump}>${t("task.newest")} ↓</button>`}
  </div>`;
}
