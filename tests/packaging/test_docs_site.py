"""The documentation as a site: it builds, every link within it leads somewhere, and it needs no other site."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LOADING = {(tag, "src") for tag in ("script", "img", "iframe", "source")} | {("link", "href"), ("object", "data")}
LINK = re.compile(r"\]\((https?:[^)\s]*)\)")
CODE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
TABLE = re.compile(r"^\|[-| :]+\|$", re.MULTILINE)
NESTED = re.compile(r"^(?: {1,3}| {5,7})(?:-|\d+\.) .*", re.MULTILINE)


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a configuration, from the root, without a network that could be missed."""
    command = [sys.executable, "-m", "mkdocs", "build", "--config-file", str(config), "--site-dir", str(site)]
    # What a proxy cannot reach, nobody can: a build that asks another site fails.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment = {**os.environ, **nowhere, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of this tree."""
    directory = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", directory)
    assert done.returncode == 0, done.stderr
    return directory


class Loads(HTMLParser):
    """What a page makes a browser load by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.diagrams = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for name, value in attrs if (tag, name) in LOADING and value]
        self.diagrams += tag == "img" and ("class", "diagram") in attrs


def read(page: Path) -> Loads:
    """A page's loads."""
    parser = Loads()
    parser.feed(page.read_text())
    return parser


def page_of(site: Path, document: Path) -> Path:
    """Where a document is in the site."""
    path = document.relative_to(DOCS)
    return site / (path.parent if path.stem in ("index", "README") else path.with_suffix("")) / "index.html"


def test_every_document_is_a_page(site: Path) -> None:
    documents = list(DOCS.rglob("*.md"))
    assert documents
    assert [str(path) for path in documents if not page_of(site, path).is_file()] == []
    assert (site / "asyncapi.yaml").is_file()


def test_readers_need_no_other_site(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert pages
    foreign = {(page.name, each) for page in pages for each in read(page).addresses if urlsplit(each).netloc}
    assert foreign == set()


def test_every_diagram_is_drawn(site: Path) -> None:
    for path in DOCS.rglob("*.md"):
        if written := path.read_text().count("```mermaid"):
            assert read(page_of(site, path)).diagrams == written, path.name


def test_every_table_is_one_in_the_site(site: Path) -> None:
    for path in DOCS.rglob("*.md"):
        written = len(TABLE.findall(CODE.sub("", path.read_text())))
        assert page_of(site, path).read_text().count("<table>") == written, path.name


def test_lists_within_lists_are_indented_by_four() -> None:
    """Fewer are enough where Markdown is shown beside the code, and make another list in the site."""
    found = {path.name: NESTED.findall(CODE.sub("", path.read_text())) for path in DOCS.rglob("*.md")}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        (
            "[a](gone.md) [b](#no-heading) [c](../gone.toml) [d](/absolute.md)",
            ["gone.md", "#no-heading", "../gone.toml", "/absolute.md"],
        ),
        ("```mermaid\nno diagram\n```", ["a diagram cannot be drawn"]),
    ],
)
def test_what_is_wrong_fails_the_build(tmp_path: Path, text: str, complaints: list[str]) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# A page\n\n{text}\n")
    config = tmp_path / "mkdocs.yml"
    hook = ROOT / "tools" / "docs_site.py"
    config.write_text(
        f"INHERIT: {ROOT / 'mkdocs.yml'}\ndocs_dir: docs\nextra_css: []\nhooks: [{hook}]\nnav: [index.md]\n"
        "theme: {name: mkdocs, font: null, palette: null}\n"
    )
    done = build(config, tmp_path / "site")
    assert done.returncode != 0
    assert [complaint for complaint in complaints if complaint not in done.stderr] == []


def test_links_to_other_sites_are_well_formed() -> None:
    assert list(links())
    for path, link in links():
        parts = urlsplit(link)
        assert parts.scheme == "https" and parts.hostname and "." in parts.hostname, f"{path.name}: {link}"


def links() -> Iterator[tuple[Path, str]]:
    """Every link to another site, with its page."""
    for path in [*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        yield from ((path, link) for link in LINK.findall(path.read_text()))


def test_no_two_decisions_have_one_number() -> None:
    numbers = [int(path.name[:4]) for path in sorted((DOCS / "adr").glob("*.md"))]
    assert len(set(numbers)) == len(numbers)


def test_the_navigation_is_by_reader() -> None:
    nav = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader=_Navigation)["nav"]
    assert [title for entry in nav if isinstance(entry, dict) for title in entry] == [
        "Operate",
        "Publish",
        "Compute",
        "Subscribe",
        "Develop",
    ]


class _Navigation(yaml.SafeLoader):
    """YAML whose Python tags are skipped."""


_Navigation.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)
