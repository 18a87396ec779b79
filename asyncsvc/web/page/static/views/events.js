/**
 * The events of a task as they are stored, for those who want to know exactly. Only the rows in
 * view are drawn.
 */
import { ApiError, call } from "../core/api.js";
import { visible } from "../core/format.js";
import { html, useEffect, useRef, useState } from "../core/html.js";
import { ErrorBlock } from "../core/parts.js";
import { t } from "../core/text.js";

const ROW = 24;
const BEYOND = 10;
const SHOWN_MOST = 400;

/** @param {string} id @param {number} after @param {AbortSignal} signal @returns {Promise<string[]>} */
async function lines(id, after, signal) {
  const response = await call(`/tasks/${encodeURIComponent(id)}/events?after=${after}`, {
    signal,
    headers: { accept: "application/x-ndjson" },
  });
  const text = await response.text();
  return text ? text.trimEnd().split("\n") : [];
}

/** @param {{line: string}} props */
function Line({ line }) {
  const { seq, type, ts, data } = JSON.parse(line);
  const shown = JSON.stringify(data);
  return html`<div class="event" title=${shown.slice(0, 2000)}>
    <span class="num">${seq}</span><span>${ts.slice(11, 23)}</span><span class="ink2">${type}</span>
    <span class="cut">${visible(shown.slice(0, SHOWN_MOST))}</span>
  </div>`;
}

/** @param {{id: string, count: number}} props */
export function Events({ id, count }) {
  const [all, setAll] = useState(/** @type {string[]} */ ([]));
  const [error, setError] = useState(/** @type {any} */ (null));
  const [view, setView] = useState({ top: 0, height: 600 });
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    const ending = new AbortController();
    const read = async () => {
      try {
        const more = await lines(id, all.length, ending.signal);
        setAll((old) => (old.length === all.length ? [...old, ...more] : old));
      } catch (failure) {
        if (failure instanceof ApiError) {
          setError(failure);
        }
      }
    };
    const timer = all.length < count && !error ? setTimeout(read, all.length ? 1000 : 0) : undefined;
    return () => {
      clearTimeout(timer);
      ending.abort();
    };
  }, [id, count > all.length, all.length]);
  const look = () => box.current && setView({ top: box.current.scrollTop, height: box.current.clientHeight });
  useEffect(() => void look(), []);
  const first = Math.max(Math.floor(view.top / ROW) - BEYOND, 0);
  const seen = all.slice(first, Math.ceil((view.top + view.height) / ROW) + BEYOND);
  return html`<div class="log events mono" tabindex="0" ref=${box} onScroll=${look} aria-label=${t("task.tab.events")}>
    ${error && html`<${ErrorBlock} error=${error} />`}
    <div class="all-rows" style=${{ height: `${all.length * ROW}px` }}>
      <div class="seen-rows" style=${{ transform: `translateY(${first * ROW}px)` }}>
        ${seen.map((line, at) => html`<${Line} key=${first + at} line=${line} />`)}
      </div>
    </div>
  </div>`;
}
