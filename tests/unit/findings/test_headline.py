"""The result in one sentence states what the checks support, and nothing else."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from planted import planted_table, sound, with_effects
from planted_model import planted_model
from planted_stages import planted_stages
from tasklens.findings.curves import Curves, curves_of_table
from tasklens.findings.verdict import judge
from tasklens.findings.verdict_text import headline_text

PAIRS = "unseen pairs of instruction and input"
UNTESTED = "; whether the models use this was not tested."
FOLLOW = "if a state is moved to another task's centroid"


def headline(runs: Sequence[Curves]) -> str:
    return judge(runs).headline


def planted(scale: float = 1.0, **options: object) -> list[Curves]:
    """Return the curves of three seeds, with every ARI times a factor."""
    table = planted_table(lambda *key: scale * sound(*key), **options)  # type: ignore[arg-type]
    return curves_of_table(table)


@pytest.mark.parametrize(
    ("scale", "begin", "short"),
    [
        (1.0, f"From step 1,000 on, block6 sorts {PAIRS} by task (ARI 0.86 [", "sorts by"),
        (
            0.75,
            f"From step 800 on, block6 sorts {PAIRS} by task only in part (ARI",
            "in part",
        ),
        (
            0.3,
            "At the last checkpoint, step 1,600, the best layer, block6, does not sort ",
            "does not",
        ),
    ],
)
def test_a_training_is_described_by_the_ari_of_its_best_layer(
    scale: float, begin: str, short: str
) -> None:
    verdict = judge(planted(scale))
    assert verdict.headline.startswith(begin)
    assert "mean over 3 runs" in verdict.headline
    assert short in verdict.title
    assert verdict.headline.endswith(UNTESTED) == (scale > 0.5), "nothing to use otherwise"


def test_the_step_is_the_first_from_which_on_every_run_is_above_the_threshold() -> None:
    runs = planted()
    at = runs[0].steps.index(1200)
    late = {
        key: np.where(np.arange(y.shape[1]) == at, 0.7, y) if key[1] == "block6" else y
        for key, y in runs[0].ari.items()
    }
    assert headline([replace(runs[0], ari=late), *runs[1:]]).startswith("From step 1,400 on, ")
    low = {
        key: np.where(np.arange(y.shape[1]) < y.shape[1] - 1, 0.1, y)
        for key, y in runs[0].ari.items()
    }
    begin = "At the last checkpoint, step 1,600, block6 sorts "
    assert headline([replace(runs[0], ari=low), *runs[1:]]).startswith(begin)


def test_one_table_of_scores_has_no_interval_and_decides_nothing() -> None:
    (run,) = planted(seeds=(0,))
    assert headline([run]) == (
        "At the last checkpoint, step 1,600, it is undecided whether the best layer, block6, sorts "
        f"{PAIRS} by task (ARI 0.86)."
    )


def test_runs_that_differ_are_undecided_and_name_each_best_layer() -> None:
    high, low = planted()[0], planted(0.5)[1]
    for curves in (high, low):
        curves.ari["train_subset", "block5", "raw"] += 0.2 * (curves is low)
    text = headline([high, low])
    assert "it is undecided whether the best layer, block5 or block6, sorts" in text


def test_controls_that_are_not_far_below_are_named() -> None:
    high = {"control:length": 0.7, "control:symbols": 0.2, "control:input": 0.0}
    limit = ", but the instruction's length comes to at least half of that; whether"
    assert limit in headline(planted(controls=high))
    assert "undecided whether all controls stay below half" in headline(planted(controls={}))


def test_the_sentence_mentions_that_nothing_was_held_out() -> None:
    text = headline(planted(splits=("train_subset",)))
    assert "sorts the pairs of training by task" in text
    assert "; nothing was tested on unseen data; " in text


@pytest.mark.parametrize(
    ("effect", "expected"),
    [
        (0.4, f", and the models use it: {FOLLOW}, 40 % of the answers follow"),
        (0.01, f"; the test of whether the models use it fails: {FOLLOW}, 1 % of the answers"),
    ],
)
def test_use_is_stated_with_the_answers_that_follow_and_those_of_random_directions(
    effect: float, expected: str
) -> None:
    def effects(edit: str, layer: int, step: int) -> float:
        return {"shift": effect, "patch": 0.9, "random": 0.01}.get(edit, 0.01)

    text = headline([with_effects(curves, effects) for curves in planted()])
    assert expected in text
    assert text.endswith("(random directions: 1 %).")
    low = headline([with_effects(curves, effects) for curves in planted(0.3)])
    assert f"; {FOLLOW}, " in low
    assert "use it" not in low, "there are no clusters that could be used"


def test_use_is_undecided_without_enough_random_directions() -> None:
    runs = [with_effects(curves, draws=5) for curves in planted()]
    assert f"; it is undecided whether the models use it: {FOLLOW}, 40 %" in headline(runs)


def test_a_model_that_has_not_learned_its_tasks_is_not_tested() -> None:
    runs = [replace(c, chance=0.2) for c in planted()]
    for curves in runs:
        curves.accuracy["train_subset"][:] = 0.2
    verdict = judge(runs)
    assert verdict.headline == "Not tested: a model has not learned its tasks."
    assert judge(runs[:1]).headline == "Not tested: the model has not learned its tasks."
    assert verdict.title == "not tested"


def test_without_scores_of_the_first_split_nothing_is_tested() -> None:
    assert headline(planted(splits=("val_subset",))).startswith("Not tested: run 'planted' has no")


def test_one_model_sorts_held_out_prompts() -> None:
    assert headline([planted_model()]) == (
        "Layer block4 sorts the held-out prompts of held_out_context by task (ARI 0.91); "
        "whether the model uses this was not tested."
    )
    assert "nothing was tested on unseen data" in headline([planted_model(splits=1)])
    assert " does not sort the held-out prompts" in headline([planted_model(unseen=-0.7)])


def test_each_stage_of_a_model_has_its_sentence() -> None:
    verdict = judge([planted_stages()])
    assert verdict.headline == verdict.stages["dpo"].headline
    lines = headline_text(verdict).splitlines()
    begins = ["In base, the best layer, ", "In sft, block2 ", "In dpo, block2 "]
    assert [line.startswith(b) for line, b in zip(lines, begins, strict=True)] == [True] * 3
    assert verdict.stages["base"].title.startswith("base: block1 does not sort by task")


def test_families_are_named_as_what_the_ari_is_the_mean_of() -> None:
    model = planted_model()
    assert "(ARI 0.91, mean over 2 families of tasks)" in headline(
        [replace(model, families=(model, model))]
    )


def test_a_layer_that_sorts_from_the_start_needs_no_step() -> None:
    runs = curves_of_table(planted_table(lambda split, layer, step: 0.9 * (layer == 4)))
    assert headline(runs).startswith("At each checkpoint, block4 sorts ")
