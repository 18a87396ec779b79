/**
 * The button that makes the service read its settings again, and what has changed by it.
 */

import { api } from "../core/api.js";
import { html, useState } from "../core/html.js";
import { t } from "../core/text.js";
import { Button, Refused, useAction } from "./fields.js";

/** @param {{done: () => void}} props */
export function Reload({ done }) {
  const [said, say] = useState("");
  const { run, busy, error } = useAction(async () => {
    say(changes(await api.post("/admin/reload")));
    done();
  });
  return html`${said && html`<span class="ink2" role="status">${said}</span>`} <${Refused} error=${error} />
    <${Button} onClick=${() => run()} disabled=${busy}>${t("settings.reload")}<//>`;
}

/**
 * @param {{changed: object, added: string[], removed: string[], needs_restart: string[], variables: string[],
 *   enabled: string[]}} answer
 */
function changes({ changed, added, removed, needs_restart: restart, variables, enabled }) {
  const names = [...new Set([...Object.keys(changed), ...added, ...removed, ...variables, ...enabled])];
  const said = names.length ? t("settings.changed", { names: names.join(", ") }) : t("settings.unchanged");
  return restart.length ? `${said} ${t("settings.needs_restart", { names: restart.join(", ") })}` : said;
}
