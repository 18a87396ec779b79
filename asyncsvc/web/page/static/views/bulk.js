/**
 * What can be done with all chosen tasks at once. More than one is asked for, with the number in
 * the button.
 */
import { html, useState } from "../core/html.js";
import { Ask } from "../core/parts.js";
import { getState, useStore } from "../core/store.js";
import { t } from "../core/text.js";
import { allowed, steerAll } from "./steer.js";

const VERBS = ["cancel", "pause", "resume", "retry", "delete"];

/** The verb of a key for a task: `p` pauses, or goes on. @param {string} wanted @param {any} task */
export function verbFor(wanted, task) {
  const verbs = allowed(task);
  const verb = wanted === "pause" && !verbs.includes("pause") ? "resume" : wanted;
  return verbs.includes(verb) ? verb : null;
}

/**
 * @param {{chosen: Set<string>, listing: import("./listing.js").Listing, wanted: string, onWanted: (verb: string) => void,
 *          onClear: () => void, onAll: () => void}} props
 */
export function Bulk({ chosen, listing, wanted, onWanted, onClear, onAll }) {
  useStore((s) => s.tasksVersion);
  const [state, setState] = useState(/** @type {any} */ (null));
  const { tasks } = getState();
  const able = (/** @type {string} */ verb) =>
    [...chosen].filter((id) => tasks.has(id) && allowed(/** @type {any} */ (tasks.get(id))).includes(verb));
  const run = async (/** @type {string} */ verb) => {
    const ids = able(verb);
    onWanted("");
    setState({ verb, done: 0, of: ids.length, errors: [] });
    await steerAll(ids, verb, (done, errors) => setState({ verb, done, of: ids.length, errors }));
    if (verb === "delete") {
      ids.filter((id) => tasks.get(id)).forEach((id) => listing.drop(id));
      onClear();
    }
  };
  const click = (/** @type {string} */ verb) => (able(verb).length > 1 || verb === "delete" ? onWanted(verb) : run(verb));
  const asked = wanted && able(wanted).length > 0 ? wanted : "";
  if (asked) {
    const count = able(asked).length;
    const running = able(asked).filter((id) => tasks.get(id)?.status === "running").length;
    const more = asked === "cancel" && running ? ` ${t("tasks.bulk.stops", { count: running })}` : "";
    return html`<${Ask} question=${t(`tasks.ask.${asked}`, { count }) + more} yes=${t(`tasks.do.${asked}`, { count })}
      onYes=${() => run(asked)} onNo=${() => onWanted("")} />`;
  }
  const failed = state?.errors.length ? ` ${t("tasks.bulk.failed", { count: state.errors.length })} ${state.errors[0].message}` : "";
  return html`<div class="foot bulk" role="group" aria-label=${t("tasks.chosen", { count: chosen.size })}>
    <b>${t("tasks.chosen", { count: chosen.size })}</b>
    ${VERBS.map((verb) => {
      const { length } = able(verb);
      return length > 0 && html`<button type="button" class="btn" onClick=${() => click(verb)}>${t(`tasks.do.${verb}`, { count: length })}</button>`;
    })}
    ${chosen.size < listing.ids.length && html`<button type="button" class="btn plain" onClick=${onAll}>${t("tasks.choose_all", { count: listing.ids.length })}</button>`}
    <button type="button" class="btn plain end" onClick=${onClear}>${t("tasks.choose_none")}</button>
    ${state && html`<span role="status" class="bulk-state">${t("tasks.bulk.done", { done: state.done, of: state.of })}${failed}</span>`}
  </div>`;
}
