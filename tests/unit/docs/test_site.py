"""The pages as a site: nothing of it is elsewhere, each name and each page has a place in it."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import tasklens as tl

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PAGE = """# A page

| a | b |
|---|---|
| 1 | `2` |

```python
import tasklens
```

```{eval-rst}
.. autoclass:: tasklens.InputError
```
"""
#: What a browser loads of an address as it opens a page or a style.
LOADED = re.compile(
    r"""<(?:script|img|iframe|source|audio|video|embed)\b[^>]*?\ssrc\s*=\s*["']?([^"'\s>]+)"""
    r"""|<link\b[^>]*?\shref\s*=\s*["']?([^"'\s>]+)|url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)"""
)


def loaded(text: str) -> list[str]:
    """Return the addresses that a page or a style loads."""
    return ["".join(groups) for groups in LOADED.findall(text)]


def outside(text: str) -> list[str]:
    """Return those of another site."""
    return [address for address in loaded(text) if re.match(r"(\w+:)?//", address)]


def test_a_site_in_this_style_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "index.md").write_text(PAGE)
    command = ["-m", "sphinx", "-q", "-W", "-n", "-c", DOCS, tmp_path / "pages", tmp_path / "site"]
    subprocess.run([sys.executable, *map(str, command)], check=True)
    files = [path for path in (tmp_path / "site").rglob("*") if path.suffix in (".html", ".css")]
    texts = {path.name: path.read_text() for path in files}
    assert "InputError" in texts["index.html"]
    assert len(loaded(texts["index.html"])) > 5
    assert {name: addresses for name, text in texts.items() if (addresses := outside(text))} == {}


def test_an_address_of_another_site_is_noticed() -> None:
    for text in (
        '<script async src="https://a.org/b.js">', "<link rel=x href=//a.org/b.css>",
        "@import 'https://a.org/b.css'", 'a { src: url("http://a.org/b.woff") }',
    ):  # fmt: skip
        assert len(outside(text)) == 1, text
    assert outside('<a href="https://a.org"><img src="b.png"></a>') == []


def pages() -> list[Path]:
    return sorted(DOCS.rglob("*.md"))


def test_no_picture_of_a_page_is_elsewhere() -> None:
    for page in pages():
        assert re.findall(r"!\[[^\]]*\]\(\w+:", page.read_text()) == [], page


def test_each_public_name_is_in_the_reference_once() -> None:
    text = "".join(page.read_text() for page in sorted((DOCS / "reference/api").glob("*.md")))
    names = re.findall(r"^\.\. auto(?:function|class):: (\w+)(?:\(.*\))?$", text, re.MULTILINE)
    assert sorted(names) == sorted(tl.__all__), "docs/reference/api has a page per group"


def slug(heading: str) -> str:
    """Return the anchor that a Git host gives to a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def prose(path: Path) -> str:
    return re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def test_links_lead_to_a_file_and_a_heading() -> None:
    """Sphinx checks those between the pages of the site, not those of a Git host."""
    count = 0
    for page in [*ROOT.glob("*.md"), *pages()]:
        for text, target, anchor in re.findall(
            r"\[([^\]]*)\]\(([^)#:\s]*)(?:#([^)\s]+))?\)", prose(page)
        ):
            path = page.parent / target if target else page
            assert path.exists(), f"{page.name}: {target}"
            if re.fullmatch(r"[\w/-]+\.md", text):
                assert path.name == Path(text).name, f"{page.name}: the text of {target}: {text}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
                assert anchor in map(slug, headings), f"{page.name}: {target}#{anchor}"
                count += 1
    assert count > 10


NAMED = re.compile(r"(?<![\w/.])docs/[\w/-]+\.(?:md|py|toml|csv|png|ipynb)\b")


def test_files_that_code_and_messages_name_exist() -> None:
    folders = ("src", "docs", "benchmarks", "examples")
    files = [ROOT / "Makefile", *(path for name in folders for path in (ROOT / name).rglob("*"))]
    named = {
        name
        for path in files
        if path.suffix in ("", ".py", ".toml", ".sh", ".md", ".ipynb") and path.is_file()
        for name in NAMED.findall(path.read_text(encoding="utf-8", errors="replace"))
    }
    assert len(named) > 30
    assert {name for name in named if not (ROOT / name).exists()} == set()


#: What the README states, and what states it on a page of results.
STATED = {
    "the best layer ends at an ARI of 0.99": ("reproduction", "saturation 0.99 ["),
    "The embedding stays at 0.06": ("reproduction", "baseline 0.06 ["),
    "untrained networks at 0.16 at most": ("reproduction", "networks are at 0.16 at most"),
    "of the answers in `block5` and 2 % in `block6`": (
        "interventions",
        "the answers in `block5` and 2 % in `block6`",
    ),
    "an ARI of 0.85 in block 21": ("pretrained", "0.85 in block 21"),
    "are in no cluster of their task (ARI 0.03)": ("reproduction", "ARI of the best layer 0.03 ("),
}


def test_the_readme_states_what_the_results_state() -> None:
    readme = " ".join((ROOT / "README.md").read_text().split())
    for sentence, (page, source) in STATED.items():
        assert sentence in readme
        assert source in " ".join((DOCS / f"results/{page}.md").read_text().split()), sentence
    results = readme.partition("## What it found")[2].partition("## Carrying on")[0]
    numbers = re.findall(r"\b\d\.\d\d\b|\b\d+ %", results)
    assert numbers == re.findall(r"\b\d\.\d\d\b|\b\d+ %", " ".join(STATED)), "each is in the list"
    verdict = json.loads((DOCS / "data/scores/verdict.json").read_text())
    verdicts = Counter(finding["verdict"] for finding in verdict["findings"])
    assert verdicts == {"holds": 4, "undecided": 4}
    assert "Four of eight findings hold in three runs, and four are undecided" in results
