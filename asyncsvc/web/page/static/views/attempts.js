/**
 * The attempts of a task: which model and why, what each waited for, how it ended, and its text
 * that is void.
 */
import { count, exact, seconds } from "../core/format.js";
import { html } from "../core/html.js";
import { ErrorBlock } from "../core/parts.js";
import { t } from "../core/text.js";
import { Plain } from "./entries.js";

/** @param {any} waits */
function waitWords(waits) {
  const found = Object.entries(waits ?? {}).filter(([, value]) => Number(value) >= 0.05);
  return found.map(([reason, value]) => `${t(`task.wait.${reason}`)} ${seconds(Number(value))}`).join(" · ");
}

/** @param {{attempt: any, known: any}} props */
function One({ attempt, known }) {
  const waits = waitWords(known?.waited);
  const facts = [
    known?.first_token_s == null ? "" : t("task.first_after", { length: seconds(known.first_token_s) }),
    known?.chunks ? t("task.pieces", { count: known.chunks, characters: count(known.characters) }) : "",
    known?.outcome ? t("task.outcome", { outcome: known.outcome }) : "",
  ].filter(Boolean);
  const text = attempt?.parts?.length ? attempt.parts : null;
  return html`<section class="attempt">
    <h3>${t("task.attempt_n", { n: known?.number ?? attempt.number })} · ${known?.name ?? attempt.name} <span class="mono ink3">${known?.model ?? attempt.model}</span></h3>
    <p class="ink2">${known?.why ?? attempt.why}</p>
    <p class="ink3"><span title=${exact(known?.started_at)}>${facts.join(" · ")}</span></p>
    ${waits && html`<p class="ink3">${t("task.waited_for")} ${waits}</p>`}
    ${(known?.error ?? attempt?.error) && html`<${ErrorBlock} error=${known?.error ?? attempt.error} />`}
    ${text && html`<details><summary>${t("task.void_text", { count: text.join("").length })}</summary>
      <${Plain} parts=${text} version=${text.length} /></details>`}
  </section>`;
}

/** @param {{log: import("./tasklog.js").TaskLog, explained: any}} props */
export function Attempts({ log, explained }) {
  const known = explained?.attempts ?? [];
  const all = Array.from({ length: Math.max(known.length, log.attempts.length) }, (_, at) => at);
  return html`<div class="log flow" tabindex="0">
    ${all.length ? all.map((at) => html`<${One} key=${at} attempt=${log.attempts[at]} known=${known[at]} />`) : html`<p class="empty-log ink3">${t("task.no_attempts")}</p>`}
  </div>`;
}
