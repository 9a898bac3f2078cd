"""Test the documentation: its examples run, and its generated pages do not drift."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import HANG
from e2e.browser import find_browser
from e2e.conftest import Finished
from tasklens.cli.main import app

ROOT = Path(__file__).parents[2]


def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It trains for four steps instead of a thousand, and its printed text is discarded."""
    monkeypatch.setenv("TQDM_DISABLE", "1")
    run_notebook = runpy.run_path(str(ROOT / "docs" / "scripts" / "run_notebook.py"))[
        "run_notebook"
    ]
    path = ROOT / "docs" / "how-to" / "probe.ipynb"
    kept = json.loads(path.read_text())
    notebook = run_notebook(path, {"steps = 1000": "steps = 4"})
    for cell, new in zip(kept["cells"], notebook["cells"], strict=True):
        kinds = [
            [output["output_type"] for output in each.get("outputs", ())] for each in (cell, new)
        ]
        assert kinds[0] == kinds[1], (
            "run: python docs/scripts/run_notebook.py docs/how-to/probe.ipynb"
        )
    (table,) = (
        "".join(cell["outputs"][0]["data"]["text/plain"])
        for cell in notebook["cells"]
        if "unseen = " in "".join(cell["source"])
    )
    assert re.search(r"^block3( +-?\d\.\d\d){3}$", table, re.MULTILINE), table
    assert "image/png" in notebook["cells"][-1]["outputs"][0]["data"]


PICTURE = """
import runpy, sys
from pathlib import Path
script, report, browser, out = sys.argv[1:]
size = {"width": 1440, "height": 900}
picture = runpy.run_path(script)["first_screen"](Path(report), browser, size, point=7)
Path(out).write_bytes(picture)
"""


@pytest.mark.long
def test_the_gallery_knows_the_page(tiny: Finished, tmp_path: Path) -> None:
    """The script uses the names of the page's own scripts, which may change."""
    out = tmp_path / "picture.png"
    script, report = ROOT / "docs" / "scripts" / "first_screen.py", tiny.path / "report.html"
    command = [sys.executable, "-c", PICTURE, *map(str, (script, report, find_browser(), out))]
    subprocess.run(command, check=True, timeout=HANG)
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "page", ["cli_page", "settings_page", "probe_settings_page", "findings_page"]
)
def test_generated_pages_do_not_drift(page: str) -> None:
    generated = runpy.run_path(str(ROOT / "docs" / "scripts" / "make_pages.py"))[page]()
    name = f"{page.removesuffix('_page').replace('_', '-')}.md"
    committed = (ROOT / "docs" / "reference" / name).read_text()
    assert generated == committed, "run: python docs/scripts/make_pages.py"


def test_every_command_has_its_page() -> None:
    names = {c.name or getattr(c.callback, "__name__", "") for c in app.registered_commands}
    assert {"run", "verify"} <= names
    page = (ROOT / "docs" / "reference" / "cli.md").read_text()
    assert set(re.findall(r"^## `tasklens (\w+)`$", page, re.MULTILINE)) == names


def test_the_tables_of_interventions_are_those_of_the_committed_effects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    docs = ROOT / "docs"
    monkeypatch.syspath_prepend(str(docs / "scripts"))
    script = runpy.run_path(str(docs / "scripts" / "make_effect_tables.py"))
    tables = script["tables"](docs / "data" / "effects.csv")
    page = (docs / "results" / "interventions.md").read_text()
    for table in tables:
        assert table in page, "run: python docs/scripts/make_effect_tables.py docs/data/effects.csv"
    assert page.count("\n| --- |") == len(tables)
