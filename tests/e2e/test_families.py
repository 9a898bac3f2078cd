"""A run whose prompts are of two families of tasks: scores, clusters, maps and edits of each."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import adjusted_rand_score

from drawn import legend
from e2e.conftest import succeed
from e2e.stock import Stock, write_prompts
from tasklens.core.errors import InputError
from tasklens.interventions.settings import Selection
from tasklens.report.figure_by_layer import figure_by_layer
from tasklens.report.maps import figure_map
from tasklens.report.page import run_data
from tasklens.runs.export import export_atlas, export_projector
from tasklens.runs.load_run import load_run
from tasklens.runs.run import Run
from tasklens.runs.stage_intervene import intervene
from tasklens.runs.stage_report import view_of
from tasklens.scoring.score_table import main_scores

#: Two labels of a family have other outputs, which end in p and in c.
FAMILY = {"plural": "words", "capital": "words", "past": "facts", "colour": "facts"}
FAMILIES = ("facts", "words")


@pytest.fixture(scope="module")
def run(stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a finished run with edits. Not to be changed."""
    path = tmp_path_factory.mktemp("families")
    # The output is one for all prompts of a label and an input, so that there are counterfactuals.
    rows = [
        {key: value for key, value in row.items() if key not in ("output", "text", "verb")}
        | {"text": f"{row['instruction']} {row['input']}", "family": FAMILY[row["label"]]}
        | {"output": f"{row['input']}{row['label'][0]}"}
        for row in stock.rows
    ]
    prompts = write_prompts(path / "prompts.jsonl", rows)
    model = stock.checkpoints[200]
    given = ("--prompts", prompts, "--hold-out", "phrasing", "--out", path / "run")
    succeed(*stock.command(*given, "--set", "interventions.draws=2", models=model))
    finished = load_run(path / "run")
    with finished.directory.locked():
        intervene(finished, [Selection(("shift", "patch", "random"), states=("block1",))])
    return finished


def test_each_score_is_the_mean_over_families(run: Run) -> None:
    assert run.families == FAMILIES
    scores = run.scores()
    assert set(scores["family"]) == {"", *FAMILIES}
    ari = scores[(scores["metric"] == "ari") & scores["step"].notna()]
    means = ari.pivot(index=["split", "layer"], columns="family", values="value")
    assert len(means) == 8
    np.testing.assert_allclose(means[""], means[list(FAMILIES)].mean(axis=1), atol=1e-12)
    clusters = run.clusters(200)
    for split in run.splits:
        known, labels = run.instances(split), clusters[f"{split}/block2/raw/labels"][0]
        for family in known.families:
            expected = adjusted_rand_score(family.instances.task, labels[family.rows])
            assert means.at[(split, "block2"), family.name] == pytest.approx(expected)
    accuracy = scores[scores["metric"] == "accuracy"].set_index(["split", "family"])["value"]
    assert accuracy["kept", ""] == np.mean([accuracy["kept", name] for name in FAMILIES])


def test_resampled_scores_are_of_families_and_begin_with_those_of_the_table(run: Run) -> None:
    curves = run.curves()
    means = main_scores(run.score_table()).to_pandas().groupby(["split", "layer", "metric"])
    value = means["value"].mean()
    for role, split in curves.split_names.items():
        assert curves.ari[role, "block1", "raw"][0, 0] == pytest.approx(
            value[split, "block1", "ari"]
        )
        control = curves.controls[role, "control:symbols"]
        assert control[0] == pytest.approx(value[split, "control:symbols", "ari"])
    split = run.unseen
    decoded = curves.decoded["val_subset", "block1"][0, 0]
    assert decoded == pytest.approx(value[split, "block1", "probe_task"])
    assert curves.effects is not None
    assert curves.effects.n_tasks == 2


def test_a_view_is_of_one_family(run: Run) -> None:
    with pytest.raises(InputError, match="no family 'verbs'; there are facts, words"):
        run.view(family="verbs")
    views = [run.view(family=name) for name in FAMILIES]
    assert run.view().family == "facts"
    labels = ("capital", "colour", "past", "plural")
    for view, tasks in zip(views, ({1, 2}, {0, 3}), strict=True):
        assert view.names["task"] == labels, "a task has one colour in all views"
        for name, split in view.splits.items():
            known = run.instances(name)
            rows = known.of_family(view.family).rows
            assert set(split.parts["task"].tolist()) == tasks
            assert split.instruction == tuple(np.array(run.texts(name))[rows])
            assert split.maps["tsne", "block1"].shape == (1, len(split), 2)
            assert {*split.followed["block1"].tasks.tolist()} == tasks
        assert set(view.table["family"].to_pylist()) == {view.family}
        title = figure_map(view, "block1").axes[0].get_title("left")
        assert title.splitlines()[1] == f"held_out_phrasing, {view.family}"
    maps = [view.splits["kept"].maps["pca", "block2"] for view in views]
    assert not np.allclose(maps[0].mean(axis=1), maps[1].mean(axis=1)), "each has its own basis"
    assert views[0].state() == views[1].state(), "the best layer is that of the mean"


def test_states_are_moved_within_families(run: Run) -> None:
    effects = run.effects()
    moved = effects[(effects["edit"] == "shift") & (effects["target"] != "")]
    assert set(moved["target"]) == set(FAMILY)
    asked = run.counterfactuals(run.unseen, run.position(), 99)
    assert asked.family.tolist() == [1, 0, 0, 1]
    assert asked.pairs.sum(axis=1).tolist() == [1] * len(asked.own), "the other task of the family"
    edits = run.view(family="words").edits
    assert edits is not None
    assert edits.moves[run.unseen].tasks.tolist() == [0, 3]


def test_the_page_has_each_family_and_the_means(run: Run) -> None:
    data, texts = run_data([view_of(run, run.position(), name) for name in FAMILIES])
    assert [at["family"] for at in data["positions"]] == list(FAMILIES)
    first, second = data["positions"]
    assert first["means"] == second["means"]
    assert first["scores"] != second["scores"]
    both = [at["scores"]["kept"]["block1"]["ari"][0][0] for at in (first, second)]
    assert first["means"]["kept"]["block1"]["ari"][0][0] == pytest.approx(np.mean(both), abs=1e-4)
    assert [split["meaning"] for split in second["splits"]] == ["words", "words"]
    assert len(texts) == 2
    json.dumps(data, allow_nan=False, default=str)


def test_an_exported_map_is_of_one_family(run: Run, tmp_path: Path) -> None:
    for family, labels in (("facts", {"colour", "past"}), ("words", {"capital", "plural"})):
        given = None if family == "facts" else family  # the first is the default
        path = export_atlas(run, tmp_path / "atlas.parquet", family=given)
        columns = pq.read_table(path).to_pydict()
        assert set(columns["label"]) == labels
        assert set(columns["family"]) == {family}
    path = export_projector(run, tmp_path / "projector")
    assert len((path / "vectors.tsv").read_text().splitlines()) == len(run.states("embed"))


def test_the_table_shows_families(run: Run) -> None:
    text = succeed("show", run.directory.path).out
    assert "kept, ARI within each family:\nlayer                facts  words\n" in text


def test_the_figure_by_layer_has_a_thin_line_per_family(run: Run) -> None:
    figure = figure_by_layer(run.curves())
    scores = run.scores()
    kept = scores[(scores["metric"] == "ari") & (scores["split"] == "kept")]
    lines = [np.asarray(line.get_ydata()) for line in figure.axes[0].lines]
    for family in FAMILIES:
        y = kept[(kept["family"] == family) & kept["step"].notna()].set_index("layer")["value"]
        assert any(len(line) == len(y) and np.allclose(line, y) for line in lines)
    assert "each family" in legend(figure)
