"""The table of a campaign, as text and in a page of the documentation."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from campaign.attempt import Outcome

BEGIN, END = "<!-- begin of the table of make fuzz -->", "<!-- end of the table of make fuzz -->"
COLUMNS = {
    Outcome.EQUAL: "equal",
    Outcome.REFUSED: "refused in one line",
    Outcome.LOST: "lost",
    Outcome.DIFFERENT: "silently different",
    Outcome.TRACEBACK: "traceback",
    Outcome.HUNG: "hung",
}


class Tried(NamedTuple):
    """An attack and what came of it."""

    kind: str
    number: int
    what: str
    outcome: Outcome
    notes: tuple[str, ...]
    seconds: float

    def text(self, seed: int) -> str:
        """Return what came of the attack, with the option that repeats it."""
        option = f"--seed {seed} --only {self.kind}:{self.number}"
        head = f"{self.outcome.name}  {option}  ({self.seconds:.1f} s)  {self.what}"
        return "\n    ".join([head, *(note.replace("\n", "\n    ") for note in self.notes)])


def table(tried: list[Tried]) -> str:
    """Return the numbers of attacks by kind and outcome, as a table of Markdown."""
    counts = Counter((each.kind, each.outcome) for each in tried)
    kinds = list(dict.fromkeys(each.kind for each in tried))
    lines = [
        f"| kind of attack | tried | {' | '.join(COLUMNS.values())} |",
        f"|---|{'---:|' * (1 + len(COLUMNS))}",
    ]
    for kind in kinds:
        row = [counts[kind, outcome] for outcome in COLUMNS]
        lines.append(f"| {kind} | {sum(row)} | {' | '.join(map(str, row))} |")
    row = [sum(counts[kind, outcome] for kind in kinds) for outcome in COLUMNS]
    lines.append(f"| all | {sum(row)} | {' | '.join(map(str, row))} |")
    return "\n".join(lines)


def write_table(page: Path, tried: list[Tried], seed: int) -> None:
    """Replace the table of a page, which stands between two marks."""
    text = page.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n{table(tried)}\n\nSeed {seed}.\n{END}{after}")
