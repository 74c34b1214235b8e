"""MkDocs' hooks for the site (`make docs-site`): what its pages need beyond Markdown.

- A link that leaves docs/ leads to a copy of the file within the site, below ``repository/``, so that links that work
  in a checkout work there too.
- A diagram in Mermaid is drawn while the site is built: Material's own way loads a script from another site.
"""

from __future__ import annotations

import base64
import html
import os
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File
from pymdownx.superfences import SuperFencesException

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
OUTSIDE = "repository"
"""The folder of the site that holds files of other folders than docs/."""

ENTRANCES = ("CONTRIBUTING.md", "CHANGELOG.md")
"""Pages of the site's navigation that lie outside docs/."""

# An inline link; its text may hold code and brackets, its target ends at the first space or bracket.
_LINK = re.compile(r"(?P<text>\[(?:[^\[\]]|\[[^\]]*\])*\])\((?P<path>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")
_FENCE = re.compile(r"^ *(```|~~~)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages that a pattern such as ``adr/*.md`` stands for into the navigation, so that none is forgotten."""
    config.nav = [_expanded(entry) for entry in config.nav or ()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every file outside docs/ that a page links to, and those that they link to in turn."""
    for path in _outside(files):
        files.append(File.generated(config, f"{OUTSIDE}/{path.relative_to(ROOT)}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links to files outside docs/ lead into the site; one to a folder becomes its text."""
    source = Path(page.file.abs_src_path or "")
    return "".join(_rewritten(line, source, page.file.src_uri) for line in _prose(markdown))


def drawn(source: str, language: str, css_class: str, options: Mapping[str, Any], md: Any, **_: Any) -> str:
    """A diagram as an image within the page, for the code fences of ``mermaid``.

    Raises:
        SuperFencesException: Mermaid cannot read it; the build fails.
    """
    try:
        svg = _svg(source)
    except Exception as exc:  # whatever Mermaid throws, the page must not be built without its diagram
        raise SuperFencesException(f"a diagram cannot be drawn: {exc}") from exc
    data = base64.b64encode(svg.encode()).decode()
    kind = source.split(maxsplit=1)[0]
    return f'<img class="diagram" alt="{html.escape(kind)}" src="data:image/svg+xml;base64,{data}">'


@cache
def _svg(source: str) -> str:
    import mermaidx  # takes a second, which a site without diagrams need not wait for

    return str(mermaidx.render(source).svg())


def _expanded(entry: Any) -> Any:
    if isinstance(entry, str) and "*" in entry:
        return [str(path.relative_to(DOCS)) for path in sorted(DOCS.glob(entry))]
    if isinstance(entry, dict):
        return {title: _expanded(within) for title, within in entry.items()}
    return [_expanded(within) for within in entry] if isinstance(entry, list) else entry


def _outside(files: Iterable[File]) -> list[Path]:
    waiting = [Path(file.abs_src_path) for file in files if file.abs_src_path and file.src_uri.endswith(".md")]
    waiting += [ROOT / name for name in ENTRANCES]
    found: dict[Path, None] = dict.fromkeys(ROOT / name for name in ENTRANCES)
    while waiting:
        page = waiting.pop()
        for line in _prose(page.read_text()):
            for link in _LINK.finditer(line) if not _FENCE.match(line) else ():
                target = _target(link, page)
                if target.is_file() and not target.is_relative_to(DOCS) and target not in found:
                    found[target] = None
                    waiting += [target] if target.suffix == ".md" else []
    return list(found)


def _prose(markdown: str) -> Iterable[str]:
    """The text's lines, each block of code as one, which begins with its fence."""
    block = ""
    for line in markdown.splitlines(keepends=True):
        if block:
            block += line
            if _FENCE.match(line):
                yield block
                block = ""
        elif _FENCE.match(line):
            block = line
        else:
            yield line
    yield block


def _rewritten(line: str, source: Path, page_uri: str) -> str:
    return line if _FENCE.match(line) else _LINK.sub(lambda link: _link(link, source, page_uri), line)


def _link(link: re.Match[str], source: Path, page_uri: str) -> str:
    target = _target(link, source)
    if target.is_dir():
        return link["text"][1:-1]
    if not target.is_relative_to(ROOT) or (target.is_relative_to(DOCS) and source.is_relative_to(DOCS)):
        return link[0]
    inside = target.relative_to(DOCS) if target.is_relative_to(DOCS) else Path(OUTSIDE) / target.relative_to(ROOT)
    return f"{link['text']}({os.path.relpath(inside, Path(page_uri).parent)}{link['anchor'] or ''})"


def _target(link: re.Match[str], source: Path) -> Path:
    return Path(os.path.normpath(source.parent / link["path"]))
