"""Effects: counted one pair at a time by plain Python."""

import itertools

import numpy as np
import pytest

from planted_editor import World
from tasklens.interventions.effect_curves import effect_curves
from tasklens.interventions.effect_table import effect_table, effects_to_pandas
from tasklens.interventions.effects import effects_in, splits_in
from tasklens.scoring.bootstrap import resampling_weights

AT = "val_subset/input/"


def made_up(seed: int, n: int = 23, n_tasks: int = 4, draws: int = 3) -> dict[str, np.ndarray]:
    """Return arrays of answers and likelihoods at random, some of them unknown."""
    rng = np.random.default_rng(seed)
    answers = rng.integers(-1, 6, size=(n, n_tasks))
    own = rng.integers(n_tasks, size=n)
    row = np.arange(n)
    answers[row, own] = rng.integers(6, size=n)
    mine = answers[row, own][:, None]
    pairs = (answers >= 0) & (answers != mine)
    shift = rng.integers(-1, 6, size=(n_tasks, n))
    ran = pairs & (rng.random(pairs.shape) < 0.9)
    likelihood = np.log(rng.random((n_tasks, n, 2))).astype(np.float32)
    likelihood[~ran.T] = np.nan
    shift[~ran.T] = -1
    free = np.log(rng.random((draws, n, n_tasks))).astype(np.float32)
    free[:, answers < 0] = np.nan
    arrays = {
        AT + "tasks": np.arange(n_tasks),
        AT + "tokens": np.arange(6)[:, None],
        AT + "index": row,
        AT + "own": own,
        AT + "unit": row // 3,
        AT + "answers": answers,
        AT + "pairs": pairs.astype(np.uint8),
        AT + "able": rng.integers(-1, 2, size=pairs.shape).astype(np.int8),
        AT + "clean/answer": rng.integers(-1, 6, size=n).astype(np.int32),
        AT + "clean/likelihood": np.log(rng.random((n, n_tasks))).astype(np.float32),
    }
    for edit in ("shift", "patch"):
        arrays[f"{AT}block2/{edit}/answer"] = shift.astype(np.int32)
        arrays[f"{AT}block2/{edit}/likelihood"] = likelihood
    arrays[f"{AT}block2/random/answer"] = rng.integers(-1, 6, size=(draws, n)).astype(np.int32)
    arrays[f"{AT}block2/random/likelihood"] = free
    return arrays


def counted(arrays: dict[str, np.ndarray], edit: str, metric: str, *, able: bool) -> float:
    """Return an effect, one instance, target and draw at a time."""
    own, answers = arrays[AT + "own"], arrays[AT + "answers"]
    given = arrays[f"{AT}block2/{edit}/answer"]
    likelihood = arrays[f"{AT}block2/{edit}/likelihood"]
    clean, can = arrays[AT + "clean/likelihood"], arrays[AT + "able"]
    targeted = edit != "random"
    each = []
    for i, draw in itertools.product(range(len(own)), range(1 if targeted else len(given))):
        values = []
        for t in range(answers.shape[1]):
            if not arrays[AT + "pairs"][i, t]:
                continue
            if able and not (can[i, t] == 1 and can[i, own[i]] == 1):
                continue
            if targeted:
                answer, (mine, theirs) = given[t, i], likelihood[t, i]
            else:
                answer = given[draw, i]
                mine, theirs = likelihood[draw, i, own[i]], likelihood[draw, i, t]
            if np.isnan(theirs):
                continue
            right, goal = answers[i, own[i]], answers[i, t]
            others = {answers[i, c] for c in range(answers.shape[1])} - {-1, right, goal}
            values.append(
                {
                    "becomes": float(answer == goal),
                    "stays": float(answer == right),
                    "third": float(answer in others),
                    "logit_change": float(theirs) - mine - (clean[i, t] - clean[i, own[i]]),
                }[metric]
            )
        if values:
            each.append(np.mean(values))
    return float(np.mean(each))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("able", [False, True])
@pytest.mark.parametrize("edit", ["shift", "random"])
def test_effects_are_those_counted_pair_by_pair(seed: int, able: bool, edit: str) -> None:
    arrays = made_up(seed)
    units = np.unique(arrays[AT + "unit"])
    curves = effect_curves(
        "run", 0, "input", [(7, arrays)], {"val_subset": (units, np.ones((1, len(units))))}
    )
    for metric in ("becomes", "stays", "third", "logit_change"):
        name = metric + ("_able" if able else "")
        expected = counted(arrays, edit, metric, able=able)
        assert curves.final("val_subset", "block2", edit, name)[0] == pytest.approx(
            expected, abs=1e-6
        )
        frame = effects_to_pandas(effect_table("run", 0, 7, arrays, dict(enumerate("abcd"))))
        row = frame[
            (frame["edit"] == edit)
            & (frame["metric"] == name)
            & (frame["target"] == "")
            & frame["draw"].isna()
        ]
        assert row["value"].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kinds", [1, 2])
def test_a_resampled_copy_counts_each_unit_as_often_as_it_is_drawn(kinds: int) -> None:
    arrays = made_up(4)
    unit = np.stack([np.arange(23) // 6, 4 + np.arange(23) % 6], axis=1)[:, :kinds]
    arrays[AT + "unit"] = unit[:, 0] if kinds == 1 else unit
    units = np.unique(unit)
    weights = resampling_weights(np.zeros(len(units), dtype=int), 5, np.random.default_rng(0))
    curves = effect_curves("run", 0, "input", [(7, arrays)], {"val_subset": (units, weights)})
    for b, weight in enumerate(weights):
        rows = np.repeat(np.arange(len(unit)), weight[unit].prod(axis=1).astype(int))
        copy = {
            name: array[rows]
            if name.count("/") == 2 + name.count("clean") - name.count("clean/")
            and name.rpartition("/")[2] in ("own", "unit", "answers", "pairs", "able", "index")
            else array
            for name, array in arrays.items()
        }
        for name in ("clean/answer", "clean/likelihood"):
            copy[AT + name] = arrays[AT + name][rows]
        for edit in ("shift", "patch", "random"):
            for kind in ("answer", "likelihood"):
                copy[f"{AT}block2/{edit}/{kind}"] = arrays[f"{AT}block2/{edit}/{kind}"][:, rows]
        expected = counted(copy, "shift", "becomes", able=False)
        value = curves.final("val_subset", "block2", "shift", "becomes")[b]
        assert value == pytest.approx(expected)


def test_normalised_is_the_share_of_the_way_from_random_to_the_patch() -> None:
    arrays = made_up(5)
    arrays[AT + "able"] = np.ones_like(arrays[AT + "able"])
    answers, own = arrays[AT + "answers"], arrays[AT + "own"]
    # The patch gives every target's answer.
    patch = np.where(np.isfinite(arrays[f"{AT}block2/patch/likelihood"][..., 1]), answers.T, -1)
    arrays[f"{AT}block2/patch/answer"] = patch.astype(np.int32)
    assert len(own)
    units = np.unique(arrays[AT + "unit"])
    curves = effect_curves(
        "run", 0, "input", [(7, arrays)], {"val_subset": (units, np.ones((1, len(units))))}
    )

    def effect(edit: str, metric: str) -> float:
        return float(curves.final("val_subset", "block2", edit, metric)[0])

    assert effect("patch", "becomes_able") == 1
    expected = (effect("shift", "becomes_able") - effect("random", "becomes_able")) / (
        1 - effect("random", "becomes_able")
    )
    assert effect("shift", "becomes_normalised") == pytest.approx(expected)
    assert effect("random", "becomes_normalised") == pytest.approx(0)
    assert curves.n_pairs["val_subset"] == arrays[AT + "pairs"].sum()


def test_a_shift_to_a_third_task_is_scored_against_the_target() -> None:
    arrays = made_up(6)
    pairs = splits_in(arrays, "input")["val_subset"]
    third = next(
        effects
        for _, edit, effects in effects_in(arrays, pairs, "val_subset", "input")
        if edit == "third"
    )["becomes"][0]
    answers, given = arrays[AT + "answers"], arrays[f"{AT}block2/shift/answer"]
    for i, t in itertools.product(range(len(answers)), range(answers.shape[1])):
        others = [
            float(given[c, i] == answers[i, t])
            for c in range(answers.shape[1])
            if arrays[AT + "pairs"][i, c] and answers[i, c] != answers[i, t]
        ]
        if arrays[AT + "pairs"][i, t] and others:
            assert third[i, t] == pytest.approx(np.mean(others))
        else:
            assert np.isnan(third[i, t])


def test_world_has_distinct_answers() -> None:
    asked, _, _ = World(0).asked(10)
    assert asked.pairs.sum() == 30


def test_a_position_may_have_slashes_in_its_name() -> None:
    arrays = {name.replace("/input/", "/a%2Fb/"): array for name, array in made_up(7).items()}
    frame = effects_to_pandas(effect_table("run", 0, 7, arrays, dict(enumerate("abcd"))))
    assert set(frame["position"]) == {"a/b"}
    plain = effects_to_pandas(effect_table("run", 0, 7, made_up(7), dict(enumerate("abcd"))))
    assert frame["value"].tolist() == plain["value"].tolist()
    assert frame["value"].notna().all()
