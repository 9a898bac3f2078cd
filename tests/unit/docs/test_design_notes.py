"""The design notes name files and headings that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NOTES = sorted((ROOT / "docs" / "design").glob("*.md"))
PAGES = [*NOTES, *sorted((ROOT / "docs" / "explanation").glob("*.md")), ROOT / "docs/tutorial.md"]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as Git hosts make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_note_is_in_the_index() -> None:
    index = (ROOT / "docs" / "design" / "index.md").read_text()
    assert [note.name for note in NOTES if f"({note.name})" not in index] == ["index.md"]


@pytest.mark.parametrize("note", NOTES, ids=lambda note: note.stem)
def test_files_that_a_note_names_exist(note: Path) -> None:
    named = re.findall(r"`([\w/]+/\w+\.(?:py|js|toml))`", note.read_text())
    assert [
        n for n in named if not any((ROOT / base / n).exists() for base in ("", "src/tasklens"))
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_pages_and_headings(page: Path) -> None:
    for link, heading in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", page.read_text()):
        target = (page.parent / link).resolve() if link else page
        assert target.exists(), link
        assert not heading or heading in anchors(target), f"{link}#{heading}"
