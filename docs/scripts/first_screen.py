"""Take a picture of the first screen of a report, in Chromium. It needs the dev extra."""

from pathlib import Path

from playwright.sync_api import ViewportSize, sync_playwright


def first_screen(report: Path, browser: str, size: ViewportSize, point: int | None = None) -> bytes:
    """Return the first screen of a report at its last checkpoint, as PNG.

    With `point`, the mouse is at this instance, which is described.
    """
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        tab = opened.new_page(viewport=size, reduced_motion="reduce")
        tab.goto(report.resolve().as_uri())
        tab.wait_for_selector("#cloud[data-drawn]")  # it is drawn once it is in sight
        tab.evaluate("go({ step: theRun().steps.length - 1 })")
        tab.evaluate("document.fonts.ready")
        if point is not None:
            x, y = tab.evaluate("(point) => cloud.coordinatesOf(point)", point)
            box = tab.locator("#cloud").bounding_box()
            assert box is not None
            tab.mouse.move(box["x"] + x, box["y"] + y)
            tab.wait_for_selector("#tip:not([hidden])")
        picture = tab.screenshot()
        opened.close()
    return picture
