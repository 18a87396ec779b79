/**
 * The batches: files of requests, each line a task. How far each is, its results as a file, and the
 * way to begin one.
 */

import { api, call } from "../core/api.js";
import { bytes, count, exact, relative } from "../core/format.js";
import { html, useState } from "../core/html.js";
import { ErrorBlock, StateWord } from "../core/parts.js";
import { t } from "../core/text.js";
import { Asked, Button, Choice, Refused, useAction } from "./fields.js";
import { usePoll } from "./poll.js";

/**
 * @typedef {{id: string, endpoint: string, status: string, input_file_id: string,
 *   output_file_id: string | null, error_file_id: string | null, created_at: number,
 *   expires_at: number, completed_at: number | null,
 *   errors: {data: {code: string, message: string, line: number | null}[]} | null,
 *   request_counts: {total: number, completed: number, failed: number}}} Batch
 */

const EVERY_MS = 3000;
const MOST = 100;
const ENDPOINTS = ["/v1/chat/completions", "/v1/embeddings", "/v1/responses"];
const ENDED = ["completed", "failed", "expired", "cancelled"];
/** @type {Record<string, string>} */
const SIGNS = {
  validating: "pending",
  in_progress: "running",
  finalizing: "running",
  cancelling: "cancelled",
  completed: "completed",
  failed: "failed",
  expired: "failed",
  cancelled: "cancelled",
};

export default function Batches() {
  const polled = usePoll(`/v1/batches?limit=${MOST}`, EVERY_MS);
  const [making, make] = useState(false);
  const found = /** @type {{data: Batch[], has_more: boolean} | null} */ (polled.data);
  const batches = found?.data;
  const done = () => {
    make(false);
    polled.refresh();
  };
  return html`<div class="page">
    <div class="page-head">
      <div>
        <h1>${t("batches.title")}</h1>
        <p>${batches && t("batches.sum", { count: batches.length })}</p>
      </div>
      <div class="end">${!making && html`<${Button} onClick=${() => make(true)}>${t("batches.make")}<//>`}</div>
    </div>
    ${making && html`<${Maker} done=${done} leave=${() => make(false)} />`}
    ${polled.error && html`<${ErrorBlock} error=${polled.error} />`}
    ${batches && !batches.length && !making && html`<${None} />`}
    ${batches && batches.length > 0 && html`<${Table} batches=${batches} refresh=${polled.refresh} />`}
    ${found?.has_more && html`<p class="ink3 field">${t("batches.more", { n: MOST })}</p>`}
  </div>`;
}

function None() {
  const line = '{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions",\n "body": {"model": "auto", "messages": [{"role": "user", "content": "…"}]}}';
  return html`<div class="read">
    <p class="ink2">${t("batches.none")}</p>
    <pre class="snippet" tabindex="0">${line.replace("\n", "")}</pre>
  </div>`;
}

/** @param {{batches: Batch[], refresh: () => void}} props */
function Table({ batches, refresh }) {
  const heads = ["batch", "state", "done", "begun", "files"];
  return html`<div class="table-room">
    <table class="plain-table wide-table stack">
      <thead>
        <tr>
          ${heads.map((name) => html`<th scope="col">${t(`batches.${name}`)}</th>`)}
          <td></td>
        </tr>
      </thead>
      <tbody>
        ${batches.map((one) => html`<${Row} key=${one.id} batch=${one} refresh=${refresh} />`)}
      </tbody>
    </table>
  </div>`;
}

/** @param {{batch: Batch, refresh: () => void}} props */
function Row({ batch, refresh }) {
  const { status, request_counts: n, errors } = batch;
  const sign = SIGNS[status] ?? "pending";
  const begun = batch.created_at * 1000;
  return html`<tr>
    <td><code class="mono" title=${batch.id}>…${batch.id.slice(-8)}</code><br /><small>${batch.endpoint}</small></td>
    <td data-l=${t("batches.state")}><${StateWord} state=${sign} word=${t(`batches.is.${status}`)} /></td>
    <td data-l=${t("batches.done")} class="progress">
      <${Progress} total=${n.total} completed=${n.completed} failed=${n.failed} />
      ${errors?.data.slice(0, 3).map((one) => html`<p class="st-failed"><bdi>${one.line ? `${t("batches.line", { n: one.line })} ` : ""}${one.message}</bdi></p>`)}
    </td>
    <td data-l=${t("batches.begun")} title=${exact(begun)}>${relative(begun)}</td>
    <td data-l=${t("batches.files")}><${Results} batch=${batch} /></td>
    <td class="num acts">${!ENDED.includes(status) && status !== "cancelling" && html`<${Cancel} batch=${batch} refresh=${refresh} />`}</td>
  </tr>`;
}

/** @param {{total: number, completed: number, failed: number}} props */
function Progress({ total, completed, failed }) {
  const share = (/** @type {number} */ part) => `${total ? (100 * part) / total : 0}%`;
  if (!total) return html`<span class="ink3">–</span>`;
  return html`<span>${count(completed + failed)} <small>${t("batches.of", { n: total })}</small>${failed > 0 &&
    html` <span class="st-failed">${t("batches.failed", { count: failed })}</span>`}</span>
    <svg class="meter" aria-hidden="true">
      <rect class="track" x="0" y=".5" width="100%" height="7" />
      <rect class="fill" x="0" y=".5" width=${share(completed)} height="7" />
      <rect class="over" x=${share(completed)} y=".5" width=${share(failed)} height="7" />
    </svg>`;
}

/** @param {{batch: Batch}} props */
function Results({ batch }) {
  const files = [
    [batch.output_file_id, "batches.output"],
    [batch.error_file_id, "batches.errors"],
  ].filter(([id]) => id);
  if (!files.length) return html`<span class="ink3">–</span>`;
  return files.map(([id, key]) => html`<${Download} id=${id} word=${t(String(key))} />`);
}

/** A file as a download: read with the token of the page, which a plain link would not send.
 * @param {{id: string, word: string}} props */
function Download({ id, word }) {
  const { run, error } = useAction(async () => {
    const answer = await call(`/v1/files/${encodeURIComponent(id)}/content`, { headers: { accept: "*/*" } });
    const address = URL.createObjectURL(await answer.blob());
    Object.assign(document.createElement("a"), { href: address, download: `${id}.jsonl` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  });
  return html`<${Button} kind="plain" onClick=${() => run()}>${word}<//><${Refused} error=${error} />`;
}

/** Ends a batch: asked, as its other lines are not done then. @param {{batch: Batch, refresh: () => void}} props */
function Cancel({ batch, refresh }) {
  const { total, completed, failed } = batch.request_counts;
  const cancel = async () => {
    await api.post(`/v1/batches/${encodeURIComponent(batch.id)}/cancel`);
    refresh();
  };
  return html`<${Asked} word=${t("batches.cancel")} act=${cancel} no=${t("batches.go_on")}
    yes=${t("batches.cancel_it", { count: total - completed - failed })} />`;
}

/** Begins a batch: the file is uploaded, then the batch is made of it. @param {{done: () => void, leave: () => void}} props */
function Maker({ done, leave }) {
  const [file, choose] = useState(/** @type {File | null} */ (null));
  const [endpoint, set] = useState(ENDPOINTS[0]);
  const { run, busy, error } = useAction(async () => {
    const form = new FormData();
    form.append("purpose", "batch");
    form.append("file", /** @type {File} */ (file));
    const uploaded = await (await call("/v1/files", { method: "POST", body: form })).json();
    await api.post("/v1/batches", { input_file_id: uploaded.id, endpoint, completion_window: "24h" });
    done();
  });
  const begin = (/** @type {Event} */ event) => {
    event.preventDefault();
    void run();
  };
  return html`<form class="maker" onSubmit=${begin}>
    <div class="field">
      <span class="l">${t("batches.file")}</span>
      <label class="btn">${t("batches.choose")}<input class="vh" type="file" accept=".jsonl,application/jsonl" onChange=${(/** @type {any} */ event) => choose(event.currentTarget.files[0] ?? null)} /></label>
      ${" "}<span class="ink2">${file ? html`<bdi>${file.name}</bdi> · ${bytes(file.size)}` : t("batches.file_hint")}</span>
    </div>
    <${Choice} label=${t("batches.endpoint")} name="endpoint" value=${endpoint} set=${set} options=${ENDPOINTS.map((one) => [one, one])} />
    ${error && html`<div class="field"><${ErrorBlock} error=${error} /></div>`}
    <p class="field">
      <${Button} kind="main" type="submit" disabled=${!file || busy}>${t("batches.begin")}<//>
      ${" "}<${Button} onClick=${leave}>${t("batches.leave")}<//>
      ${!file && html`<span class="ink2"> ${t("batches.choose_first")}</span>`}
    </p>
  </form>`;
}
