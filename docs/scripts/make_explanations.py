"""Write the tables and figures of docs/explanation: `python docs/scripts/make_explanations.py`.

Tables stand in the pages between comments that name them. Their numbers are computed from examples
whose right answer is known (docs/scripts/worked), and from the committed files of studies.
"""

import io
from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image
from tables.page import filled
from worked.decodability import decodability_table
from worked.neighbours import draw_planted_maps, neighbours_table, run_table
from worked.partitions import equal_tasks, partitions_table, unequal_tasks
from worked.readers import readers_table
from worked.regime import draw_regime, regime_tables
from worked.starts import draw_shapes, numbers_of_clusters_table, starts_table

from tasklens.report.style import render

DOCS = Path(__file__).parents[1]
PAGES, DATA, IMAGES = DOCS / "explanation", DOCS / "data", DOCS / "images"


def tables() -> dict[str, dict[str, str]]:
    """Return the tables of each page, by name."""
    return {
        "ari": {
            "equal": partitions_table(equal_tasks()),
            "unequal": partitions_table(unequal_tasks()),
            "decodability": decodability_table(),
        },
        "kmeans": {"starts": starts_table(), "k": numbers_of_clusters_table()},
        "tsne": {
            "neighbours": neighbours_table(),
            "run": run_table(DATA / "neighbours.csv"),
        },
        "interventions": {"readers": readers_table()},
        "regime": regime_tables(DATA),
    }


def figures() -> Iterator[tuple[str, Figure]]:
    """Yield each figure with its name."""
    yield "kmeans_shapes", draw_shapes()
    yield "tsne_maps", draw_planted_maps()
    yield "regime", draw_regime(DATA)


def small_png(picture: bytes, colors: int = 32) -> bytes:
    """Return a PNG with fewer colours, which is a third of the size."""
    buffer = io.BytesIO()
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.quantize(colors, method=Image.Quantize.MAXCOVERAGE).save(buffer, "png", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    for name, each in tables().items():
        page = PAGES / f"{name}.md"
        page.write_text(filled(page.read_text(), each))
    for name, figure in figures():
        (IMAGES / f"{name}.png").write_bytes(small_png(render(figure, "png")))
