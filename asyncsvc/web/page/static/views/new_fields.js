/**
 * The rarer parts of the form of a new task: when it starts, an agent's tools and files, and what
 * is folded away.
 */

import { bytes } from "../core/format.js";
import { html, useState } from "../core/html.js";
import { t } from "../core/text.js";
import { Button, Choice, Folded, Text } from "./fields.js";
import { usePoll } from "./poll.js";

/**
 * @typedef {import("./draft.js").Draft} Draft
 * @typedef {(part: Partial<Draft>) => void} Change
 * @typedef {{of: (name: string) => string | null}} Fault
 * @typedef {{function: {name: string, description: string}, reads_only: boolean, approval: boolean}} Tool
 */

const CRONS = ["0 9 * * 1-5", "0 * * * *", "*/15 * * * *", "30 7 * * *", "0 18 * * 5", "0 6 1 * *"];
const FILES_MOST = 1000;

/** @param {{draft: Draft, change: Change, fault: Fault}} props */
export function Start({ draft, change, fault }) {
  return html`<${Choice} label=${t("new.start")} name="when" value=${draft.when} set=${(/** @type {any} */ when) => change({ when })}
      options=${["now", "at", "cron"].map((when) => [when, t(`new.when.${when}`)])} />
    ${draft.when === "at" &&
    html`<${Text} id="run_at" type="datetime-local" label=${t("new.time")} value=${draft.run_at}
      set=${(/** @type {string} */ value) => change({ run_at: value })} fault=${fault.of("run_at")} hint=${t("new.time_hint", { zone: draft.timezone })} />`}
    ${draft.when === "cron" && html`<${Recurring} draft=${draft} change=${change} fault=${fault} />`}`;
}

/** @param {{draft: Draft, change: Change, fault: Fault}} props */
function Recurring({ draft, change, fault }) {
  const said = CRONS.includes(draft.cron.trim()) ? t(`new.cron.${CRONS.indexOf(draft.cron.trim())}`) : t("new.cron_hint");
  return html`<div class="pair">
    <${Text} id="cron" label=${t("new.cron")} value=${draft.cron} list="crons" set=${(/** @type {string} */ cron) => change({ cron })}
      fault=${fault.of("cron")} hint=${said} />
    <${Text} id="timezone" label=${t("new.timezone")} value=${draft.timezone} set=${(/** @type {string} */ timezone) => change({ timezone })}
      fault=${fault.of("timezone")} />
    <${Text} id="name" label=${t("new.name")} value=${draft.name} set=${(/** @type {string} */ name) => change({ name })}
      fault=${fault.of("name")} hint=${t("new.name_hint")} />
    <datalist id="crons">${CRONS.map((cron, n) => html`<option value=${cron}>${t(`new.cron.${n}`)}</option>`)}</datalist>
  </div>`;
}

/** The tools of an agent, which of them ask first, and the files that its workspace begins with.
 * @param {{draft: Draft, change: Change}} props */
export function Tools({ draft, change }) {
  const { data, error } = usePoll("/tools", 0);
  const tools = /** @type {{tools: Tool[]} | null} */ (data)?.tools ?? [];
  const names = tools.map((tool) => tool.function.name);
  const used = draft.tools ?? names;
  const few = names.filter((name) => used.includes(name)).length;
  return html`<fieldset class="field">
      <legend>${t("new.tools")} <small class="ink3">${tools.length > 0 && t("new.tools_count", { used: few, all: names.length })}</small></legend>
      ${error && html`<p class="hint">${error.message}</p>`}
      ${data && !tools.length && html`<p class="hint">${t("new.no_tools")}</p>`}
      <div class="tools">
        ${tools.map((tool) => html`<${ToolChoice} tool=${tool} draft=${draft} names=${names} change=${change} />`)}
      </div>
    </fieldset>
    <${Files} draft=${draft} change=${change} />`;
}

/** @param {{tool: Tool, draft: Draft, names: string[], change: Change}} props */
function ToolChoice({ tool, draft, names, change }) {
  const { name, description } = tool.function;
  const used = draft.tools ?? names;
  const on = used.includes(name);
  const asks = draft.approve.includes(name);
  const toggle = () => {
    const next = on ? used.filter((one) => one !== name) : names.filter((one) => used.includes(one) || one === name);
    change({ tools: next.length === names.length ? null : next });
  };
  const ask = () => change({ approve: asks ? draft.approve.filter((one) => one !== name) : [...draft.approve, name] });
  return html`<div class="tool">
    <label class="check" title=${description}><input type="checkbox" checked=${on} onChange=${toggle} /><code class="mono">${name}</code></label>
    ${mark(tool)}
    ${on && !tool.reads_only && !tool.approval &&
    html`<button type="button" class=${asks ? "ask-first" : "ask-first not"} aria-label=${`${name} ${t(asks ? "new.asks" : "new.asks_not")}`} onClick=${ask}>
      ${t(asks ? "new.asks" : "new.asks_not")}
    </button>`}
  </div>`;
}

/** What is to be known of a tool, in a word. @param {Tool} tool */
function mark(tool) {
  if (tool.approval) return html`<span class="st-call">${t("new.asks")}</span>`;
  return tool.reads_only && html`<span class="ink3">${t("new.reads")}</span>`;
}

/** @param {{draft: Draft, change: Change}} props */
function Files({ draft, change }) {
  const [refused, refuse] = useState("");
  const names = Object.keys(draft.files);
  const add = async (/** @type {any} */ event) => {
    const chosen = /** @type {File[]} */ ([...event.currentTarget.files]);
    event.currentTarget.value = "";
    if (names.length + chosen.length > FILES_MOST) return refuse(t("new.files_many", { n: FILES_MOST }));
    refuse("");
    const read = await Promise.all(chosen.map(async (file) => [file.webkitRelativePath || file.name, await file.text()]));
    change({ files: { ...draft.files, ...Object.fromEntries(read) } });
  };
  const remove = (/** @type {string} */ name) =>
    change({ files: Object.fromEntries(Object.entries(draft.files).filter(([one]) => one !== name)) });
  return html`<div class="field">
    <span class="l">${t("new.files")}</span>
    ${names.map(
      (name) =>
        html`<div class="file">
          <bdi class="mono cut" title=${name}>${name}</bdi><span class="ink3">${bytes(draft.files[name].length)}</span>
          <${Button} kind="plain" onClick=${() => remove(name)} label=${t("new.remove_file", { name })}>${t("new.remove")}<//>
        </div>`,
    )}
    <label class="btn">${t("new.add_files")}<input class="vh" type="file" multiple onChange=${add} /></label>
    <p class="hint">${refused || t("new.files_hint")}</p>
  </div>`;
}

/** Parameters of the model, and what steers the task; folded, open where something is wrong in it.
 * @param {{draft: Draft, set: (name: string, value: string) => void, fault: Fault}} props */
export function Steering({ draft, set, fault }) {
  const text = (/** @type {string} */ id, /** @type {any} */ more = {}) =>
    html`<${Text} id=${id} label=${id} value=${draft.fields[id] ?? ""} set=${(/** @type {string} */ value) => set(id, value)}
      fault=${fault.of(id)} ...${more} />`;
  const wrong = (/** @type {string[]} */ names) => names.some((name) => fault.of(name));
  return html`${draft.type !== "embedding" &&
    html`<${Folded} title=${t("new.params")} small="temperature, max_tokens, response_format, …" open=${wrong(["temperature", "top_p", "max_tokens", "seed", "params"])}>
      <div class="pair">
        ${text("temperature", { mode: "decimal" })} ${text("top_p", { mode: "decimal" })} ${text("max_tokens", { mode: "numeric" })} ${text("seed", { mode: "numeric" })}
        <${Choice} label="thinking" name="thinking" value=${draft.fields.thinking ?? ""} set=${(/** @type {string} */ value) => set("thinking", value)}
          options=${[["", t("new.unset")], ["on", "on"], ["off", "off"], ["auto", "auto"]]} />
      </div>
      ${text("params", { label: t("new.more_params"), rows: 3, hint: t("new.more_params_hint"), holder: '{"response_format": {"type": "json_object"}}' })}
    <//>`}
    <${Folded} title=${t("new.steering")} open=${wrong(["session_id", "metadata", "callback_url", "max_retries", "timeout_s"])}>
      <div class="pair">
        ${text("session_id", { hint: t("new.session_hint") })} ${text("callback_url", { type: "url", hint: t("new.callback_hint") })}
        ${text("max_retries", { mode: "numeric" })} ${text("timeout_s", { mode: "decimal", hint: t("new.timeout_hint") })}
        <${Choice} label="cache" name="cache" value=${draft.fields.cache ?? ""} set=${(/** @type {string} */ value) => set("cache", value)}
          options=${[["", t("new.unset")], ["true", "true"], ["false", "false"]]} />
      </div>
      ${text("metadata", { rows: 3, hint: t("new.metadata_hint"), holder: '{"ticket": 42}' })}
    <//>`;
}
