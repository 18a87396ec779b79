/** The explorer over this service's own document; it keeps nothing and asks no other host. */
"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");
const paint = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", paint);
paint();

/** The document without refusals and links, which the reference shows: half of the work. The names of
 * operations have no underscores, which the explorer takes for spaces in an address. */
const short = (/** @type {any} */ found) => {
  for (const path of Object.values(found.paths)) {
    for (const operation of Object.values(path)) {
      operation.operationId &&= operation.operationId.replaceAll("_", "-");
      for (const [status, answer] of Object.entries(operation.responses ?? {})) {
        if (status >= "300") delete operation.responses[status];
        delete answer.links;
      }
    }
  }
  return found;
};

const explore = async () => {
  const answer = await fetch("/openapi.json");
  if (!answer.ok) throw new Error(`the service answers with ${answer.status}`);
  // @ts-ignore: the bundle has defined it
  window.SwaggerUIBundle({
    spec: short(await answer.json()),
    dom_id: "#explorer",
    deepLinking: true,
    defaultModelsExpandDepth: -1,
    displayRequestDuration: true,
    docExpansion: "none",
    filter: true,
    persistAuthorization: false,
    tryItOutEnabled: true,
    validatorUrl: null,
  });
};

/* A name for screen readers, which the explorer leaves out. */
const named = () => {
  for (const area of document.querySelectorAll("#explorer textarea:not([aria-label])")) {
    area.setAttribute("aria-label", "Request body");
  }
};
new MutationObserver(named).observe(document.body, { childList: true, subtree: true });

explore().catch((error) => {
  const note = document.querySelector("#explorer p");
  const why = `The description cannot be loaded: ${error.message}. Load the page again.`;
  if (note) note.textContent = why;
});
