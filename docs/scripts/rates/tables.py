"""Read and write the rows of `docs/scripts/error_rates.py`, and show them as tables."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from scipy.stats import beta
from tables.markdown import markdown

from rates.nulls import NULLS

PATH = Path(__file__).parents[2] / "data" / "error_rates.csv"
#: Name of the networks in which no finding is true, and of the row for any of them.
GLOBAL, ANY = "untrained", "any finding"
#: The upper 95 % limit of a rate of errors should be at most this.
GOAL = 0.08


def key_of(finding: str, kind: str, runs: int, target: float) -> tuple[str, ...]:
    """Return what names a row."""
    return finding, kind, str(runs), f"{target:g}"


@dataclass(frozen=True)
class Row:
    """The verdicts on the tables of a scenario."""

    finding: str
    kind: str
    runs: int
    target: float
    mean: float
    """Mean of the number that decides, over all networks of all tables."""
    spread: float
    """Its standard deviation."""
    tables: int
    holds: int
    fails: int

    @property
    def key(self) -> tuple[str, ...]:
        """The name of the row."""
        return key_of(self.finding, self.kind, self.runs, self.target)

    @property
    def rate(self) -> float:
        """Share of the tables on which the finding holds."""
        return self.holds / self.tables

    @property
    def upper(self) -> float:
        """Exact upper 95 % limit of this rate (Clopper and Pearson, 1934), one-sided."""
        if self.holds == self.tables:
            return 1.0
        return float(beta.ppf(0.95, self.holds + 1, self.tables - self.holds))


def read_rows(path: Path = PATH) -> list[Row]:
    """Return the committed rows."""
    if not path.exists():
        return []
    kinds = {field.name: field.type for field in fields(Row)}
    with path.open(newline="") as file:
        return [
            Row(**{name: kinds[name](text) for name, text in line.items()})  # type: ignore[operator]
            for line in csv.DictReader(file)
        ]


def write_rows(rows: Sequence[Row], path: Path = PATH) -> None:
    """Write the rows."""
    text = ",".join(field.name for field in fields(Row)) + "\n"
    text += "".join(",".join(map(str, asdict(row).values())) + "\n" for row in rows)
    path.write_text(text)


def shown(rows: Sequence[Row]) -> str:
    """Return the share of the tables on which a finding holds, with its upper limit."""
    if not rows:
        return "not measured"
    (row,) = rows
    text = f"{row.rate:.1%} (< {row.upper:.1%})"
    return f"**{text}**" if row.upper > GOAL else text


def above_goal(rows: Sequence[Row]) -> list[str]:
    """Return the findings whose rate of errors is above the goal, with the null and the rate."""
    runs = {null.finding: null.runs for null in NULLS} | {ANY: 3}
    return [
        f"{row.finding} ({row.kind}, {row.runs} runs): {shown([row])}"
        for row in rows
        if row.kind != "effect" and row.runs == runs[row.finding] and row.upper > GOAL
    ]


def error_table(rows: Sequence[Row]) -> str:
    """Return how often each finding holds in networks in which it is false."""
    lines = []
    for null in NULLS:
        plain = _rows_of(rows, null.finding, "plain", null.runs)
        edge = _rows_of(rows, null.finding, "edge", null.runs)
        name = null.rule.statistic
        if edge:
            name += f": {edge[0].mean:.2f} (spread {edge[0].spread:.2f})"
        head = f"{null.finding}, {null.runs}"
        lines.append([head, null.denied, shown(plain), name, shown(edge)])
    return markdown(["finding, runs", "plain null", "holds", "mean at the edge", "holds"], lines)


def other_table(rows: Sequence[Row]) -> str:
    """Return how often findings of a training hold in untrained networks, and by number of runs."""
    lines = []
    for null in (null for null in NULLS if not null.one_model):
        each = [_rows_of(rows, null.finding, "edge", n) for n in (1, 3, 5)]
        each = [_rows_of(rows, null.finding, GLOBAL), *each]
        lines.append([null.finding, *map(shown, each)])
    lines.append([ANY, shown(_rows_of(rows, ANY, GLOBAL)), "", "", ""])
    edges = [f"edge, {runs}" for runs in ("1 run", "3 runs", "5 runs")]
    return markdown(["finding", "untrained networks, 3 runs", *edges], lines)


def power_table(rows: Sequence[Row]) -> str:
    """Return how often each finding holds in networks in which it is true by a stated effect."""
    lines = []
    for null in NULLS:
        cells = [f"{null.finding}, {null.runs}", null.rule.statistic, null.rule.threshold]
        for target in null.effects:
            held = [r for r in _rows_of(rows, null.finding, "effect") if r.target == target]
            mean, share = (
                (held[0].mean, f"{held[0].rate:.0%}") if held else (target, "not measured")
            )
            cells.append(f"{mean:.2f}: {share}")
        lines.append(cells)
    effects = [f"{name} effect" for name in ("small", "middle", "large")]
    return markdown(["finding, runs", "number", "should be", *effects], lines)


def _rows_of(rows: Sequence[Row], finding: str, kind: str, runs: int = 0) -> list[Row]:
    return [r for r in rows if (r.finding, r.kind) == (finding, kind) and runs in (0, r.runs)]
