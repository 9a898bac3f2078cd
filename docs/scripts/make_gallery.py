"""Make the pictures of the page on the report.

    python docs/scripts/make_gallery.py runs/default

The pictures are the report in Chromium and two figures. The script needs the dev extra and a
Chromium (--browser).
"""

import argparse
from pathlib import Path

from first_screen import first_screen
from playwright.sync_api import ViewportSize

from tasklens.report.heatmaps import figure_agreement
from tasklens.report.maps import figure_forming
from tasklens.report.style import render
from tasklens.runs.stage_report import load_view

IMAGES = Path(__file__).parents[1] / "images"
SCREEN: ViewportSize = {"width": 1440, "height": 900}


def main() -> None:
    """Make the three pictures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("run", type=Path)
    options.add_argument("--browser", default="/usr/bin/chromium")
    asked = options.parse_args()
    view = load_view(asked.run)
    pictures = {
        "report": first_screen(asked.run / "report.html", asked.browser, SCREEN, point=7),
        "forming": render(figure_forming(view), "png"),
        "agreement": render(figure_agreement(view), "png"),
    }
    for name, picture in pictures.items():
        (IMAGES / f"gallery_{name}.png").write_bytes(picture)


if __name__ == "__main__":
    main()
