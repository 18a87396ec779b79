/**
 * The settings in force: each value, where it comes from, and when another one takes effect. Secrets
 * are never among them: the settings only name the variables that hold them.
 */

import { html, useMemo } from "../core/html.js";
import { ErrorBlock } from "../core/parts.js";
import { go, withFilters } from "../core/router.js";
import { t } from "../core/text.js";
import { Choice } from "./fields.js";
import { FORBIDDEN, usePoll } from "./poll.js";
import { Reload } from "./reload.js";

/**
 * @typedef {"default" | "file" | "environment" | "command line"} Source
 * @typedef {{name: string, value: any, source: Source, default: any, variable: string,
 *   takes_effect: string, about: string | null}} Setting
 */

/** Sections whose values stand one level deeper, below a name. */
const NAMED = ["models", "clients", "tools.mcp"];

/** All settings, and their values by name; nothing of them for those who may not see them.
 * @returns {{settings: Setting[] | null, values: Record<string, any>, error: any, refresh: () => void}} */
export function useSettings() {
  const { data, error, refresh } = usePoll("/settings", 0);
  const settings = /** @type {{settings: Setting[]} | null} */ (data)?.settings ?? null;
  const values = useMemo(() => Object.fromEntries((settings ?? []).map((one) => [one.name, one.value])), [settings]);
  return { settings, values, error, refresh };
}

/** @param {{route: import("../core/types.js").Route}} props */
export default function Settings({ route }) {
  const { settings, error, refresh } = useSettings();
  const { only = "", q = "" } = route.filters;
  const shown = (settings ?? []).filter((one) => fits(one, only, q));
  const given = (settings ?? []).filter((one) => one.source !== "default").length;
  const filter = (/** @type {Record<string, string | null>} */ change) => go(withFilters(change), { replace: true });
  return html`<div class="page">
    <div class="page-head">
      <div>
        <h1>${t("settings.title")}</h1>
        <p>${settings && t("settings.sum", { all: settings.length, count: given })}</p>
      </div>
      ${settings && html`<div class="end"><${Reload} done=${refresh} /></div>`}
    </div>
    ${error && (error.code === FORBIDDEN ? html`<p class="ink2">${t("settings.for_admins")}</p>` : html`<${ErrorBlock} error=${error} />`)}
    ${settings &&
    html`<div class="tools-bar">
        <input type="search" aria-label=${t("settings.search")} placeholder=${t("settings.search")} value=${q}
          onInput=${(/** @type {any} */ event) => filter({ q: event.currentTarget.value || null })} />
        <${Choice} bare label=${t("settings.which")} name="only" value=${only} set=${(/** @type {string} */ one) => filter({ only: one || null })}
          options=${[["", t("settings.all")], ["set", t("settings.set")]]} />
      </div>
      ${!shown.length && html`<p class="ink2 field">${t("settings.none")}</p>`}
      ${grouped(shown).map(([section, group]) => html`<${Section} key=${section} section=${section} group=${group} />`)}`}
  </div>`;
}

/** @param {Setting} setting @param {string} only @param {string} q */
function fits({ name, value, source, variable, about }, only, q) {
  if (only === "set" && source === "default") return false;
  const text = `${name} ${variable} ${about ?? ""} ${JSON.stringify(value)}`.toLowerCase();
  return q.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

/** @param {string} name */
function sectionOf(name) {
  const named = NAMED.find((section) => name.startsWith(`${section}.`));
  if (!named) return name.slice(0, name.indexOf("."));
  return name.slice(0, name.lastIndexOf("."));
}

/** By section, in the order of the service. @param {Setting[]} settings @returns {[string, Setting[]][]} */
function grouped(settings) {
  /** @type {Map<string, Setting[]>} */
  const groups = new Map();
  for (const one of settings) {
    const section = sectionOf(one.name);
    groups.set(section, [...(groups.get(section) ?? []), one]);
  }
  return [...groups];
}

/** @param {{section: string, group: Setting[]}} props */
function Section({ section, group }) {
  return html`<section class="group">
    <h2>[${section}]</h2>
    <div class="table-room">
      <table class="plain-table wide-table values stack">
        <thead class="vh">
          <tr>
            ${["name", "value", "source"].map((name) => html`<th scope="col">${t(`settings.${name}`)}</th>`)}
          </tr>
        </thead>
        <tbody>
          ${group.map((one) => html`<${Row} key=${one.name} setting=${one} section=${section} />`)}
        </tbody>
      </table>
    </div>
  </section>`;
}

/** @param {{setting: Setting, section: string}} props */
function Row({ setting, section }) {
  const { name, value, source, default: usual, variable, takes_effect: effect, about } = setting;
  const given = source !== "default";
  return html`<tr>
    <th scope="row">
      <code class="mono" title=${variable}>${name.slice(section.length + 1)}</code>${about && html`<small><bdi>${about}</bdi></small>`}
    </th>
    <td><code class=${given ? "mono given" : "mono"}>${words(value)}</code>${" "}
      ${given && usual !== null && JSON.stringify(usual) !== JSON.stringify(value) && html`<small>${t("settings.usual", { value: words(usual) })}</small>`}</td>
    <td>
      <span class=${given ? "" : "ink3"}>${t(`settings.from.${source.replace(" ", "_")}`)}</span>${" "}
      ${source === "environment" && html`<code class="mono ink2">${variable}</code>`}
      ${effect === "restart" && html`<small>${t("settings.at_restart")}</small>`}
    </td>
  </tr>`;
}

/** A value as a person reads it. @param {any} value @returns {string} */
function words(value) {
  if (value === null || value === "") return "–";
  return typeof value === "string" ? value : JSON.stringify(value);
}
