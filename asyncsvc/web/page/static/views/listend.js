/**
 * The end of the list: which part is shown, how far it is read, what could not be read, and what
 * to take away where nothing is found.
 */
import { count } from "../core/format.js";
import { html } from "../core/html.js";
import { Sign, useNow } from "../core/parts.js";
import { href } from "../core/router.js";
import { useStore } from "../core/store.js";
import { t } from "../core/text.js";
import { asked } from "./listing.js";

/** @param {{listing: import("./listing.js").Listing}} props */
function NotRead({ listing }) {
  const now = useNow(true);
  const { code, message, status } = listing.error;
  const left = Math.max(Math.ceil((listing.retryAt - now) / 1000), 0);
  return html`<p class="list-note" role="status"><${Sign} name="failed" state="failed" />
    <span>${t("tasks.not_read", { code: `${status || ""} ${code}`.trim(), message, left })}
    <button type="button" class="link-btn" onClick=${() => listing.retry()}>${t("tasks.now")}</button></span></p>`;
}

/** @param {{filters: Record<string, string>, total: number}} props */
function Nothing({ filters, total }) {
  const given = asked(filters);
  const names = Object.keys(given);
  if (!names.length) {
    return html`<p class="list-note"><span>${t("tasks.empty")} <a href=${href({ area: "new" })}>${t("core.new_task")}</a></span></p>`;
  }
  const what = given.q ? t("tasks.no_match_text", { text: given.q, count: total }) : t("tasks.no_match", { count: total });
  return html`<p class="list-note" role="status"><span>${what} ${names.map(
    (name) => html`<a href=${href({ area: "tasks", filters: { ...filters, [name]: "" } })}>${t("tasks.without", { filter: given[name] })}</a> `,
  )}</span></p>`;
}

/**
 * Said in the place of rows where there are none.
 * @param {{listing: import("./listing.js").Listing, filters: Record<string, string>}} props
 */
export function NoRows({ listing, filters }) {
  const all = useStore((s) => s.stats?.total ?? 0);
  const empty = listing.done && !listing.ids.length && !listing.error;
  return empty ? html`<${Nothing} filters=${filters} total=${all} />` : null;
}

/**
 * @param {{listing: import("./listing.js").Listing, total: number, counted: number | null, range: number[], failure: any}} props
 */
export function ListEnd({ listing, total, counted, range, failure }) {
  const { ids, reading, done, error } = listing;
  const partial = reading && ids.length < listing.wanted && !done;
  const known = done || counted !== null;
  const place = t(known ? "tasks.range" : "tasks.range_open", { from: count(range[0]), to: count(range[1]), total: count(total) });
  return html`${error && html`<${NotRead} listing=${listing} />`}
    ${failure && html`<p class="list-note" role="alert"><${Sign} name="failed" state="failed" /><span>${failure.code}: ${failure.message}</span></p>`}
    <div class="foot">
      <span>${partial ? t(counted === null ? "tasks.reading_open" : "tasks.reading", { total: count(total), read: count(ids.length) })
        : ids.length ? place : ""}</span>
      <span class="keys end"><kbd>j</kbd> <kbd>k</kbd> ${t("tasks.key.move")}</span>
      <span class="keys"><kbd>x</kbd> ${t("tasks.key.choose")}</span>
      <span class="keys"><kbd>?</kbd> ${t("tasks.key.all")}</span>
    </div>`;
}
