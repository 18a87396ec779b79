/**
 * A fork: a new agent that goes on from a step of this one, with its conversation and workspace of
 * that moment.
 */
import { api } from "../core/api.js";
import { html, useState } from "../core/html.js";
import { Dialog, ErrorBlock } from "../core/parts.js";
import { go, href } from "../core/router.js";
import { t } from "../core/text.js";

/** @param {{task: any, onClose: () => void}} props */
export function Fork({ task, onClose }) {
  const steps = task.metadata.steps;
  const [step, setStep] = useState(steps);
  const [content, setContent] = useState("");
  const [error, setError] = useState(/** @type {any} */ (null));
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setError(null);
    try {
      const more = content.trim() ? { content: content.trim() } : {};
      const made = await api.post(`/tasks/${encodeURIComponent(task.task_id)}/fork`, { step, ...more });
      onClose();
      go(href({ area: "tasks", id: made.task_id }));
    } catch (failure) {
      setError(failure);
    }
  };
  return html`<${Dialog} title=${t("task.fork.title")} onClose=${onClose}>
    <form onSubmit=${submit}>
      <p class="ink2">${t("task.fork.words")}</p>
      <div class="field"><label class="l" for="fork-step">${t("task.fork.step", { count: steps })}</label>
        <input id="fork-step" type="number" min="1" max=${steps} value=${step} onInput=${(/** @type {any} */ e) => setStep(Number(e.target.value))} /></div>
      <div class="field"><label class="l" for="fork-text">${t("task.fork.content")}</label>
        <textarea id="fork-text" value=${content} onInput=${(/** @type {any} */ e) => setContent(e.target.value)}></textarea></div>
      ${error && html`<${ErrorBlock} error=${error} />`}
      <p class="field"><button class="btn main">${t("task.do.fork")}</button></p>
    </form>
  <//>`;
}
