"""The page's files by themselves: vendored code, size, types, texts, colours, and rules of code."""

import gzip
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.web.http.static_files import load
from asyncsvc.web.openapi.page import STATIC
from asyncsvc.web.openapi.routes import EXPLORER
from asyncsvc.web.openapi.routes import PREFIX as EXPLORER_PREFIX
from asyncsvc.web.page.routes import FOLDER, PREFIX
from tests.page import contrast
from tests.page.node import HERE, node, typescript

BUDGET = 150 * 1024
"""Bytes of the whole page in one language, compressed."""
EXPLORER_BUDGET = 500 * 1024
"""Bytes of the explorer at `/docs/try`, compressed; it is loaded by itself."""
LINES_MOST = 400
NEVER_LOADED = "vendor/licences/"
OWN = [
    path
    for folder in (FOLDER, STATIC)
    for path in sorted(folder.rglob("*"))
    if path.suffix in (".js", ".html", ".css") and "vendor" not in path.relative_to(folder).parts
]
SCRIPTS = [path for path in OWN if path.suffix == ".js"]


def name_of(path: Path) -> str:
    return path.relative_to(FOLDER.parent.parent).as_posix()


def vendor_faults(vendor: Path) -> Iterator[str]:
    """What `VENDOR.json` says that is not so: each file is as its package has published it, but
    for the texts that it lists as replaced, and has a licence."""
    listing = vendor / "VENDOR.json"
    listed = json.loads(listing.read_text(encoding="utf-8"))["files"] if listing.exists() else []
    there = {path.relative_to(vendor).as_posix() for path in vendor.rglob("*") if path.is_file()}
    known = {one["file"] for one in listed} | {one["licence_file"] for one in listed}
    yield from (f"{name} is not listed" for name in sorted(there - known - {"VENDOR.json"}))
    yield from (f"{name} is absent" for name in sorted(known - there))
    for one in listed:
        if not {"package", "version", "path", "licence"} <= one.keys():
            yield f"{one['file']} has no source"
        elif one["file"] in there:
            text = (vendor / one["file"]).read_bytes()
            for published, replaced in one.get("replaced", []):
                text = text.replace(replaced.encode(), published.encode())
            if hashlib.sha256(text).hexdigest() != one["sha256"]:
                yield f"{one['file']} is not what {one['package']} {one['version']} has published"


@pytest.mark.parametrize("folder", [FOLDER, EXPLORER], ids=["page", "explorer"])
def test_vendored_files_are_as_they_were_published(folder: Path) -> None:
    assert list(vendor_faults(folder / "vendor")) == []


def test_a_changed_vendored_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "licence.txt").write_text("free")
    (tmp_path / "a.js").write_text('import "./b.js"; 1')
    entry = {
        "file": "a.js", "package": "a", "version": "1", "path": "a.js", "licence": "MIT",
        "licence_file": "licence.txt", "replaced": [['"b"', '"./b.js"']],
        "sha256": hashlib.sha256(b'import "b"; 1').hexdigest(),
    }  # fmt: skip
    (tmp_path / "VENDOR.json").write_text(json.dumps({"files": [entry]}))
    assert list(vendor_faults(tmp_path)) == []
    (tmp_path / "a.js").write_text('import "./b.js"; 2')
    (tmp_path / "b.js").write_text("more")
    (tmp_path / "licence.txt").unlink()
    assert list(vendor_faults(tmp_path)) == [
        "b.js is not listed", "licence.txt is absent", "a.js is not what a 1 has published",
    ]  # fmt: skip


def test_the_page_is_small() -> None:
    sizes = {
        name: len(gzip.compress(file.content, mtime=0))
        for name, file in load(FOLDER, PREFIX).by_path.items()
        if not name.startswith(NEVER_LOADED)
    }
    languages = [
        sum(size for name, size in sizes.items() if name.startswith(f"texts/{lang}/"))
        for lang in ("en", "zh")
    ]
    largest = sorted(sizes.items(), key=lambda one: -one[1])[:5]
    loaded = sum(sizes.values()) - min(languages)
    assert loaded < BUDGET, f"{loaded} bytes; the largest files: {largest}"


def test_the_explorer_is_small() -> None:
    sizes = {
        name: len(gzip.compress(file.content, mtime=0))
        for name, file in load(EXPLORER, EXPLORER_PREFIX).by_path.items()
        if not name.startswith(NEVER_LOADED)
    }
    assert sum(sizes.values()) < EXPLORER_BUDGET, sizes


@pytest.mark.slow
@pytest.mark.skipif(not SCRIPTS, reason="the page has no scripts")
def test_the_scripts_have_the_types_that_they_say() -> None:
    faults = [line for line in typescript(HERE / "tsconfig.json") if "/static/vendor/" not in line]
    assert not faults, "\n".join(faults)


@pytest.mark.slow
def test_a_wrong_type_is_found(tmp_path: Path) -> None:
    config = json.loads((HERE / "tsconfig.json").read_text(encoding="utf-8"))
    (tmp_path / "wrong.js").write_text("/** @param {number} n */ function f(n) {}\nf('1');\n")
    path = tmp_path / "tsconfig.json"
    path.write_text(json.dumps(config | {"include": ["wrong.js"], "exclude": []}))
    (fault,) = typescript(path)
    assert "not assignable to parameter of type 'number'" in fault


Texts = Mapping[str, Mapping[str, Mapping[str, Any]]]
_PLACEHOLDER = re.compile(r"\{(\w+)")


def forms(text: Any) -> Iterator[str]:
    """A text, or all plural forms of one."""
    if isinstance(text, str):
        yield text
    else:
        for one in text.values() if isinstance(text, dict) else text:
            yield from forms(one)


def text_faults(found: Texts) -> Iterator[str]:
    """Where two languages differ in their keys or in the placeholders of a text."""
    (first, first_modules), *others = sorted(found.items())
    for language, modules in others:
        for name in sorted(first_modules.keys() | modules.keys()):
            one, other = first_modules.get(name, {}), modules.get(name, {})
            for key in sorted(one.keys() ^ other.keys()):
                yield f"{name}: {key} is only in {first if key in one else language}"
            for key in sorted(one.keys() & other.keys()):
                wanted, given = (
                    {place for text in forms(texts[key]) for place in _PLACEHOLDER.findall(text)}
                    for texts in (one, other)
                )
                if wanted != given:
                    yield f"{name}: {key} has other placeholders in {language}"
                if not all(text.strip() for text in (*forms(one[key]), *forms(other[key]))):
                    yield f"{name}: {key} is empty"


@pytest.mark.slow
@pytest.mark.skipif(not (FOLDER / "texts").exists(), reason="the page has no texts")
def test_each_language_has_every_text() -> None:
    found = json.loads(node(str(HERE / "texts.mjs"), str(FOLDER / "texts")))
    assert {"en", "zh"} <= found.keys()
    assert list(text_faults(found)) == []


def test_a_text_that_a_language_lacks_is_found() -> None:
    en = {"a": "{n} tasks", "b": "one", "c": {"one": "{n} call", "other": "{n} calls"}, "d": "x"}
    zh = {"a": "{m} 个任务", "c": "{n} 次调用", "d": " "}
    assert list(text_faults({"en": {"m.js": en}, "zh": {"m.js": zh}})) == [
        "m.js: b is only in en", "m.js: a has other placeholders in zh", "m.js: d is empty",
    ]  # fmt: skip


def test_comments_of_our_scripts_are_not_served(tmp_path: Path) -> None:
    script = """/**
 * What it does.
 */
// A line.
const address = "https://example.com/**"; // stays
const cast = /** @type {any} */ (window);
"""
    (tmp_path / "vendor").mkdir()
    for name in ("own.js", "vendor/other.js", "index.html"):
        (tmp_path / name).write_text(script)
    served = load(tmp_path, PREFIX).by_path
    assert served["own.js"].content.decode().splitlines() == [
        "// A line.",
        'const address = "https://example.com/**"; // stays',
        "const cast = (window);",
    ]
    assert served["vendor/other.js"].content.decode() == script


def test_every_pair_of_colours_can_be_told_apart() -> None:
    assert contrast.too_low((FOLDER / "tokens.css").read_text(encoding="utf-8")) == []


def test_a_pale_colour_is_found() -> None:
    css = (FOLDER / "tokens.css").read_text(encoding="utf-8")
    light, _ = contrast.colours(css)["ink-3"]
    assert contrast.too_low(css.replace(light, "#a0a0a0")) != []
    assert contrast.ratio("#ffffff", "#000000") == pytest.approx(21)


@pytest.mark.parametrize("path", OWN, ids=name_of)
def test_each_file_keeps_the_rules(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= LINES_MOST, f"a module has at most {LINES_MOST} lines"
    forbidden = r"\b(eval|Function)\(|document\.write|localhost|127\.0\.0\.1"
    forbidden += (
        r"|\bstyle=(?!\w|\$\{\{)" if path.suffix != ".css" else r"|url\((?![\"']?(?:#|data:))"
    )
    assert not re.findall(forbidden, text), "the policy refuses it"
    for address in re.findall(r"""(?:src|href|from|import)\s*[=(]?\s*["'](https?:)?//""", text):
        raise AssertionError(f"the page loads nothing from elsewhere: {address}")
