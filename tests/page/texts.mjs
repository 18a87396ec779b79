// Prints the texts of all languages as JSON: {language: {module: {key: text}}}.
// A text may be an object of plural forms.
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const folder = process.argv[2];
const found = {};
for (const language of await readdir(folder, { withFileTypes: true })) {
  if (!language.isDirectory()) continue;
  found[language.name] = {};
  for (const name of await readdir(join(folder, language.name))) {
    const module = await import(pathToFileURL(join(folder, language.name, name)).href);
    found[language.name][name] = module.default;
  }
}
console.log(JSON.stringify(found));
