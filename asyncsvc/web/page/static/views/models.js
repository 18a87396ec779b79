/**
 * The models: what each key takes at this moment, what it waits for in the provider's own words,
 * and the two things that can be done: hold a model and release it.
 */

import { api } from "../core/api.js";
import { count, daytime, seconds, visible } from "../core/format.js";
import { html } from "../core/html.js";
import { Copy, ErrorBlock, StateWord, useNow } from "../core/parts.js";
import { t } from "../core/text.js";
import { Button, moment, Refused, useAction } from "./fields.js";
import { lacks, Slots, soonest, standing, Window } from "./gate.js";
import { usePoll } from "./poll.js";
import { Reload } from "./reload.js";

/** @typedef {import("./gate.js").Model} Model */
/** @typedef {import("./gate.js").Gate} Gate */

const EVERY_MS = 2000;
const COLUMNS = ["id", "sl", "n", "w", "st", "n", "n", "n", "l", "a"];
const KINDS = /** @type {const} */ (["service", "full", "rests", "probe", "broken", "held", "off", "refused"]);

export default function Models() {
  const polled = usePoll("/models", EVERY_MS);
  const now = useNow(true);
  const models = /** @type {{models: Model[]} | null} */ (polled.data)?.models;
  const since = Math.max(now - polled.at, 0) / 1000;
  return html`<div class="page">
    <div class="page-head">
      <div>
        <h1>${t("models.title")}</h1>
        <p>${models && summary(models, since)}</p>
      </div>
      <div class="end"><${Reload} done=${polled.refresh} /></div>
    </div>
    ${polled.error && html`<${ErrorBlock} error=${polled.error} />`}
    ${!models && !polled.error && html`<p class="ink2">${t("models.reading")}</p>`}
    ${models && models.length === 0 && html`<p class="ink2">${t("models.none")}</p>`}
    ${models && models.length > 0 && html`<${Table} models=${models} since=${since} refresh=${polled.refresh} />`}
  </div>`;
}

/**
 * @param {Model[]} models
 * @param {number} since
 */
function summary(models, since) {
  const kinds = models.map((model) => standing(model, since).kind);
  const parts = KINDS.map((kind) => [kind, kinds.filter((found) => found === kind).length]).filter(([, n]) => n);
  return parts.map(([kind, n]) => t(`models.sum.${kind}`, { count: Number(n) })).join(t("models.comma"));
}

/** @param {{models: Model[], since: number, refresh: () => void}} props */
function Table({ models, since, refresh }) {
  const head = ["model", "slots", "used", "calls", "state", "queue", "latency", "speed", "learned"];
  const right = ["used", "queue", "latency", "speed"];
  return html`<div class="gates-room">
    <table class="gates">
      <colgroup>
        ${COLUMNS.map((name) => html`<col class=${`c-${name}`} />`)}
      </colgroup>
      <thead>
        <tr>
          ${head.map((name) => html`<th scope="col" class=${right.includes(name) ? "num" : ""}>${t(`models.${name}`)}</th>`)}
          <td></td>
        </tr>
      </thead>
      ${models.map((model) => html`<${Row} key=${model.name} model=${model} since=${since} refresh=${refresh} />`)}
    </table>
  </div>`;
}

/** @param {{model: Model, since: number, refresh: () => void}} props */
function Row({ model, since, refresh }) {
  const state = standing(model, since);
  const off = state.kind === "off" || state.kind === "refused";
  const none = html`<span class="ink3">–</span>`;
  const several = model.gates.length > 1;
  const used = model.gates.reduce((sum, gate) => sum + gate.window_used, 0);
  return html`<tbody class=${off ? "off" : ""}>
    <tr>
      <td class="id">
        <strong>${model.name}</strong><span class="mono ink3 cut" title=${model.model}>${model.model}</span>
      </td>
      <td class="g-sl">
        ${off ? none : html`<${Slots} used=${model.in_flight} all=${model.concurrency} probe=${state.kind === "probe"} />`}
      </td>
      <td class="num g-used" data-l=${t("models.used")}>
        ${off ? none : html`<b>${count(model.rpm ? used : model.calls_last_60s)}</b><br /><small>${limit(model.rpm)}</small>`}
      </td>
      <td class="window">${off ? none : html`<${Window} gates=${model.gates} since=${since} />`}</td>
      <td class="g-st">
        <${StateWord} state=${state.sign} word=${word(state)} />
      </td>
      <td class="g-q num" data-l=${t("models.queue")}>${off ? none : count(model.queue_depth)}</td>
      <td class="g-lat num" data-l=${t("models.latency")}>${latency(model)}</td>
      <td class="g-tps num" data-l=${t("models.speed")}>${model.tokens_per_s == null ? none : count(Math.round(model.tokens_per_s))}</td>
      <td class=${`g-learn ink2 ${learned(model) ? "" : "none"}`} data-l=${t("models.learned")}>${learned(model) ?? none}</td>
      <td class="num g-act">${!off && html`<${Hold} model=${model} refresh=${refresh} />`}</td>
    </tr>
    ${several && model.gates.map((gate, n) => html`<${Key} key=${gate.name} gate=${gate} n=${n + 1} since=${since} />`)}
    <${Words} model=${model} state=${state} since=${since} />
  </tbody>`;
}

/** @param {number | null} rpm */
function limit(rpm) {
  if (rpm === null) return t("models.learns");
  return rpm ? t("models.of_limit", { n: rpm }) : t("models.no_limit");
}

/** @param {import("./gate.js").Standing} state */
function word(state) {
  if (state.kind === "rests" && state.left !== null) return t("models.rests_for", { length: seconds(Math.ceil(state.left)) });
  return t(`models.is.${state.kind}`);
}

/** @param {Model} model */
function latency({ latency_s: whole, first_token_s: first }) {
  if (whole === null) return html`<span class="ink3">–</span>`;
  return html`${seconds(whole)}${first != null && html`<br /><small>${t("models.first", { length: seconds(first) })}</small>`}`;
}

/** @param {Model} model */
function learned(model) {
  const found = model.gates.map((gate) => gate.learned).find((one) => one);
  if (!found) return null;
  const parts = [];
  if (model.concurrency_auto && model.concurrency) parts.push(t("models.at_once", { n: model.concurrency }));
  if (model.rpm_auto && model.rpm) parts.push(t("models.a_minute", { n: model.rpm }));
  return parts.length ? parts.join(t("models.comma")) : null;
}

/** One key of a model that has several. @param {{gate: Gate, n: number, since: number}} props */
function Key({ gate, n, since }) {
  return html`<tr class="sub">
    <td class="id ink2">${t("models.key", { n })} <span class="mono ink3 cut" title=${gate.name}>${gate.name}</span></td>
    <td class="g-sl"><${Slots} used=${gate.in_flight} all=${gate.concurrency} /></td>
    <td class="num g-used">
      <b>${count(gate.window_limit ? gate.window_used : gate.calls_in_window)}</b>${" "}
      ${gate.window_limit > 0 && html`<small>${t("models.of_limit", { n: gate.window_limit })}</small>`}
    </td>
    <td class="window"><${Window} gates=${[gate]} since=${since} bare /></td>
    <td colspan="6" class="ink2 cut" title=${gate.waiting_for}>${gate.waiting_for}</td>
  </tr>`;
}

/**
 * The line below a model: what keeps it from work, and the provider's own words. Nothing where it works.
 *
 * @param {{model: Model, state: import("./gate.js").Standing, since: number}} props
 */
function Words({ model, state }) {
  if (state.kind === "service") return null;
  const said = sentence(model, state.kind);
  const refusal = model.gates.map((gate) => gate.last_refusal).find((one) => one);
  const quoted = refusal && ["rests", "probe", "broken"].includes(state.kind) ? refusal : null;
  if (!said && !quoted) return null;
  return html`<tr class="word">
    <td></td>
    <td colspan="9">
      <div class="words">
        ${quoted && html`<span>${provider(quoted)}</span><q><bdi>${visible(quoted.message)}</bdi></q>`}
        ${said && html`<span class="ink2">${said}</span>`}
      </div>
    </td>
  </tr>`;
}

/** @param {import("./gate.js").LastRefusal} refusal */
function provider({ at, status, retry_after_s: after }) {
  const parts = [t("models.said", { when: daytime(at) })];
  if (status) parts.push(t("models.status", { status }));
  if (after !== null && after !== undefined) parts.push(`Retry-After ${after}`);
  return `${parts.join(t("models.comma"))}${t("models.colon")}`;
}

/** @param {Model} model @param {string} kind */
function sentence(model, kind) {
  const name = lacks(model);
  if (name) {
    return html`${t("models.set_first")} <code class="mono">${name}</code> ${t("models.set_then")} <${Copy} text=${name} label=${t("models.copy_name")} />`;
  }
  if (kind === "refused") return html`<bdi>${model.reason}</bdi>`;
  if (kind === "held") {
    return html`<span>${t("models.held_since", { when: moment(model.paused_at ?? "") })}</span>${" "}
      ${model.queue_depth > 0 && html`<span>${t("models.wait_for_it", { count: model.queue_depth })}</span>`}`;
  }
  return reason(model, kind);
}

/** Why no key of a model takes a call, in the reader's language; the service's sentence where it gives no value.
 * @param {Model} model @param {string} kind */
function reason(model, kind) {
  const gate = soonest(model);
  if (!gate?.why) return model.waiting_for && html`<bdi>${model.waiting_for}</bdi>`;
  if (kind === "full" && ["concurrency", "rate"].includes(gate.why)) return null; // slots and window say it above
  if (kind === "probe") return t("models.why.probe");
  const until = gate.next_in_s ?? null;
  const said = t(`models.why.${gate.why}`);
  return until === null ? said : `${said} ${t("models.until", { when: daytime(Date.now() + until * 1000) })}`;
}

/** Holds or releases a model. @param {{model: Model, refresh: () => void}} props */
function Hold({ model, refresh }) {
  const { name, paused } = model;
  const { run, busy, error } = useAction(async () => {
    await api.post(`/models/${encodeURIComponent(name)}/${paused ? "resume" : "pause"}`);
    refresh();
  });
  return html`<${Button} onClick=${() => run()} disabled=${busy} label=${t(paused ? "models.release_one" : "models.hold_one", { name })}>
      ${t(paused ? "models.release" : "models.hold")}<//>
    <${Refused} error=${error} />`;
}
