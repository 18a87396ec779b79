/**
 * The recurring tasks: when each runs next, what became of the last run, and the ways to change,
 * make and delete one.
 */

import { api } from "../core/api.js";
import { count, exact, relative } from "../core/format.js";
import { html } from "../core/html.js";
import { ErrorBlock, Sign, useNow } from "../core/parts.js";
import { go, href } from "../core/router.js";
import { t } from "../core/text.js";
import { again, keep } from "./draft.js";
import { Asked, Button, moment, Refused, useAction } from "./fields.js";
import { usePoll } from "./poll.js";

/**
 * @typedef {{schedule_id: string, name: string | null, cron: string, timezone: string,
 *   content_preview: string, created_at: string, next_run_at: string | null, last_run_at: string | null,
 *   last_due_at: string | null, last_task_id: string | null, runs: number,
 *   last_error: {code: string, message: string} | null}} Schedule
 */

const EVERY_MS = 10_000;
/** Characters of a preview; a longer text is cut by the service. */
const PREVIEW = 200;
const HEADS = ["what", "when", "next", "last", "runs"];

export default function Schedules() {
  const polled = usePoll("/schedules", EVERY_MS);
  useNow(true);
  const schedules = /** @type {{schedules: Schedule[]} | null} */ (polled.data)?.schedules;
  const make = href({ area: "new", filters: { when: "cron" } });
  return html`<div class="page">
    <div class="page-head">
      <div>
        <h1>${t("schedules.title")}</h1>
        <p>${schedules && t("schedules.sum", { count: schedules.length })}</p>
      </div>
      <div class="end"><a class="btn" href=${make}>${t("schedules.make")}</a></div>
    </div>
    ${polled.error && html`<${ErrorBlock} error=${polled.error} />`}
    ${schedules && !schedules.length && html`<p class="ink2 read">${t("schedules.none")}</p>`}
    ${schedules && schedules.length > 0 &&
    html`<div class="table-room">
      <table class="plain-table wide-table stack">
        <thead>
          <tr>
            ${HEADS.map((name) => html`<th scope="col" class=${name === "runs" ? "num" : ""}>${t(`schedules.${name}`)}</th>`)}
            <td></td>
          </tr>
        </thead>
        <tbody>
          ${schedules.map((one) => html`<${Row} key=${one.schedule_id} schedule=${one} refresh=${polled.refresh} />`)}
        </tbody>
      </table>
    </div>`}
  </div>`;
}

/** @param {{schedule: Schedule, refresh: () => void}} props */
function Row({ schedule, refresh }) {
  const { name, cron, timezone, content_preview: preview, next_run_at: next } = schedule;
  return html`<tr>
    <td class="what">
      ${name && html`<b><bdi>${name}</bdi></b><br />`}<span class=${name ? "ink2 cut-2" : "cut-2"} title=${preview}><bdi>${preview}${preview.length >= PREVIEW && "…"}</bdi></span>
    </td>
    <td data-l=${t("schedules.when")}><code class="mono">${cron}</code><br /><small>${timezone}</small></td>
    <td data-l=${t("schedules.next")} title=${exact(next)}>
      ${next ? html`${relative(next)}<br /><small>${moment(next)}</small>` : html`<span class="ink3">${t("schedules.never")}</span>`}
    </td>
    <td data-l=${t("schedules.last")} class="last"><${Last} schedule=${schedule} /></td>
    <td class="num" data-l=${t("schedules.runs")}>${count(schedule.runs)}</td>
    <td class="num acts"><${Actions} schedule=${schedule} refresh=${refresh} /></td>
  </tr>`;
}

/** What became of the last run: its task, or why it was refused. @param {{schedule: Schedule}} props */
function Last({ schedule }) {
  const { last_run_at: at, last_task_id: task, last_error: error } = schedule;
  if (error) {
    return html`<span class="st-failed"><${Sign} name="failed" /></span> <code class="mono">${error.code}</code>
      <span class="ink2 cut-2" title=${error.message}><bdi>${error.message}</bdi></span>`;
  }
  if (!at) return html`<span class="ink3">${t("schedules.not_yet")}</span>`;
  return html`<span title=${exact(at)}>${relative(at)}</span>${task &&
  html`<br /><a href=${href({ area: "tasks", id: task })}>${t("schedules.its_task")}</a>`}`;
}

/** Change and delete; deleting is asked, as it cannot be undone. @param {{schedule: Schedule, refresh: () => void}} props */
function Actions({ schedule, refresh }) {
  const path = `/schedules/${encodeURIComponent(schedule.schedule_id)}`;
  const name = schedule.name ?? schedule.content_preview.slice(0, 40);
  const change = useAction(async () => {
    const found = await api.get(path);
    keep(again(found.task, { when: "cron", cron: found.cron, timezone: found.timezone, name: found.name ?? "" }));
    go(href({ area: "new", filters: { when: "cron" } }));
  });
  const remove = async () => {
    await api.del(path);
    refresh();
  };
  return html`<${Refused} error=${change.error} />
    <${Button} kind="plain" onClick=${() => change.run()} label=${t("schedules.change_one", { name })}>${t("schedules.change")}<//>
    <${Asked} kind="plain" word=${t("schedules.delete")} label=${t("schedules.delete_one", { name })} act=${remove}
      no=${t("schedules.keep")} yes=${t("schedules.delete_it", { name })} />`;
}
