/**
 * The question to a person: what would happen stands above it in full; here are the answers. The
 * keys a and d work only while the question is in view.
 */
import { html, useEffect, useRef, useState } from "../core/html.js";
import { useKeys } from "../core/keys.js";
import { ErrorBlock } from "../core/parts.js";
import { t } from "../core/text.js";
import { steer } from "./steer.js";

/** @param {{current: HTMLElement | null}} box */
function useInView(box) {
  const seen = useRef(false);
  useEffect(() => {
    const watcher = new IntersectionObserver(([entry]) => {
      seen.current = entry.isIntersecting;
    });
    watcher.observe(/** @type {HTMLElement} */ (box.current));
    return () => watcher.disconnect();
  }, []);
  return seen;
}

/** @param {{call: any, task: string}} props */
export function Decide({ call, task }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const seen = useInView(box);
  const [reason, setReason] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(/** @type {any} */ (null));
  const review = call.state === "needs_review";
  const decide = async (/** @type {string} */ verb, /** @type {any} */ body) => {
    if (busy) {
      return;
    }
    setBusy(true);
    setError(null);
    try {
      await steer(task, verb, body);
    } catch (refused) {
      setError(refused);
    }
    setBusy(false);
  };
  const approve = () => decide("approve", { id: call.id });
  const deny = () => decide("deny", { id: call.id, ...(reason.trim() ? { reason: reason.trim() } : {}) });
  useKeys("approval", {
    a: () => (seen.current && !review ? void approve() : false),
    d: () => (seen.current && !review ? void deny() : false),
  });
  const choose = (/** @type {string} */ decision, cls = "btn") =>
    html`<button type="button" class=${cls} disabled=${busy} title=${t(`task.review.${decision}_hint`)}
      onClick=${() => decide("resume", { id: call.id, decision })}>${t(`task.review.${decision}`)}</button>`;
  return html`<div class="decide" ref=${box}>
    <span class="vh" role="alert">${t(review ? "task.review.alert" : "task.approve.alert", { name: call.name })}</span>
    ${review
      ? html`<p>${t("task.review.words")}</p>${choose("fail")}${choose("skip")}${choose("rerun", "btn call")}`
      : html`<p>${t("task.approve.words")}<span class="narrow-no"> ${t("task.approve.holds_none")}</span></p>
          <input class="reason narrow-no" value=${reason} aria-label=${t("task.approve.reason")} placeholder=${t("task.approve.reason")}
            onInput=${(/** @type {any} */ event) => setReason(event.target.value)} />
          <button type="button" class="btn" disabled=${busy} onClick=${deny}>${t("task.approve.deny")} <kbd>d</kbd></button>
          <button type="button" class="btn call" disabled=${busy} onClick=${approve}>${t("task.approve.approve")} <kbd>a</kbd></button>`}
    ${error && html`<${ErrorBlock} error=${error} />`}
  </div>`;
}
