"""Make the pictures of docs/tutorial.md: `python docs/scripts/make_tutorial.py runs/small`.

They are two figures of its run, and the first screen of its report in Chromium (--browser). The
script needs the dev extra.
"""

import argparse
from pathlib import Path

from make_explanations import IMAGES, small_png
from playwright.sync_api import ViewportSize, sync_playwright

SCREEN: ViewportSize = {"width": 1280, "height": 800}


def first_screen(report: Path, browser: str) -> bytes:
    """Return the first screen of a report at its last checkpoint, as PNG."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        tab = opened.new_page(viewport=SCREEN, reduced_motion="reduce")
        tab.goto(report.resolve().as_uri())
        tab.wait_for_selector("#cloud[data-drawn]")
        tab.evaluate("go({ step: theRun().steps.length - 1 })")
        tab.evaluate("document.fonts.ready")
        picture = tab.screenshot()
        opened.close()
    return picture


def main() -> None:
    """Make the three pictures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("run", type=Path)
    options.add_argument("--browser", default="/usr/bin/chromium")
    asked = options.parse_args()
    pictures = {
        name: (asked.run / "figures" / f"{name}.png").read_bytes()
        for name in ("figure1", "figure3")
    } | {"report": first_screen(asked.run / "report.html", asked.browser)}
    for name, picture in pictures.items():
        (IMAGES / f"tutorial_{name}.png").write_bytes(small_png(picture, colors=128))


if __name__ == "__main__":
    main()
