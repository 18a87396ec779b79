/**
 * The settings in force: each value, and where it comes from. Secrets are never in it; a variable is
 * named, and whether it is set.
 */

import { html } from "../core/html.js";
import { t } from "../core/text.js";

export default function Settings() {
  return html`<div class="page"><div class="page-head"><h1>${t("core.area.settings")}</h1></div></div>`;
}

/** @returns {{values: Record<string, any>}} */
export function useSettings() {
  return { values: {} };
}
