/**
 * The first start: no model can answer yet. Which variable to set for which model, how to try the
 * service without any key, and a first question as soon as a model can answer.
 */

import { api } from "../core/api.js";
import { html, useState } from "../core/html.js";
import { Copy, ErrorBlock } from "../core/parts.js";
import { go, href } from "../core/router.js";
import { t } from "../core/text.js";
import { Button, useAction } from "./fields.js";
import { lacks } from "./gate.js";
import { usePoll } from "./poll.js";

/** @typedef {import("./gate.js").Model} Model */

const EVERY_MS = 3000;

/** Whether no chat model can ever answer as things are: then this view stands in place of the tasks.
 * @param {Model[] | null} models */
export function nothingCanAnswer(models) {
  return models !== null && !models.some((model) => model.type === "chat" && model.enabled);
}

export default function First() {
  const polled = usePoll("/models", EVERY_MS);
  const models = /** @type {{models: Model[]} | null} */ (polled.data)?.models ?? null;
  const without = models?.filter((model) => !model.enabled) ?? [];
  const ready = models !== null && !nothingCanAnswer(models);
  return html`<div class="page">
    <div class="start">
      <h1>${t(ready ? "first.ready" : "first.title")}</h1>
      <p>${t(ready ? "first.ready_text" : "first.text", { count: without.length })}</p>
      ${polled.error && html`<${ErrorBlock} error=${polled.error} />`}
      <div class="ways">
        <span class="n">1</span>
        <div><${Simulated} /></div>
        <span class="n">2</span>
        <div><${Keys} models=${without} /></div>
        <span class="n">3</span>
        <div><${Question} ready=${ready} /></div>
      </div>
    </div>
  </div>`;
}

function Simulated() {
  return html`<h2>${t("first.simulated")}</h2>
    <p>${t("first.simulated_text")}</p>
    <${Command} text="python main.py demo --keep" />`;
}

/** @param {{models: Model[]}} props */
function Keys({ models }) {
  const named = models.map((model) => /** @type {const} */ ([model, lacks(model)]));
  const told = models.some((model) => goodAt(model) && model.type === "chat");
  const heads = ["model", "id", "variable", ...(told ? ["good_at"] : [])];
  const first = named.find(([model, name]) => name && model.type === "chat")?.[1];
  return html`<h2>${t("first.keys")}</h2>
    <p>${t("first.keys_text")}</p>
    ${first && html`<${Command} text=${`export ${first}=…\npython main.py`} />`}
    ${named.length > 0 &&
    html`<div class="table-room">
      <table class="plain-table stack">
        <thead>
          <tr>
            ${heads.map((name) => html`<th scope="col">${t(`first.${name}`)}</th>`)}
            <td></td>
          </tr>
        </thead>
        <tbody>
          ${named.map(
            ([model, name]) =>
              html`<tr key=${model.name}>
                <td><b>${model.name}</b></td>
                <td class="mono ink3">${model.model}</td>
                <td data-l=${t("first.variable")}>${name ? html`<code class="mono">${name}</code>` : html`<bdi class="ink2">${model.reason}</bdi>`}</td>
                ${told && html`<td class="ink2" data-l=${t("first.good_at")}>${goodAt(model)}</td>`}
                <td class="num">${name && html`<${Copy} text=${name} title=${t("first.copy_one", { name })} />`}</td>
              </tr>`,
          )}
        </tbody>
      </table>
    </div>`}`;
}

/** What a model is for, in words where the service says it. @param {Model} model */
function goodAt(model) {
  if (model.type === "embedding") return t("first.for.embedding");
  return (model.good_at ?? []).map((one) => t(`first.for.${one}`)).join(t("models.comma"));
}

/** @param {{text: string}} props */
function Command({ text }) {
  return html`<div class="cmd"><pre>${text}</pre><${Copy} text=${text} /></div>`;
}

/** @param {{ready: boolean}} props */
function Question({ ready }) {
  const [text, set] = useState(() => t("first.example"));
  const { run, busy, error } = useAction(async () => {
    const { task_id: id } = await api.post("/tasks", { content: text });
    go(href({ area: "tasks", id }));
  });
  const ask = (/** @type {Event} */ event) => {
    event.preventDefault();
    void run();
  };
  return html`<h2>${t("first.ask")}</h2>
    <form class="ask-box" onSubmit=${ask}>
      <input aria-label=${t("first.question")} value=${text} disabled=${!ready} onInput=${(/** @type {any} */ event) => set(event.currentTarget.value)} />
      <${Button} kind=${ready ? "main" : ""} type="submit" disabled=${!ready || busy || !text.trim()}>${t("first.ask_it")}<//>
    </form>
    ${error && html`<${ErrorBlock} error=${error} />`}
    <p class="ink3">${t(ready ? "first.ask_ready" : "first.ask_later")}</p>`;
}
