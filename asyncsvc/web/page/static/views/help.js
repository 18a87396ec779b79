/**
 * The keys, the signs of the states, and how to read a trace.
 */
import { html, useState } from "../core/html.js";
import { keysOn, setKeysOn } from "../core/keys.js";
import { SmallTrace, StateWord } from "../core/parts.js";
import { t } from "../core/text.js";

/** @type {[string, string][]} */
const KEYS = [
  ["j k", "move"], ["Enter", "open"], ["Esc", "back"], ["/", "search"], ["n", "new"], ["x", "choose"], ["c", "cancel"],
  ["p", "pause"], ["r", "retry"], ["a d", "decide"], ["g t · g m · g o", "areas"], ["Ctrl Enter", "submit"], ["?", "help"],
];
const STATES = ["scheduled", "pending", "running", "paused", "call", "completed", "failed", "cancelled"];

/** @param {[string, number, object?][]} parts @returns {import("../core/trace.js").Segment[]} */
function example(parts) {
  let at = 0;
  return parts.map(([kind, length, more]) => {
    at += length;
    return { kind, from: at - length, to: at, ...more };
  });
}

/** @type {[string, import("../core/trace.js").Segment[]][]} */
const TRACES = [
  ["wait", example([["wait", 10]])],
  ["first", example([["wait", 4], ["first", 6, { now: true }]])],
  ["think", example([["wait", 2], ["think", 3], ["say", 5]])],
  ["tool", example([["say", 3], ["tool", 4], ["say", 3]])],
  ["ask", example([["say", 3], ["ask", 7]])],
  ["cut", example([["say", 4, { cut: true }], ["wait", 2], ["say", 4, { now: true }]])],
];

export default function View() {
  const [on, setOn] = useState(keysOn());
  const change = () => {
    setKeysOn(!on);
    setOn(!on);
  };
  return html`<div class="page"><div class="page-head"><div><h1>${t("help.title")}</h1><p>${t("help.words")}</p></div></div>
    <div class="help">
      <section><h2>${t("help.keys")}</h2>
        <label class="check"><input type="checkbox" checked=${on} onChange=${change} />${t("help.keys_on")}</label>
        <table class="plain-table"><tbody>${KEYS.map(([key, name]) => html`<tr><td class="nowrap"><kbd>${key}</kbd></td><td class="ink2">${t(`help.key.${name}`)}</td></tr>`)}</tbody></table>
      </section>
      <section><h2>${t("help.states")}</h2>
        <table class="plain-table"><tbody>${STATES.map((state) => html`<tr><td><${StateWord} state=${state} /></td><td class="ink2">${t(`help.state.${state}`)}</td></tr>`)}</tbody></table>
      </section>
      <section><h2>${t("help.traces")}</h2>
        <table class="plain-table"><tbody>${TRACES.map(([name, segments]) => html`<tr><td class="tr"><${SmallTrace} segments=${segments} total=${10} /></td><td class="ink2">${t(`help.trace.${name}`)}</td></tr>`)}</tbody></table>
        <p class="field"><a href="/docs">${t("help.more")}</a></p>
      </section>
    </div></div>`;
}
