"""Write the tables of docs/results/reproduction.md: `python docs/scripts/make_tables.py`.

They follow from the committed files, and stand in the page between comments that name them. The
files are of these kinds:

- docs/data/scores: `scores.parquet` of runs of the preset `default`, `verdict.json` of `tasklens
  verify`, and the table of `docs/scripts/measured_tasks.py`;
- docs/data/scores/distributions: the same of runs with several distributions per task;
- docs/data/sweeps/results: `points.csv` of each sweep, and the table of
  `docs/scripts/rise_courses.py`.
"""

from pathlib import Path

from tables.all_tables import all_tables
from tables.page import filled

DOCS = Path(__file__).parents[1]
PAGE = DOCS / "results" / "reproduction.md"

if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(), all_tables(DOCS / "data")))
