/**
 * Where a task that is being written would go, asked of the service while it is written, and the
 * same submit as a command.
 */

import { api } from "../core/api.js";
import { seconds } from "../core/format.js";
import { html, useEffect, useState } from "../core/html.js";
import { Copy, Sign } from "../core/parts.js";
import { t } from "../core/text.js";

/**
 * @typedef {{name: string, value: number, weight: number, class: string, matched: string[]}} Feature
 * @typedef {{model: string, eligible: boolean, reason: string | null, eta_s: number | null}} Candidate
 * @typedef {{class: string | null, rule: string | null, score: number | null, ambiguous: boolean,
 *   features: Feature[], candidates: Candidate[], chosen: string | null, why: string,
 *   bytes?: number, prompt_tokens?: number}} Route
 * @typedef {{route: Route | null, error: import("../core/api.js").ApiError | null, busy: boolean}} Asked
 */

const AFTER_MS = 350;
const LARGE = 100_000;
const AFTER_MS_WHERE_LARGE = 1500;
const WORDS_MOST = 6;
const TEXT_MOST = 72;

/**
 * What the service says to this body, asked when nothing was typed for a moment.
 *
 * @param {Record<string, any> | null} body null: there is nothing to ask
 * @returns {Asked}
 */
export function useRoute(body) {
  const [asked, set] = useState(/** @type {Asked} */ ({ route: null, error: null, busy: false }));
  const key = body === null ? null : JSON.stringify(body);
  useEffect(() => {
    if (key === null) {
      set({ route: null, error: null, busy: false });
      return undefined;
    }
    const left = new AbortController();
    const ask = async () => {
      set((/** @type {Asked} */ before) => ({ ...before, busy: true }));
      try {
        set({ route: await api.post("/route", body, left.signal), error: null, busy: false });
      } catch (error) {
        if (!left.signal.aborted) set({ route: null, error: /** @type {any} */ (error), busy: false });
      }
    };
    const timer = setTimeout(ask, key.length > LARGE ? AFTER_MS_WHERE_LARGE : AFTER_MS);
    return () => {
      clearTimeout(timer);
      left.abort();
    };
  }, [key]);
  return asked;
}

/** @param {{asked: Asked, path: string, body: Record<string, any> | null}} props */
export function Preview({ asked, path, body }) {
  const { route, error } = asked;
  return html`<aside class="preview" aria-label=${t("new.where")}>
    <h2>${t("new.where")}</h2>
    ${!route && !error && html`<p class="ink2">${t("new.where_empty")}</p>`}
    ${error && error.code === "no_model" && html`<p class="ink2">${error.message}</p>`}
    ${error && error.code !== "no_model" && html`<p class="ink3">${t("new.where_unknown")}</p>`}
    ${route && html`<${Chosen} route=${route} /><${Candidates} found=${route.candidates} />`}
    ${body && html`<${Command} path=${path} body=${body} />`}
  </aside>`;
}

/** @param {{route: Route}} props */
function Chosen({ route }) {
  const words = decided(route);
  return html`<p class="to">${route.chosen ?? t("new.nowhere")}</p>
    ${route.class && route.score !== null
      ? html`<p class="ink2">
          ${t("new.class")} <b>${route.class}</b>${t("new.score", { score: route.score.toFixed(2) })}${" "}
          ${t(route.ambiguous ? "new.near" : "new.clear")}
        </p>`
      : html`<p class="ink2">${route.why}</p>`}
    ${words.length > 0 &&
    html`<p class="ink2">
      ${t("new.words")}
      ${words.map(([word, weight], n) => html`${n > 0 ? ", " : " "}<b><bdi>${word}</bdi></b> ${signed(weight)}`)}
    </p>`}`;
}

/** The passages that spoke for the class, strongest first. @param {Route} route @returns {[string, number][]} */
function decided(route) {
  return route.features
    .filter((feature) => feature.matched.length && feature.class === route.class && feature.weight >= 0.3)
    .slice(0, WORDS_MOST)
    .map((feature) => [feature.matched[0], feature.weight]);
}

/** @param {number} weight */
function signed(weight) {
  return `${weight < 0 ? "−" : "+"}${Math.abs(weight).toFixed(2)}`;
}

/** Candidates that are not asked for the same reason are one line. @param {{found: Candidate[]}} props */
function Candidates({ found }) {
  /** @type {Map<string, Candidate[]>} */
  const groups = new Map();
  for (const one of found) {
    const key = one.eligible ? `${one.model} ` : (one.reason ?? "");
    groups.set(key, [...(groups.get(key) ?? []), one]);
  }
  if (!found.length) return null;
  return html`<h2>${t("new.candidates")}</h2>
    ${[...groups.values()].map((group) => html`<${Group} group=${group} />`)}`;
}

/** @param {{group: Candidate[]}} props */
function Group({ group }) {
  const [{ eligible, reason, eta_s: eta }] = group;
  return html`<div class=${eligible ? "cand" : "cand off"}>
    <${Sign} name=${eligible ? "completed" : "cancelled"} /><b>${group.map((one) => one.model).join(", ")}</b>
    <span class="num">${eta !== null && t("new.done", { length: seconds(eta) })}</span>
    ${reason && html`<span class="ink2 w"><bdi>${reason}</bdi></span>`}
  </div>`;
}

/** @param {{path: string, body: Record<string, any>}} props */
function Command({ path, body }) {
  return html`<h2>${t("new.curl")}</h2>
    <div class="snippet-room">
      <pre class="snippet" tabindex="0" role="region" aria-label=${t("new.curl")}>${command(path, shortened(body))}</pre>
      <${Copy} text=${() => command(path, body)} />
    </div>`;
}

/** @param {string} path @param {Record<string, any>} body */
function command(path, body) {
  const lines = Object.entries(body).map(([key, value]) => `${JSON.stringify(key)}: ${JSON.stringify(value)}`);
  const json = `{${lines.join(",\n ")}}`.replaceAll("'", "\\u0027");
  return `curl -s ${location.origin}${path} -H 'Content-Type: application/json' -d '${json}'`;
}

/** A body whose long texts are cut, to be looked at. @param {any} value @returns {any} */
function shortened(value) {
  if (typeof value === "string") return value.length > TEXT_MOST ? `${value.slice(0, TEXT_MOST)}…` : value;
  if (Array.isArray(value)) return value.map(shortened);
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, shortened(one)]));
  }
  return value;
}
