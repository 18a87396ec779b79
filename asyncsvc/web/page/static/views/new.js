/**
 * A new task, now, at a time, or again and again: what was written is kept until it is submitted,
 * and the route is shown while it is written.
 */

import { api } from "../core/api.js";
import { bytes, count, seconds } from "../core/format.js";
import { html, useEffect, useRef, useState } from "../core/html.js";
import { useKeys } from "../core/keys.js";
import { ErrorBlock, Sign } from "../core/parts.js";
import { go, href } from "../core/router.js";
import { t } from "../core/text.js";
import { empty, keep, kept, schedule, submission } from "./draft.js";
import { Button, Choice, Text, useAction } from "./fields.js";
import { Start, Steering, Tools } from "./new_fields.js";
import { usePoll } from "./poll.js";
import { Preview, useRoute } from "./preview.js";

/** @typedef {import("./draft.js").Draft} Draft */

const KEEP_AFTER_MS = 400;
const FILE_MOST = 10 * 1024 * 1024;
const PRIORITIES = ["0", "3", "5", "7", "9"];

/** @param {{route: import("../core/types.js").Route}} props */
export default function NewTask({ route }) {
  const [draft, change, forget] = useDraft(route.filters.when);
  const recurring = draft.when === "cron";
  const made = recurring ? schedule(draft) : submission(draft);
  const task = recurring ? made.body.task : made.body;
  const written = draft.content.trim() !== "";
  const asked = useRoute(written && !Object.keys(made.faults).length ? task : null);
  const path = recurring ? "/schedules" : "/tasks";

  const { run, busy, error } = useAction(async () => {
    const answer = await api.post(path, made.body);
    forget();
    go(recurring ? href({ area: "schedules" }) : href({ area: "tasks", id: answer.task_id }));
  });
  const submit = () => {
    if (!busy && written && !Object.keys(made.faults).length) void run();
  };
  useKeys("new", { "Ctrl Enter": submit });

  const fault = faultOf(made.faults, error ?? asked.error);
  return html`<div class="page">
    <div class="page-head"><h1>${t("new.title")}</h1></div>
    <div class="new">
      <form
        onSubmit=${(/** @type {Event} */ event) => {
          event.preventDefault();
          submit();
        }}
      >
        <${Form} draft=${draft} change=${change} fault=${fault} asked=${asked} />
        ${error && !fault.shown && html`<div class="field"><${ErrorBlock} error=${error} /></div>`}
        <div class="submit">
          <${Button} kind="main" type="submit" disabled=${busy || !written}
            >${t(recurring ? "new.make_schedule" : "new.submit")} <kbd>Ctrl Enter</kbd><//
          >
          <span class="ink2">${written ? outlook(draft, asked) : t("new.write_first")}</span>
          ${written &&
          html`<${Button} kind="plain" onClick=${() => change({ ...empty(), type: draft.type })}>${t("new.clear_draft")}<//>`}
        </div>
      </form>
      <${Preview} asked=${asked} path=${path} body=${written ? made.body : null} />
    </div>
  </div>`;
}

/**
 * The draft, the way to change it and the way to forget it; kept in the browser when nothing was
 * typed for a moment, and when the view is left.
 *
 * @param {string | undefined} when from the address
 * @returns {[Draft, (part: Partial<Draft>) => void, () => void]}
 */
function useDraft(when) {
  const [draft, set] = useState(() => {
    const found = kept();
    return when === "cron" || when === "at" ? { ...found, when: /** @type {Draft["when"]} */ (when) } : found;
  });
  const due = useRef(/** @type {{draft: Draft, timer: any} | null} */ (null));
  const latest = useRef(draft);
  useEffect(
    () => () => {
      if (due.current) keep(due.current.draft);
      clearTimeout(due.current?.timer);
    },
    [],
  );
  const change = (/** @type {Partial<Draft>} */ part) => {
    const next = { ...latest.current, ...part };
    latest.current = next;
    set(next);
    clearTimeout(due.current?.timer);
    const timer = setTimeout(() => {
      keep(next);
      due.current = null;
    }, KEEP_AFTER_MS);
    due.current = { draft: next, timer };
  };
  const forget = () => {
    clearTimeout(due.current?.timer);
    due.current = null;
    keep(null);
  };
  return [draft, change, forget];
}

/**
 * The fault of each field, in words; `shown` says whether the service's own stands at a field.
 *
 * @param {Record<string, string>} faults
 * @param {any} error
 * @returns {{of: (name: string) => string | null, shown: boolean}}
 */
function faultOf(faults, error) {
  const param = error?.status === 422 && error.param ? String(error.param).replace(/^task\./, "") : null;
  const name = param && (param.startsWith("params.") ? (AT_A_FIELD.has(param.slice(7)) ? param.slice(7) : "params") : param);
  const shown = Boolean(name && AT_A_FIELD.has(name));
  return {
    of: (field) => {
      if (faults[field]) return t(`new.fault.${faults[field]}`);
      return shown && field === name ? `${error.message} (${error.status} ${error.code})` : null;
    },
    shown,
  };
}

const AT_A_FIELD = new Set([
  ...["content", "input", "model", "run_at", "cron", "timezone", "name", "max_steps", "token_budget"],
  ...["max_wait_s", "timeout_s", "max_retries", "session_id", "callback_url", "metadata", "params"],
  ...["temperature", "top_p", "max_tokens", "seed"],
]);

/** @param {Draft} draft @param {import("./preview.js").Asked} asked */
function outlook(draft, asked) {
  if (draft.when === "cron") return t("new.kept_schedule");
  if (draft.when === "at") return t("new.kept_time");
  const chosen = asked.route?.candidates.find((one) => one.model === asked.route?.chosen);
  if (!chosen || chosen.eta_s === null) return t("new.kept");
  return t("new.done_by", { length: seconds(chosen.eta_s), model: chosen.model });
}

/** @param {{draft: Draft, change: (part: Partial<Draft>) => void, fault: {of: (name: string) => string | null}, asked: any}} props */
function Form({ draft, change, fault, asked }) {
  const fields = (/** @type {string} */ name, /** @type {string} */ value) =>
    change({ fields: { ...draft.fields, [name]: value } });
  const agent = draft.type === "agent";
  return html`<${Choice} bare label=${t("new.type")} name="type" value=${draft.type} set=${(/** @type {any} */ type) => change({ type })}
      options=${["chat", "agent", "embedding"].map((type) => [type, t(`new.type.${type}`)])} />
    <${Content} draft=${draft} change=${change} asked=${asked} fault=${fault.of("content") ?? fault.of("input")} />
    <div class="pair">
      <${ModelChoice} draft=${draft} change=${change} asked=${asked} fault=${fault.of("model")} />
      <${Choice} label=${t("new.lane")} name="lane" value=${draft.lane} set=${(/** @type {string} */ lane) => change({ lane })}
        options=${["priority", "short", "long"].map((lane) => [lane, lane])} />
      <${Choice} label=${t("new.priority")} small=${t("new.nine_first")} name="priority" value=${String(draft.priority)}
        set=${(/** @type {string} */ value) => change({ priority: Number(value) })}
        options=${priorities(draft.priority).map((value) => [value, value])} />
    </div>
    <${Start} draft=${draft} change=${change} fault=${fault} />
    ${agent && html`<${Tools} draft=${draft} change=${change} />`}
    <div class="pair">
      ${agent &&
      html`<${Text} id="max_steps" label=${t("new.steps")} mode="numeric" holder="25" value=${draft.fields.max_steps ?? ""}
          set=${(/** @type {string} */ value) => fields("max_steps", value)} fault=${fault.of("max_steps")} />
        <${Text} id="token_budget" label=${t("new.budget")} mode="numeric" holder=${t("new.no_budget")} value=${draft.fields.token_budget ?? ""}
          set=${(/** @type {string} */ value) => fields("token_budget", value)} fault=${fault.of("token_budget")} />`}
      ${draft.when === "now" &&
      html`<${Text} id="max_wait_s" label=${t("new.max_wait")} mode="decimal" holder=${t("new.max_wait_empty")} value=${draft.fields.max_wait_s ?? ""}
        set=${(/** @type {string} */ value) => fields("max_wait_s", value)} fault=${fault.of("max_wait_s")} />`}
    </div>
    <${Steering} draft=${draft} set=${fields} fault=${fault} />`;
}

/** The usual steps, and the one that a draft from elsewhere has. @param {number} value */
function priorities(value) {
  return [...new Set([...PRIORITIES, String(value)])].sort();
}

/** @param {{draft: Draft, change: (part: Partial<Draft>) => void, asked: any, fault: string | null}} props */
function Content({ draft, change, asked, fault }) {
  const size = new TextEncoder().encode(draft.content).length;
  const tokens = asked.route?.prompt_tokens;
  const [refused, refuse] = useState("");
  const take = async (/** @type {File | undefined} */ file) => {
    if (!file) return;
    if (file.size > FILE_MOST) return refuse(t("new.file_large", { name: file.name, size: bytes(file.size) }));
    refuse("");
    const text = await file.text();
    change({ content: draft.content ? `${draft.content}\n\n${text}` : text });
  };
  return html`<div class="field">
    <label class="vh" for="content">${t("new.text")}</label>
    <textarea
      id="content"
      rows="6"
      autofocus
      placeholder=${t(draft.type === "embedding" ? "new.holder_embedding" : "new.holder")}
      value=${draft.content}
      aria-invalid=${fault ? "true" : undefined}
      aria-describedby="content-below"
      onInput=${(/** @type {any} */ event) => change({ content: event.currentTarget.value })}
      onDragOver=${(/** @type {DragEvent} */ event) => event.preventDefault()}
      onDrop=${(/** @type {DragEvent} */ event) => {
        if (!event.dataTransfer?.files.length) return;
        event.preventDefault();
        void take(event.dataTransfer.files[0]);
      }}
    ></textarea>
    ${(fault || refused) &&
    html`<p class="wrong" role="alert"><${Sign} name="failed" /><span>${fault ?? refused}</span></p>`}
    <div class="below" id="content-below">
      <span>${t("new.drop")}</span>
      <span>${bytes(size)}${tokens ? ` · ${t("new.tokens", { count: tokens, n: count(tokens) })}` : ""}</span>
    </div>
  </div>`;
}

/** @param {{draft: Draft, change: (part: Partial<Draft>) => void, asked: any, fault: string | null}} props */
function ModelChoice({ draft, change, asked, fault }) {
  const { data } = usePoll("/models", 0);
  const type = draft.type === "embedding" ? "embedding" : "chat";
  const models = /** @type {{models: import("./gate.js").Model[]} | null} */ (data)?.models ?? [];
  const fitting = models.filter((model) => model.type === type);
  const chosen = !draft.model && asked.route?.chosen;
  return html`<div class="field">
    <label class="l" for="model">${t("new.model")}</label>
    <select id="model" value=${draft.model} onChange=${(/** @type {any} */ event) => change({ model: event.currentTarget.value })}>
      <option value="">${chosen ? t("new.automatic_to", { model: chosen }) : t("new.automatic")}</option>
      ${draft.model && !fitting.some((one) => one.name === draft.model) && html`<option value=${draft.model}>${draft.model}</option>`}
      ${fitting.map(
        (one) =>
          html`<option value=${one.name}>${one.name}${one.paused ? ` · ${t("models.is.held")}` : one.enabled ? "" : ` · ${t("models.is.off")}`}</option>`,
      )}
    </select>
    ${fault && html`<p class="wrong" role="alert"><${Sign} name="failed" /><span>${fault}</span></p>`}
  </div>`;
}
