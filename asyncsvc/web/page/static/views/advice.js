/**
 * What to do about a failed task: by its error, with the action as a link.
 */
import { html } from "../core/html.js";
import { href } from "../core/router.js";
import { has, t } from "../core/text.js";

const MODEL = new Set(["upstream_auth", "quota_exhausted", "model_gone", "rate_limited", "overloaded"]);

/** @param {any} task */
export function advice(task) {
  const code = task.error?.code;
  if (task.status !== "failed" || !code) {
    return null;
  }
  const key = `errors.do.${code}`;
  const words = has(key) ? t(key) : t(task.error.retryable ? "errors.do_retry" : "errors.do_change");
  const link = MODEL.has(code) ? html` <a href=${href({ area: "models" })}>${t("errors.see_models")}</a>` : "";
  return html`${words}${link}`;
}
