"""Writes `web/docs`, which ComfyUI's help panel reads, from the prose in `tools/help/text` and the nodes' classes.

ComfyUI asks for docs/NODE/LANGUAGE.md, then for docs/NODE.md, and puts /extensions/FOLDER/docs/ before the pictures of
either; so all languages use the same picture. It leaves other links unchanged, so they must be full addresses.
"""

import json
import re
from pathlib import Path

from tools.workflows.library import ROOT

from .prose import LANGUAGES, LOCALES, PageError, node_definitions, page_source, pages_of, read_page
from .tables import cell, display_name, node_class, node_ids, options_of, parameters, texts_of

DOCS = ROOT / "web" / "docs"
LABELS = ROOT / "web" / "js" / "labels"  # of options, for the editor
NODE_TABLE = ROOT / "docs" / "nodes.md"
PICTURES = "pictures"
PICTURE = re.compile(r"^\{\{picture(?:: *(.+?))?\}\}$", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")
TABLES = "{{parameters}}"
MADE = "<!-- made by python -m tools.help; the prose is in tools/help/text -->"


def page_path(node_id: str, language: str) -> Path:
    """Return the path where ComfyUI looks for a page."""
    return DOCS / f"{node_id}.md" if language == "en" else DOCS / node_id / f"{language}.md"


def all_pages() -> dict[Path, str]:
    """Return every help page by its path; PageError for prose of an unknown node."""
    known, pages = node_ids(), {}
    for language in LANGUAGES:
        for node_id in pages_of(language):
            if node_id not in known:
                source = page_source(node_id, language).relative_to(ROOT)
                raise PageError(f"{source} belongs to no node; remove or rename it")
            pages[page_path(node_id, language)] = make_page(node_id, language)
            if language == "en":
                # ComfyUI asks for this name first, and would log that it is missing.
                pages[DOCS / node_id / "en.md"] = pages[page_path(node_id, language)]
    return pages


def all_files() -> dict[Path, str]:
    """Return everything that is written: pages, translated node definitions and options, and the table of nodes."""
    others = [name for name in LANGUAGES if name != "en"]
    definitions = {LOCALES / name / "nodeDefs.json": node_definitions(name) for name in others}
    labels = {
        LABELS / f"{name}.json": json.dumps(options_of(name), indent=2, ensure_ascii=False) + "\n" for name in others
    }
    return all_pages() | definitions | labels | {NODE_TABLE: node_table()}


def write_pages() -> list[Path]:
    """Write the files that changed and remove pages without prose; return both."""
    files, changed = all_files(), []
    for path, text in files.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
            changed.append(path)
    for path in set(DOCS.rglob("*.md")) - set(files):
        path.unlink()
        changed.append(path)
    return changed


def stale_pages() -> list[str]:
    """Return a sentence for every file that `write_pages` would change."""
    files, found = all_files(), []
    for path, text in files.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            found.append(f"{path.relative_to(ROOT).as_posix()} is out of date; run python -m tools.help")
    return found + [f"{path.relative_to(ROOT)} has no prose" for path in set(DOCS.rglob("*.md")) - set(files)]


def node_table() -> str:
    """Return the text of `docs/nodes.md`: every node with its id and what it does, by category."""
    categories: dict[str, list[str]] = {}
    for node_id in node_ids():
        categories.setdefault(node_class(node_id).CATEGORY, []).append(node_id)
    lines = [f"# Nodes\n\nAll {len(node_ids())} nodes by their category in the menu. A name links to the help page."]
    for category in sorted(categories):
        lines.append(f"\n## {category}\n\n| node | id | what it does |\n|---|---|---|")
        for node_id in sorted(categories[category], key=lambda one: node_class(one).DISPLAY_NAME):
            node = node_class(node_id)
            link = f"[{node.DISPLAY_NAME}](../{page_path(node_id, 'en').relative_to(ROOT).as_posix()})"
            lines.append(f"| {link} | `{node_id}` | {cell(node.DESCRIPTION)} |")
    return "\n".join([*lines, "", "<!-- made by python -m tools.help from the nodes' classes -->"]) + "\n"


def make_page(node_id: str, language: str) -> str:
    """Return the Markdown of a page; raise PageError if the prose lacks a part or has a dead link."""
    source = page_source(node_id, language)
    prose = read_page(node_id, language).prose.strip()
    where = source.relative_to(ROOT).as_posix()
    for mark, count in ((TABLES, prose.count(TABLES)), ("{{picture}}", len(PICTURE.findall(prose)))):
        if count != 1:
            raise PageError(f"{where} has {mark} {count} times; each page has it once, on a separate line")
    texts = texts_of(node_id, language)
    title = display_name(texts)
    body = PICTURE.sub(lambda found: _picture(node_id, found[1] or title), prose)
    body = LINK.sub(lambda found: f"[{found[1]}]({_target(found[2], source, language)})", body)
    body = body.replace(TABLES, parameters(texts))
    kind = f"`{node_id}`, {node_class(node_id).CATEGORY}"
    return f"# {title}\n\n{kind}\n\n{body}\n\n{MADE}\n"


def picture_of(node_id: str) -> str:
    """Return the path of a node's picture, relative to `web/docs`."""
    for suffix in (".png", ".jpg"):
        if (DOCS / PICTURES / f"{node_id}{suffix}").exists():
            return f"{PICTURES}/{node_id}{suffix}"
    return f"{PICTURES}/{node_id}.jpg"


def repository() -> str:
    """Return the web address of the project's files."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return re.search(r'^Repository = "(.+)"$', project, re.MULTILINE)[1] + "/blob/main"


def _picture(node_id: str, caption: str) -> str:
    # ComfyUI puts the words between double quotes without escaping them.
    words = caption.replace('"', "'")
    return f"![{words}]({picture_of(node_id)})\n\n*{caption}*"


def _target(target: str, source: Path, language: str) -> str:
    """Return the full address of a link in prose: to another page, or to a file of the project."""
    path = (source.parent / target).resolve()
    if target.startswith("https://"):
        return target
    if path.parent == source.parent and path.stem in node_ids():
        path = page_path(path.stem, language)
    elif not path.is_file() or not path.is_relative_to(ROOT):
        raise PageError(f"{source.relative_to(ROOT)} links to {target}, which is neither a page nor a file here")
    return f"{repository()}/{path.relative_to(ROOT).as_posix()}"
