"""Make the pictures of docs/tutorial.md: `python docs/scripts/make_tutorial.py runs/small`.

They are two figures of its run, and the first screen of its report in Chromium (--browser). The
script needs the dev extra.
"""

import argparse
from pathlib import Path

from first_screen import first_screen
from make_explanations import IMAGES, small_png
from playwright.sync_api import ViewportSize

SCREEN: ViewportSize = {"width": 1280, "height": 800}


def main() -> None:
    """Make the three pictures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("run", type=Path)
    options.add_argument("--browser", default="/usr/bin/chromium")
    asked = options.parse_args()
    pictures = {
        name: (asked.run / "figures" / f"{name}.png").read_bytes()
        for name in ("figure1", "figure3")
    } | {"report": first_screen(asked.run / "report.html", asked.browser, SCREEN)}
    for name, picture in pictures.items():
        (IMAGES / f"tutorial_{name}.png").write_bytes(small_png(picture, colors=128))


if __name__ == "__main__":
    main()
