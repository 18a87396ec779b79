/**
 * The workspace of an agent: its files, each as text; another program may have written them, so
 * nothing in them is ever run or drawn.
 */
import { api, call } from "../core/api.js";
import { bytes, visible } from "../core/format.js";
import { html, useEffect, useState } from "../core/html.js";
import { Copy, ErrorBlock } from "../core/parts.js";
import { t } from "../core/text.js";

const SHOWN = 200000;
const GIT = ".git/";

/** @param {string} path */
const encoded = (path) => path.split("/").map(encodeURIComponent).join("/");

/** Saved by the browser, with the token in a header. @param {string} path @param {string} name */
async function save(path, name) {
  const response = await call(path, { headers: { accept: "*/*" } });
  const url = URL.createObjectURL(await response.blob());
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** @param {{id: string, path: string}} props */
function File({ id, path }) {
  const [text, setText] = useState(/** @type {string | null} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  useEffect(() => {
    const ending = new AbortController();
    api.text(`/tasks/${encodeURIComponent(id)}/files/${encoded(path)}`, ending.signal).then(setText, (failure) => {
      if (!ending.signal.aborted) {
        setError(failure);
      }
    });
    return () => ending.abort();
  }, [id, path]);
  if (error) {
    return html`<${ErrorBlock} error=${error} />`;
  }
  return text !== null && html`<section class="block code file">
    <header><span class="mono cut"><bdi>${visible(path)}</bdi></span><span class="end"><${Copy} text=${text} /></span></header>
    <pre tabindex="0">${visible(text.slice(0, SHOWN))}</pre>
    ${text.length > SHOWN && html`<p class="cut-note ink3">${t("task.file_cut")}</p>`}
  </section>`;
}

/** @param {{id: string, status: string, calls: number | undefined}} props */
export function Files({ id, status, calls }) {
  const [found, setFound] = useState(/** @type {any} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  const [open, setOpen] = useState("");
  const root = `/tasks/${encodeURIComponent(id)}/files`;
  useEffect(() => {
    const ending = new AbortController();
    api.get(root, ending.signal).then(setFound, (failure) => {
      if (!ending.signal.aborted) {
        setError(failure);
      }
    });
    return () => ending.abort();
  }, [id, status, calls]);
  const [own, setOwn] = useState(false);
  const all = (found?.files ?? []).filter((/** @type {any} */ file) => file.kind === "file");
  const git = all.filter((/** @type {any} */ file) => file.path.startsWith(GIT)).length;
  const files = own ? all : all.filter((/** @type {any} */ file) => !file.path.startsWith(GIT));
  const fetched = (/** @type {string} */ path, /** @type {string} */ name) => save(path, name).catch(setError);
  return html`<div class="log flow" tabindex="0">
    ${error && html`<${ErrorBlock} error=${error} />`}
    ${found && !all.length && html`<p class="empty-log ink3">${t("task.no_files")}</p>`}
    ${all.length > 0 && html`<p><button type="button" class="link-btn" onClick=${() => fetched(`${root}?format=tar.gz`, `${id}.tar.gz`)}>${t("task.all_files")}</button></p>
      <table class="plain-table files"><tbody>${files.map(
        (/** @type {any} */ file) => html`<tr><td><button type="button" class="link-btn mono" aria-expanded=${open === file.path}
            onClick=${() => setOpen(open === file.path ? "" : file.path)}><bdi>${visible(file.path)}</bdi></button></td>
          <td class="num ink3">${bytes(file.size)}</td>
          <td class="num"><button type="button" class="link-btn" onClick=${() => fetched(`${root}/${encoded(file.path)}`, file.path.split("/").at(-1))}>${t("task.save")}</button></td></tr>
          ${open === file.path && html`<tr><td colspan="3"><${File} id=${id} path=${file.path} /></td></tr>`}`,
      )}</tbody></table>`}
    ${git > 0 && !own && html`<button type="button" class="link-btn" onClick=${() => setOwn(true)}>${t("task.git_files", { count: git })}</button>`}
    ${found?.truncated && html`<p class="ink3">${t("task.files_cut", { count: all.length })}</p>`}
  </div>`;
}
