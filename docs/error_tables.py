"""Read and write the rows of `docs/error_rates.py`, and show them as tables."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from nulls import NULLS, Null
from scipy.stats import beta

PATH = Path(__file__).with_name("error_rates.csv")
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
        """What names the row."""
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


def error_tables(rows: Sequence[Row]) -> str:
    """Return the tables of docs/findings.md."""
    tables = _errors(rows), _others(rows), _power(rows)
    return "\n".join("".join(f"{line}\n" for line in lines) for lines in tables)


def _rows_of(rows: Sequence[Row], finding: str, kind: str, runs: int = 0) -> list[Row]:
    return [r for r in rows if (r.finding, r.kind) == (finding, kind) and runs in (0, r.runs)]


def _errors(rows: Sequence[Row]) -> Iterator[str]:
    yield "| finding, runs | plain null | holds | at the edge: mean (spread) | holds |"
    yield "| --- | --- | --- | --- | --- |"
    for null in NULLS:
        plain = _rows_of(rows, null.finding, "plain", null.runs)
        edge = _rows_of(rows, null.finding, "edge", null.runs)
        number = null.rule.statistic
        if edge:
            number += f": {edge[0].mean:.2f} ({edge[0].spread:.2f})"
        cells = [f"{null.finding}, {null.runs}", null.denied, shown(plain), number, shown(edge)]
        yield f"| {' | '.join(cells)} |"


def _others(rows: Sequence[Row]) -> Iterator[str]:
    yield "| finding | untrained networks, 3 runs | at the edge: 1 run | 3 runs | 5 runs |"
    yield "| --- | --- | --- | --- | --- |"
    for null in (null for null in NULLS if not null.one_model):
        each = [shown(_rows_of(rows, null.finding, GLOBAL))]
        each += [shown(_rows_of(rows, null.finding, "edge", n)) for n in (1, 3, 5)]
        yield f"| {null.finding} | {' | '.join(each)} |"
    yield f"| {ANY} | {shown(_rows_of(rows, ANY, GLOBAL))} | | | |"


def _power(rows: Sequence[Row]) -> Iterator[str]:
    yield "| finding, runs | number | should be | its mean: holds | | |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for null in NULLS:
        each = [_effect(null, target, rows) for target in null.effects]
        yield (
            f"| {null.finding}, {null.runs} | {null.rule.statistic} | {null.rule.threshold} "
            f"| {' | '.join(each)} |"
        )


def _effect(null: Null, target: float, rows: Sequence[Row]) -> str:
    held = [r for r in _rows_of(rows, null.finding, "effect") if r.target == target]
    return f"{target:g}: {held[0].rate:.0%}" if held else f"{target:g}: not measured"
