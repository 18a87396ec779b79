/**
 * What narrows the list: search, states with their counts, model, lane, and more. Each stands in
 * the address.
 */
import { count } from "../core/format.js";
import { html, useEffect, useRef, useState } from "../core/html.js";
import { useKeys } from "../core/keys.js";
import { Sign } from "../core/parts.js";
import { go, href, withFilters } from "../core/router.js";
import { useStore } from "../core/store.js";
import { t } from "../core/text.js";

const STATES = ["running", "pending", "scheduled", "paused", "failed", "completed", "cancelled"];
const LANES = ["priority", "short", "long"];
const TYPES = ["chat", "agent", "embedding"];
const MORE = ["owner", "session_id"];
const TYPING_MS = 300;
const AN_ID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** @param {{filters: Record<string, string>}} props */
function Search({ filters }) {
  const [text, setText] = useState(filters.q ?? "");
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  const timer = useRef(/** @type {any} */ (0));
  useEffect(() => {
    if (document.activeElement !== field.current) {
      setText(filters.q ?? "");
    }
  }, [filters.q]);
  useKeys("search", { "/": () => field.current?.focus() });
  const search = (/** @type {string} */ value) => {
    clearTimeout(timer.current);
    const q = value.trim();
    if (AN_ID.test(q)) {
      go(href({ area: "tasks", id: q.toLowerCase(), filters: { ...filters, q: "" } }));
    } else {
      go(withFilters({ q }), { replace: true });
    }
  };
  const typed = (/** @type {any} */ event) => {
    setText(event.target.value);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => search(event.target.value), TYPING_MS);
  };
  const keyed = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Enter") {
      search(text);
    } else if (event.key === "Escape") {
      event.preventDefault();
      field.current?.blur();
    }
  };
  return html`<div class="grow">
    <input type="search" ref=${field} value=${text} placeholder=${t("tasks.search")} aria-label=${t("tasks.search")}
      onInput=${typed} onKeyDown=${keyed} /><kbd>/</kbd>
  </div>`;
}

/** @param {{name: string, value: string, values: string[], any: string, more?: boolean}} props */
function Choice({ name, value, values, any, more = false }) {
  const chosen = (/** @type {any} */ event) => go(withFilters({ [name]: event.target.value }));
  return html`<select aria-label=${any} value=${value} onChange=${chosen} data-more=${more ? "" : null}>
    <option value="">${any}</option>
    ${values.map((one) => html`<option value=${one}>${one}</option>`)}
    ${value && !values.includes(value) && html`<option value=${value}>${value}</option>`}
  </select>`;
}

/** @param {{filters: Record<string, string>}} props */
function More({ filters }) {
  const set = (/** @type {string} */ name) => (/** @type {any} */ event) =>
    go(withFilters({ [name]: event.target.value.trim() }));
  return html`<div class="find more-filters">
    <span class="only-small"><${Choice} name="lane" value=${filters.lane ?? ""} values=${LANES} any=${t("tasks.any_lane")} /></span>
    <${Choice} name="type" value=${filters.type ?? ""} values=${TYPES} any=${t("tasks.any_type")} />
    ${MORE.map(
      (name) => html`<input aria-label=${t(`tasks.filter.${name}`)} placeholder=${t(`tasks.filter.${name}`)}
        value=${filters[name] ?? ""} onChange=${set(name)} />`,
    )}
  </div>`;
}

/** @param {{filters: Record<string, string>}} props */
function Counts({ filters }) {
  const stats = useStore((s) => s.stats);
  const open = filters.status ?? "";
  const link = (/** @type {string} */ status) => href({ area: "tasks", filters: { ...filters, status } });
  const one = (/** @type {string} */ status) =>
    html`<a href=${link(status)} aria-current=${open === status ? "true" : null} title=${t(`tasks.count.${status}`)}
      ><b><${Sign} name=${status} state=${status} />${count(stats?.[status])}</b>${t(`tasks.count.${status}`)}</a
    >`;
  return html`<nav class="counts" aria-label=${t("tasks.by_state")}>
    <a href=${link("")} aria-current=${open === "" ? "true" : null}><b>${count(stats?.total)}</b>${t("tasks.count.all")}</a>
    ${STATES.map(one)}
  </nav>`;
}

/** @param {{filters: Record<string, string>}} props */
export function Filters({ filters }) {
  const models = useStore((s) => s.models);
  const hidden = ["type", ...MORE].filter((name) => filters[name]).length;
  const [more, setMore] = useState(hidden > 0);
  const names = (models ?? []).map((model) => model.name);
  return html`<div class="find">
      <${Search} filters=${filters} />
      <${Choice} name="model" value=${filters.model ?? ""} values=${names} any=${t("tasks.any_model")} />
      <${Choice} name="lane" value=${filters.lane ?? ""} values=${LANES} any=${t("tasks.any_lane")} more />
      <button type="button" class="btn plain" aria-expanded=${more} onClick=${() => setMore(!more)}>
        ${hidden ? t("tasks.more_n", { n: hidden }) : t("tasks.more")}
      </button>
    </div>
    ${more && html`<${More} filters=${filters} />`}
    <${Counts} filters=${filters} />`;
}
