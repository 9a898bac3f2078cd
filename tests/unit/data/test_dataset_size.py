import json
import tracemalloc
from typing import Any

import pytest

from tasklens.core.errors import InputError
from tasklens.data.dataset_size import SIZES, dataset_bytes
from tasklens.data.synthetic import make_dataset
from tasklens.data.task_file import tasks_from_json
from tasklens.data.tasks import TaskSettings
from tasklens.runs.settings import PRESETS, load_settings


@pytest.fixture(autouse=True)
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasklens.core.memory.free_memory", lambda: 8 * 10**9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"n_inputs": 10**9},
            r"^tasks\.n_inputs = 1000000000: the dataset needs at least 1,350 GB",
        ),
        ({"n_outputs": 10**9}, r"^tasks\.n_outputs = 1000000000: the dataset needs at least 150"),
        ({"variants_per_task": 10**9}, r"^tasks\.variants_per_task = 10+: .* at most \d+ \(with"),
        ({"n_inputs": 10**6, "inputs_per_task": 10**6}, r"^tasks\.inputs_per_task = 1000000: the"),
        ({"n_tasks": 10**9}, r"^tasks\.n_tasks = 1000000000, .* should be at most 10000"),
        (
            {"distributions_per_task": 10**6, "variants_per_task": 10**7},
            r"distributions_per_task = 1000000: 50000000 regular expressions, each of which",
        ),
        (
            {"unseen_distributions": 10**6},
            r"tasks\.distributions_per_task = 1, tasks\.unseen_distributions = 1000000: 50000050 ",
        ),
        (
            {"unseen_tasks": 9000, "variants_per_task": 10**3},
            r"^tasks\.variants_per_task = 1000: .* \(with .* tasks\.unseen_tasks = 9000\)",
        ),
        ({"max_length": 10**5}, "^max_length = 100000: random instructions are too long"),
        ({"n_inputs": 2**31}, r"n_inputs = 2147483648: should be less than 2147483648"),
        ({"variants_per_task": 2**64}, "variants_per_task = 18446744073709551616: should be"),
        ({"n_inputs": 10**5}, "about 2344 inputs would be mapped by one task only"),
        (
            {"n_tasks": 9000, "n_inputs": 2, "inputs_per_task": 1, "n_outputs": 2},
            "there are only about 4 functions",
        ),
    ],
)
def test_what_cannot_be_held_or_drawn_is_refused_before_anything_is_drawn(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_dataset(**changes)


@pytest.mark.parametrize("unseen", [{}, {"unseen_distributions": 2, "unseen_tasks": 3}])
def test_an_estimate_is_less_than_the_memory_that_is_used(unseen: dict[str, int]) -> None:
    settings = TaskSettings(n_tasks=4, variants_per_task=400, n_outputs=2000, **unseen)
    make_dataset(settings, measured_tasks=4)  # what is imported and cached is not counted
    tracemalloc.start()
    dataset = make_dataset(settings, measured_tasks=4)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(dataset.instructions) in ((4 + 2 * 4 + 3) * 400, 1600)
    assert 0.4 * used < dataset_bytes({n: getattr(settings, n) for n in SIZES}) < used


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_far_from_the_limit(preset: str) -> None:
    tasks = load_settings(preset).tasks
    assert dataset_bytes({name: getattr(tasks, name) for name in SIZES}) < 10**8


def test_a_file_with_very_many_instructions_is_refused() -> None:
    task = {"regexes": ["[a-e]{20}"], "function": {"x": "y"}, "n_variants": 10**9}
    text = json.dumps({"tasks": [task]})
    message = (
        r"^tasks\.json: n_variants of all tasks = 1000000000: the dataset needs at least 148 GB"
    )
    with pytest.raises(InputError, match=message):
        tasks_from_json(text, "tasks.json")


def test_a_file_of_very_many_tasks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasklens.data.dataset_size.MAX_GRAMMARS", 5)
    task = {"regexes": ["a", "b"], "function": {"x": "y"}}
    text = json.dumps({"tasks": [task] * 3})
    with pytest.raises(InputError, match=r"^tasks\.json: 6 regular expressions, each of which"):
        tasks_from_json(text, "tasks.json")
