/** The explorer over this service's own document; it keeps nothing and asks no other host. */
"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");
const paint = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", paint);
paint();

/** The document without refusals and links, which the reference shows: a third of the work. */
const short = (/** @type {any} */ found) => {
  for (const path of Object.values(found.paths)) {
    for (const operation of Object.values(path)) {
      for (const [status, answer] of Object.entries(operation.responses ?? {})) {
        if (status >= "300") delete operation.responses[status];
        delete answer.links;
      }
    }
  }
  return found;
};

const open = async () => {
  const answer = await fetch("/openapi.json");
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
open();
