"""Print the tables of docs/results/interventions.md from the effects of edits.

    python docs/scripts/make_effect_tables.py docs/data/effects.csv

The file is what `docs/scripts/effects_of_edits.py` prints of runs that differ in their seed.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from tables.markdown import markdown

from tasklens.scoring.score_table import layers_in_order

PAIRS, INSTRUCTIONS = "val_subset", "val_instruction_subset"
#: The last checkpoint, and an earlier one at which there are many errors.
LAST, EARLIER = -1, 1200
#: Split, step, state, edit, metric.
Key = tuple[str, int, str, str, str]


class Effects:
    """The lines of the file."""

    def __init__(self, path: Path) -> None:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        self.rows = {
            (r["split"], int(r["step"]), r["state"], r["edit"], r["metric"]): r for r in rows
        }
        self.seeds = [name for name in rows[0] if name.startswith("seed ")]
        self.last = max(step for _, step, _, _, _ in self.rows)
        self.states = layers_in_order({state for _, _, state, _, _ in self.rows if state})

    def row(self, split: str, step: int, state: str, edit: str, metric: str) -> dict[str, str]:
        """Return a line; empty if there is none."""
        return self.rows.get((split, self.last if step == LAST else step, state, edit, metric), {})

    def number(self, *key: object) -> str:
        """Return a number with its interval."""
        row = self.row(*key)  # type: ignore[arg-type]
        if not row:
            return "-"
        mean, low, high = (float(row[name]) for name in ("mean", "low", "high"))
        return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def tables(path: Path) -> list[str]:
    """Return the tables, each as Markdown."""
    effects = Effects(path)
    scores = (("", "ari"), ("", "probe"), ("shift", "becomes"), ("patch", "becomes"))
    curves = (*scores, ("shift", "becomes_normalised"))
    heads = ("ARI", "linear probe", "`shift`", "`patch` (ceiling)", "normalised")
    becomes = ("swap", "patch_span", "patch_rest", "random", "within", "third", "shuffled")
    stays = ("shift", "random", "within", "erase", "erase_random", "erase_within")
    repair = (("repair", "right"), ("repair_random", "right"), ("distance", "auroc"))
    return [
        *(by_state(effects, split, LAST, curves, heads) for split in (PAIRS, INSTRUCTIONS)),
        by_state(
            effects,
            PAIRS,
            LAST,
            [(edit, "becomes") for edit in (*becomes, "unembedding")],
            [f"`{edit}`" for edit in (*becomes, "unembedding")],
            "becomes",
        ),
        by_state(
            effects,
            PAIRS,
            LAST,
            [(edit, "stays") for edit in stays],
            [f"`{edit}`" for edit in stays],
            "stays",
        ),
        by_seed(effects),
        *(
            by_state(
                effects,
                INSTRUCTIONS,
                step,
                repair,
                ("repaired", "by random directions", "AUROC"),
                errors(effects, step),
            )
            for step in (EARLIER, LAST)
        ),
    ]


def by_state(
    effects: Effects,
    split: str,
    step: int,
    columns: Sequence[tuple[str, str]],
    heads: Sequence[str],
    what: str = "",
) -> str:
    """Return some effects, or scores, of each hidden state."""
    rows = [
        [state, *(effects.number(split, step, state, *column) for column in columns)]
        for state in effects.states
    ]
    return markdown([what or split, *heads], rows)


def by_seed(effects: Effects) -> str:
    """Return the ARI and the share of answers that follow a shift for each seed."""
    columns = (("", "ari"), ("shift", "becomes"))
    heads = [f"{name}, {seed}" for seed in effects.seeds for name in ("ARI", "`shift`")]
    rows = []
    for state in effects.states:
        each = [effects.row(PAIRS, LAST, state, *column) for column in columns]
        rows.append([state, *(f"{float(r[s]):.2f}" for s in effects.seeds for r in each)])
    return markdown([PAIRS, *heads], rows)


def errors(effects: Effects, step: int) -> str:
    """Return the step and the number of errors of each seed."""
    row = effects.row(INSTRUCTIONS, step, "", "", "errors")
    at = effects.last if step == LAST else step
    return f"step {at:,} ({', '.join(row[seed] for seed in effects.seeds)} errors)"


if __name__ == "__main__":
    for table in tables(Path(sys.argv[1])):
        print(table)
