/**
 * The head of a task: its state, what can be done now, what was asked, its figures, and its life
 * as a picture and in words.
 */
import { clock, count, seconds, visible } from "../core/format.js";
import { html, useState } from "../core/html.js";
import { Ask, Copy, ErrorBlock, StateWord, stateOf, useNow } from "../core/parts.js";
import { t } from "../core/text.js";
import { curl, plainText } from "./request.js";
import { Fork } from "./fork.js";
import { Life } from "./life.js";
import { allowed, steer } from "./steer.js";

/** @typedef {import("./tasklog.js").TaskLog} TaskLog */

/** @type {Record<string, string>} */
const KEYS = { pause: "p", resume: "p", cancel: "c", retry: "r" };
const TITLE_MOST = 400;

/** @param {{task: any, whole: any, log: TaskLog, onGone: (id: string) => void}} props */
function Actions({ task, whole, log, onGone }) {
  const [error, setError] = useState(/** @type {any} */ (null));
  const [asks, setAsks] = useState(false);
  const [forks, setForks] = useState(false);
  const [more, setMore] = useState(false);
  const run = async (/** @type {string} */ verb) => {
    setError(null);
    setAsks(false);
    try {
      await steer(task.task_id, verb);
      if (verb === "delete") {
        onGone(task.task_id);
      }
    } catch (failure) {
      setError(failure);
    }
  };
  const button = (/** @type {string} */ verb) => html`<button type="button" class="btn ${verb === "delete" ? "plain" : ""}"
    onClick=${() => (verb === "delete" ? setAsks(true) : run(verb))}>${t(`task.do.${verb}`)}${KEYS[verb] && html` <kbd>${KEYS[verb]}</kbd>`}</button>`;
  const answer = () => log.answer() || String(whole?.result ?? "");
  const vectors = task.type === "embedding";
  const forkable = task.type === "agent" && (task.metadata?.steps ?? 0) > 0;
  return {
    bar: html`<span class="acts ${more ? "all" : ""}">
      ${allowed(task).map(button)}
      <button type="button" class="btn only-narrow" aria-expanded=${more} onClick=${() => setMore(!more)}>${t("tasks.more")}</button>
      ${forkable && html`<button type="button" class="btn plain" onClick=${() => setForks(true)}>${t("task.do.fork")}</button>`}
      ${!vectors && html`<${Copy} text=${answer} label=${t("task.copy_answer")} />`}
      <${Copy} text=${() => location.href} label=${t("task.link")} />
      <${Copy} text=${() => curl(whole)} label="curl" />
    </span>`,
    below: html`${asks && html`<${Ask} question=${t("tasks.ask.delete", { count: 1 })} yes=${t("task.do.delete")} no=${t("task.keep")}
        onYes=${() => run("delete")} onNo=${() => setAsks(false)} />`}
      ${error && html`<${ErrorBlock} error=${error} />`}
      ${forks && html`<${Fork} task=${task} onClose=${() => setForks(false)} />`}`,
  };
}

/** @param {{task: any}} props */
function Facts({ task }) {
  const { name, model } = task.metadata ?? {};
  const kind = t("task.kind", { type: task.type, lane: task.lane, priority: task.priority });
  return html`<div class="facts">
    <span><b>${name ?? task.model ?? t("tasks.auto")}</b> ${model && html`<span class="mono ink3">${model}</span>`}</span>
    <span>${kind}</span>
    ${task.owner && html`<span><i>${t("task.owner")}</i> <bdi>${task.owner}</bdi></span>`}
    ${task.session_id && html`<span><i>${t("task.session")}</i> <bdi>${task.session_id}</bdi></span>`}
  </div>`;
}

/** @param {any} task @param {TaskLog} log @param {any} explained */
function speed(task, log, explained) {
  const rate = log.live?.tokens_per_s;
  if (task.status === "running") {
    return rate ?? null;
  }
  const tokens = task.metadata?.usage?.completion_tokens;
  const [attempt] = explained?.attempts?.slice(-1) ?? [];
  if (!tokens || !attempt?.ended_at || attempt.first_token_s == null || task.type === "agent") {
    return null;
  }
  const length = (Date.parse(attempt.ended_at) - Date.parse(attempt.started_at)) / 1000 - attempt.first_token_s;
  return length > 0.05 ? tokens / length : null;
}

/** @param {TaskLog} log @param {any} explained */
function firstToken(log, explained) {
  const attempt = log.attempts[log.attempts.length - 1];
  const known = explained?.attempts?.[explained.attempts.length - 1]?.first_token_s;
  return known ?? (attempt?.first == null ? null : (attempt.first - attempt.at) / 1000);
}

/** The seconds of its waits by reason, the longest first. @param {any} explained */
export function waited(explained) {
  if (!explained?.waits) {
    return [];
  }
  const { queued_s: queued = {}, scheduled_s: scheduled, retry_s: retry, paused_s: all, session_s: session } = explained.waits;
  const person = Math.min(explained.agent?.person_s ?? 0, all);
  const more = { scheduled, retry, paused: all - person, session, person };
  return Object.entries({ ...queued, ...more })
    .filter(([, value]) => Number(value) >= 0.05)
    .sort(([, one], [, other]) => other - one);
}

/** @param {{task: any, whole: any, log: TaskLog, explained: any, now: number}} props */
function Readings({ task, whole, log, explained, now }) {
  const end = task.finished_at ? Date.parse(task.finished_at) : now;
  const usage = task.metadata?.usage;
  const thinking = usage?.completion_tokens_details?.reasoning_tokens;
  const tokens = usage?.completion_tokens ?? log.live?.tokens;
  const rate = speed(task, log, explained);
  const first = firstToken(log, explained);
  const waits = waited(explained).reduce((sum, [, value]) => sum + Number(value), 0);
  const most = whole?.max_retries == null ? "" : t("task.of", { n: whole.max_retries + 1 });
  const steps = task.metadata?.steps;
  const unit = (/** @type {string} */ text) => text && html`<small>${text}</small>`;
  /** @type {[string, any, any][]} */
  const reads = [["elapsed", clock(Math.max(end - Date.parse(task.created_at), 0) / 1000), ""]];
  if (first !== null) {
    reads.push(["first", count(first, 2), "s"]);
  }
  if (rate) {
    reads.push(["speed", count(rate, 1), t("task.tok_s")]);
  }
  if (tokens) {
    reads.push(["tokens", count(tokens), thinking ? t("task.of_thinking", { count: thinking }) : ""]);
  }
  if (task.attempts || log.attempts.length) {
    reads.push(["attempt", count(Math.max(task.attempts, 1)), most]);
  }
  if (steps) {
    reads.push(["step", count(steps), whole?.max_steps ? t("task.of", { n: whole.max_steps }) : ""]);
  }
  if (waits >= 0.1) {
    reads.push(waits < 60 ? ["waited", count(waits, 1), "s"] : ["waited", clock(waits), ""]);
  }
  return html`<dl class="reads">${reads.map(([name, value, more]) => html`<div><dt>${t(`task.read.${name}`)}</dt><dd>${value}${unit(more)}</dd></div>`)}</dl>`;
}

/** @param {any} task @param {any} whole */
function titleOf(task, whole) {
  const text = plainText(whole) || task.content_preview || "";
  return visible(text.trim().slice(0, TITLE_MOST)) || t("tasks.no_text", { type: task.type });
}

/** @param {{task: any, whole: any, log: TaskLog, turns: number, explained: any, onGone: (id: string) => void}} props */
export function TaskHead({ task, whole, log, explained, onGone }) {
  const lively = !task.finished_at && task.status !== "paused";
  const now = useNow(!task.finished_at);
  const { bar, below } = Actions({ task, whole, log, onGone });
  const waits = waited(explained);
  const sum = waits.reduce((all, [, value]) => all + Number(value), 0);
  return html`<div class="task-line">
      <${StateWord} state=${stateOf(task)} />
      <${Copy} text=${task.task_id} label=${task.task_id} cls="mono ink3 cut copy-id" title=${t("task.copy_id")} />
      ${bar}
    </div>
    ${below}
    <h2 class="title" dir="auto">${titleOf(task, whole)}</h2>
    <${Facts} task=${task} />
    <${Readings} task=${task} whole=${whole} log=${log} explained=${explained} now=${now} />
    <${Life} log=${log} now=${lively || stateOf(task) === "call" ? now : Date.now()} />
    ${(waits.length > 0 || task.status === "scheduled") && html`<p class="life-words">
      ${waits.length > 0 && html`<span>${t("task.waited", { length: seconds(sum) })} ${waits.map(
        ([reason, value], at) => html`${at ? " · " : ""}<b>${t(`task.wait.${reason}`)} ${sum < 60 ? count(Number(value), 1) : seconds(Number(value))}</b>`,
      )}</span>`}
    </p>`}`;
}
