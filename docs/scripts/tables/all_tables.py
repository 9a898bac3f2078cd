"""Collect all tables of the page by name."""

from pathlib import Path

from tables import (
    distribution_tables,
    rise_tables,
    run_tables,
    sweep_tables,
    task_numbers,
    verdict_tables,
)
from tables.answers import answers_table
from tables.markdown import not_run
from tables.material import COMMANDS, SWEEPS, Material
from tables.small_world import STATEMENTS
from tables.statements import statements_table
from tasklens.data.instances import SPLIT_MEANINGS

#: What stands above a table if its study was run: its figure with a caption.
FIGURES = {
    "positions": """![ARI by the number of outputs, at each position](../images/positions.png)

*The best layer, chosen on `train_subset`. Bands are ranges over the seeds.*
""",
    "rise": """![ARI, linear probe, use and accuracy through training](../images/rise.png)

*Lines are means, bands are ranges over the seeds. Grey lines mark the peak of the ARI in each seed.
Dots are checkpoints with edits.*
""",
    "distributions course": """![ARI against tasks and distributions](../images/distributions.png)

*Lines are means, bands are ranges over the seeds.*
""",
}


def all_tables(data: Path) -> dict[str, str]:
    """Return the tables of docs/results/reproduction.md, each as Markdown."""
    material = Material(data)
    scores, verdict, tasks = material.default, material.verdict, material.task_numbers
    tables = {
        "answers": answers_table(material),
        "findings": verdict_tables.findings_table(verdict),
        "half way": verdict_tables.timing_table(verdict),
        **{
            f"ari {split}": run_tables.ari_table(scores, split)
            for split in SPLIT_MEANINGS
            if split in scores.splits
        },
        "tsne": run_tables.tsne_table(scores),
        "accuracy": run_tables.accuracy_table(scores),
        "course": run_tables.course_table(scores),
        "variance": run_tables.variance_table(scores),
        "probe": run_tables.probe_table(scores),
        "order": run_tables.order_table(scores),
        "tasks": task_numbers.by_number(tasks),
        "tasks from means": task_numbers.from_means(tasks),
        "statements": statements_table(STATEMENTS, material.points),
    }
    tables |= of_sweeps(material) | of_distributions(material)
    with_figure = {name for name in FIGURES if tables[name].startswith("|")}
    return tables | {name: f"{FIGURES[name]}\n{tables[name]}" for name in with_figure}


def of_sweeps(material: Material) -> dict[str, str]:
    """Return the tables of the sweeps; the command of one that was not run."""
    points, courses = material.points, material.courses
    tables = {name: not_run(COMMANDS[name]) for name in SWEEPS}
    tables |= {
        name: sweep_tables.sweep_table(each, name)
        for name, each in points.items()
        if name not in ("positions", "rise")
    }
    tables["positions by layer"] = tables["positions"]
    if "positions" in points:
        tables["positions"] = sweep_tables.positions_table(points["positions"])
        tables["positions by layer"] = sweep_tables.positions_by_layer(points["positions"])
    if courses is not None:
        tables["rise"] = rise_tables.rise_table(courses)
    return tables


def of_distributions(material: Material) -> dict[str, str]:
    """Return the tables of runs with several distributions per task; the command without them."""
    scores, verdict = material.distributions, material.distributions_verdict
    command = not_run(COMMANDS["distributions"])
    names = (
        "distributions findings",
        "distributions",
        "distributions course",
        "kinds",
        "other scores",
    )
    if scores is None or verdict is None:
        return dict.fromkeys(names, command)
    tables = (
        verdict_tables.findings_table(verdict),
        distribution_tables.distributions_table(scores),
        distribution_tables.distributions_course(scores),
        distribution_tables.kinds_table(scores),
        run_tables.other_scores_table(scores),
    )
    return dict(zip(names, tables, strict=True))
