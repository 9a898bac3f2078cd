"""Make the pictures of the page on the report.

    python docs/scripts/make_gallery.py runs/default

The pictures are the report in Chromium and two figures. The script needs the dev extra and a
Chromium (--browser).
"""

import argparse
from pathlib import Path

from playwright.sync_api import sync_playwright

from tasklens.report.heatmaps import figure_agreement
from tasklens.report.maps import figure_forming
from tasklens.report.style import render
from tasklens.runs.stage_report import load_view

IMAGES = Path(__file__).parents[1] / "images"


def picture_of_report(report: Path, browser: str) -> bytes:
    """Return the report's first screen at the last checkpoint, as PNG."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        tab = opened.new_page(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
        tab.goto(report.resolve().as_uri())
        tab.wait_for_selector("#cloud[data-drawn]")  # it is drawn once it is in sight
        tab.evaluate("go({ step: theRun().steps.length - 1 })")
        tab.evaluate("document.fonts.ready")
        x, y = tab.evaluate("cloud.coordinatesOf(7)")
        box = tab.locator("#cloud").bounding_box()
        assert box is not None
        tab.mouse.move(box["x"] + x, box["y"] + y)
        tab.wait_for_selector("#tip:not([hidden])")
        picture = tab.screenshot()
        opened.close()
    return picture


def main() -> None:
    """Make the three pictures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("run", type=Path)
    options.add_argument("--browser", default="/usr/bin/chromium")
    asked = options.parse_args()
    view = load_view(asked.run)
    pictures = {
        "report": picture_of_report(asked.run / "report.html", asked.browser),
        "forming": render(figure_forming(view), "png"),
        "agreement": render(figure_agreement(view), "png"),
    }
    for name, picture in pictures.items():
        (IMAGES / f"gallery_{name}.png").write_bytes(picture)


if __name__ == "__main__":
    main()
