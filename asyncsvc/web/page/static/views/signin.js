/**
 * Asks for a token, once, where the service wants one.
 */
import { api, ApiError } from "../core/api.js";
import { readCounts } from "../core/feed.js";
import { html, useEffect, useRef, useState } from "../core/html.js";
import { Sign } from "../core/parts.js";
import { reconnect } from "../core/socket.js";
import { set } from "../core/store.js";
import { t } from "../core/text.js";
import { setToken, token } from "../core/token.js";

/** @param {ApiError} error */
function words(error) {
  if (error.status === 429) {
    return t("signin.wait", { seconds: Math.ceil(error.retryAfter ?? 60) });
  }
  return error.status === 401 ? t("signin.unknown") : `${error.code}: ${error.message}`;
}

/** @param {string} text */
function hint(text) {
  const [before, middle, after] = text.split(/\{first\}|\{second\}/);
  return html`${before}<code class="mono">ASYNCSVC_TOKENS</code>${middle}<code class="mono">[clients.*]</code>${after}`;
}

export default function View() {
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  const [keeps, setKeeps] = useState(true);
  const [wrong, setWrong] = useState(token() ? t("signin.unknown") : "");
  useEffect(() => field.current?.focus(), []);
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setToken((field.current?.value ?? "").trim(), false);
    try {
      await api.get("/tasks?limit=1");
      setToken(token(), keeps);
      set({ who: "signed-in" });
      reconnect();
      await readCounts();
    } catch (error) {
      setToken("", false);
      setWrong(error instanceof ApiError ? words(error) : String(error));
      field.current?.select();
    }
  };
  const choice = (/** @type {boolean} */ value, /** @type {string} */ key) => html`<label class="check">
    <input type="radio" name="keep" checked=${keeps === value} onChange=${() => setKeeps(value)} />${t(key)}</label>`;
  return html`<div class="door"><span class="mono name">asyncsvc</span>
    <h1>${t("signin.title")}</h1>
    <form onSubmit=${submit}>
      <div class="field"><label class="l" for="token">${t("signin.token")}</label>
        <input id="token" type="password" ref=${field} autocomplete="off" aria-invalid=${wrong ? "true" : null} aria-describedby=${wrong ? "token-wrong" : null} />
        ${wrong && html`<p class="wrong" id="token-wrong" role="alert"><${Sign} name="failed" state="failed" /><span>${wrong}</span></p>`}</div>
      <div class="field">${choice(true, "signin.keep_tab")}${choice(false, "signin.keep_page")}</div>
      <div class="field"><button class="btn main">${t("signin.submit")}</button></div>
      <p class="field hint">${hint(t("signin.hint"))}</p>
    </form>
  </div>`;
}
