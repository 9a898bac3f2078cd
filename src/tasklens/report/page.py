"""What the page is told to the page: one HTML file that asks for nothing else."""

import base64
import hashlib
import html
from collections.abc import Sequence
from importlib import metadata, resources

from tasklens.findings.verdict import Verdict
from tasklens.report.page_arrays import script_json
from tasklens.report.page_data import run_data, verdict_data
from tasklens.report.view import View

#: In the order in which the page runs them.
SCRIPTS = (
    *("vendor/d3.min.js", "vendor/plot.umd.min.js"),
    *("unpack.js", "look.js", "symbols.js", "charts.js", "cloud.js", "parts.js", "main.js"),
)


def page(views: Sequence[View], verdicts: Sequence[Verdict | None], command: str) -> bytes:
    """Return the page of some runs.

    Whatever a user's file says is data in it, and shown as text: the page's own policy lets no
    script run but those of this package, told by their hashes, and nothing be fetched.

    Parameters
    ----------
    views : sequence of View
        At least one; of several the first is shown first.
    verdicts : sequence of Verdict or None
        One of all of them, or one of each; None where a probe has no layers to judge.
    command : str
        What made the page.
    """
    runs, packed = [], []
    for i, view in enumerate(views):
        told, texts = run_data(view)
        runs.append(told)
        packed += [(f"packed-{i}-{j}", text) for j, text in enumerate(texts.values())]
    story = {
        "version": metadata.version("tasklens"),
        "command": command,
        "runs": runs,
        "verdicts": [None if verdict is None else verdict_data(verdict) for verdict in verdicts],
    }
    here = resources.files("tasklens").joinpath("report/page_assets")
    scripts = [here.joinpath(name).read_text(encoding="utf-8") for name in SCRIPTS]
    policy = "; ".join(
        (
            "default-src 'none'",
            "style-src 'unsafe-inline'",
            "img-src data: blob:",
            f"script-src {' '.join(map(_source, scripts))}",
        )
    )
    title = f"tasklens: {', '.join(view.run for view in views)}"
    filled = {
        "{{policy}}": html.escape(policy),
        "{{title}}": html.escape(title),
        "{{style}}": here.joinpath("page.css").read_text(encoding="utf-8"),
        "{{data}}": "\n".join(
            [
                f'<script type="application/json" id="story">{script_json(story)}</script>',
                *(
                    f'<script type="text/plain" id="{name}">{text}</script>'
                    for name, text in packed
                ),
            ]
        ),
        "{{licences}}": "\n".join(
            here.joinpath(f"vendor/{library}.LICENSE").read_text(encoding="utf-8")
            for library in ("d3", "plot")
        ),
        "{{scripts}}": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    # Piece by piece, not by replacing: what is filled in may hold the marks of the rest.
    text, content = here.joinpath("page.html").read_text(encoding="utf-8"), []
    for mark, value in filled.items():
        before, text = text.split(mark)
        content += [before, value]
    return "".join([*content, text]).encode()


def _source(script: str) -> str:
    """Return how a content security policy names a script: by the hash of its text."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
