"""Print the tables of docs/results/pretrained.md.

    python docs/scripts/pretrained_table.py RUN [POSITION]

There is a line for each hidden state. It has the ARI by split, and the accuracy of the linear
classifier on the first unseen split, beside that of the untrained twin. If states were edited, the
effects of edits on that split follow. An effect is the share of pairs whose answer becomes that of
the other task; of an erased subspace, it is the share of answers that stay.
"""

import sys

import pandas as pd

import tasklens as tl

#: The edits that have a column, and the number of each.
EDITS = {
    "shift": "becomes",
    "patch": "becomes",
    "random": "becomes",
    "unembedding": "becomes",
    "erase": "stays",
    "erase_random": "stays",
}


def table(run: tl.Run, position: str | None = None) -> pd.DataFrame:
    """Return the table of a run at a position, by default the first."""
    position = run.position(position)
    scores, unseen = run.scores(), run.unseen
    scores = scores[(scores["family"] == "") & (scores["position"] == position)]
    last, first = run.steps[-1], run.steps[0]
    raw = scores[(scores["space"] == "raw") & (scores["step"] == last)]
    columns = {}
    for split in run.splits:
        ari = raw[(raw["metric"] == "ari") & (raw["split"] == split)]
        columns[f"ARI, {split}"] = ari.groupby("layer", observed=True)["value"].mean()
    for step, name in ((last, "classifier"), (first, "of the twin")):
        rows = scores[(scores["metric"] == "probe_task") & (scores["split"] == unseen)]
        columns[name] = rows[rows["step"] == step].set_index("layer")["value"]
    if run.directory.mark("interventions") is not None:
        effects = run.effects()
        at = (effects["split"] == unseen) & (effects["position"] == position)
        effects = effects[at & (effects["target"] == "") & effects["draw"].isna()]
        for edit, metric in EDITS.items():
            rows = effects[(effects["edit"] == edit) & (effects["metric"] == metric)]
            columns[edit] = rows.set_index("state")["value"]
    every = pd.DataFrame({name: column.rename(str) for name, column in columns.items()})
    return every.reindex(run.state_names).dropna(axis=1, how="all")


def main() -> None:
    """Print the table of the run and the position that the command line names."""
    path, *position = sys.argv[1:]
    rows = table(tl.load_run(path), *position)
    print("| hidden state |", " | ".join(rows), "|")
    print("|---" * (1 + len(rows.columns)) + "|")
    for state, values in rows.iterrows():
        cells = ("" if pd.isna(value) else f"{value:z.2f}" for value in values)
        print(f"| {state} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
