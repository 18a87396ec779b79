/**
 * The button that makes the service read its settings again, and what has changed by it.
 */

import { api } from "../core/api.js";
import { html, useState } from "../core/html.js";
import { t } from "../core/text.js";
import { Button } from "./fields.js";

/** @param {{done: () => void}} props */
export function Reload({ done }) {
  const [state, set] = useState(/** @type {{said?: string, error?: Error, busy?: boolean}} */ ({}));
  const reload = async () => {
    set({ busy: true });
    try {
      set({ said: changes(await api.post("/admin/reload")) });
      done();
    } catch (error) {
      set({ error: /** @type {Error} */ (error) });
    }
  };
  return html`${state.said && html`<span class="ink2" role="status">${state.said}</span>`}
    ${state.error && html`<span class="wrong" role="status">${state.error.message}</span>`}
    <${Button} onClick=${reload} disabled=${state.busy}>${t("settings.reload")}<//>`;
}

/** @param {{changed: object, added: string[], removed: string[], needs_restart: string[]}} answer */
function changes({ changed, added, removed, needs_restart: restart }) {
  const names = [...Object.keys(changed), ...added, ...removed];
  const said = names.length ? t("settings.changed", { names: names.join(", ") }) : t("settings.unchanged");
  return restart.length ? `${said} ${t("settings.needs_restart", { names: restart.join(", ") })}` : said;
}
