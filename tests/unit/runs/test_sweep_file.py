import re
from pathlib import Path

import pytest

from tasklens.core.errors import InputError
from tasklens.runs.settings import load_settings
from tasklens.runs.sweep import parse_shard
from tasklens.runs.sweep_file import Sweep, read_sweep


def read(tmp_path: Path, text: str) -> Sweep:
    """Read a sweep of the preset smoke, unless the text has a base."""
    file = tmp_path / "sweep.toml"
    file.write_text(text if "base" in text else f'base = "smoke"\n{text}')
    return read_sweep(file)


def names(sweep: Sweep) -> set[str]:
    return {point.name for point in sweep.points}


def values(sweep: Sweep) -> list[dict[str, object]]:
    return [dict(point.values) for point in sweep.points]


# --- What it makes of a file ---


def test_every_combination_of_a_grid_and_every_seed(tmp_path: Path) -> None:
    grid = '[grid]\n"model.n_layer" = [1, 2]\n"train.learning_rate" = [1e-3, 3e-3, 1]\n'
    sweep = read(tmp_path, f"seeds = [3, 1]\n{grid}")
    assert sweep.grid == (("model.n_layer",), ("train.learning_rate",))
    assert sweep.around == ()
    assert len(names(sweep)) == len(sweep.points) == 2 * 3 * 2
    assert [(*point.values.values(), point.settings.seed) for point in sweep.points] == [
        (n_layer, rate, seed) for n_layer in (1, 2) for rate in (1e-3, 3e-3, 1) for seed in (3, 1)
    ]
    for point in sweep.points:
        changes = [f"{key}={value}" for key, value in point.values.items()]
        changes += [f"seed={point.settings.seed}", "train.threads=1", "workers=1"]
        assert point.settings == load_settings("smoke", changes), "nothing else differs"
    assert {type(point.values["train.learning_rate"]) for point in sweep.points} == {float}


def test_keys_between_commas_vary_together(tmp_path: Path) -> None:
    sizes = '"model.n_embd, model.n_head" = [[8, 1], [32, 4]]'
    sweep = read(tmp_path, f'[grid]\n{sizes}\n"tasks.n_tasks" = [4, 5]\n')
    assert sweep.grid == (("model.n_embd", "model.n_head"), ("tasks.n_tasks",))
    expected = [
        {"model.n_embd": n_embd, "model.n_head": n_head, "tasks.n_tasks": n_tasks}
        for n_embd, n_head in ((8, 1), (32, 4))
        for n_tasks in (4, 5)
    ]
    assert values(sweep) == expected
    for point in sweep.points:
        assert point.settings.flat().items() >= point.values.items()


def test_around_varies_one_thing_at_a_time_and_the_base_comes_first(tmp_path: Path) -> None:
    sweep = read(
        tmp_path,
        """
        seeds = [0, 1]
        [set]
        "train.steps" = 12
        [around]
        "model.n_layer" = [1, 2, 3]
        "train.learning_rate, train.warmup_steps" = [[1e-2, 2]]
        """,
    )
    assert sweep.around == (("model.n_layer",), ("train.learning_rate", "train.warmup_steps"))
    assert sweep.grid == ()
    base = {"model.n_layer": 2, "train.learning_rate": 3e-3, "train.warmup_steps": 5}
    expected = [
        base,
        {**base, "model.n_layer": 1},
        {**base, "model.n_layer": 3},  # 2 is the base's own
        {**base, "train.learning_rate": 1e-2, "train.warmup_steps": 2},
    ]
    assert values(sweep) == [point for point in expected for _ in range(2)]
    assert [point.settings.seed for point in sweep.points] == [0, 1] * 4
    assert {point.settings.train.steps for point in sweep.points} == {12}


def test_a_grid_and_what_varies_around_the_base(tmp_path: Path) -> None:
    text = '[grid]\n"model.n_layer" = [2, 3]\n[around]\n"model.n_head" = [1]\n'
    assert [tuple(point.values()) for point in values(read(tmp_path, text))] == [
        *((2, 2), (2, 1), (3, 2))
    ]


def test_dotted_and_nested_tables_are_equal(tmp_path: Path) -> None:
    dotted, nested = (
        read(tmp_path, text)
        for text in (
            'set = {"train.steps" = 12, "clusters.tsne" = "none", workers = 2}\n'
            'grid = {"model.n_layer" = [1, 2]}\n',
            '[set]\nworkers = 2\nclusters.tsne = "none"\n[set.train]\nsteps = 12\n'
            "[grid.model]\nn_layer = [1, 2]\n",
        )
    )
    assert dotted.points == nested.points
    assert dotted.grid == nested.grid
    expected = {"train.steps": 12, "clusters.tsne": "none", "workers": 2}
    assert dotted.points[0].settings.flat().items() >= expected.items()


def test_a_file_of_nothing_is_one_run_of_the_default(tmp_path: Path) -> None:
    (point,) = read(tmp_path, "# without a base\n").points
    assert point.settings == load_settings("default", ["train.threads=1", "workers=1"])
    assert point.values == {}


def test_a_run_has_one_thread_and_one_process_by_default(
    tmp_path: Path,
) -> None:
    (point,) = read(tmp_path, "").points
    assert (point.settings.train.threads, point.settings.workers) == (1, 1)
    (point,) = read(tmp_path, "set = {train = {threads = 2}, workers = 3}").points
    assert (point.settings.train.threads, point.settings.workers) == (2, 3)
    first, second = read(tmp_path, 'grid = {"train.threads" = [1, 2]}').points
    assert (first.settings.train.threads, second.settings.train.threads) == (1, 2)


def test_an_axis_goes_before_what_is_set(tmp_path: Path) -> None:
    text = 'set = {"train.steps" = 5}\ngrid = {"train.steps" = [6, 7]}'
    assert [point.settings.train.steps for point in read(tmp_path, text).points] == [6, 7]


def test_the_base_may_stand_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for directory, steps in ((tmp_path, 7), (tmp_path / "elsewhere", 9)):
        settings = load_settings("smoke", [f"train.steps={steps}"])
        (directory / "mine.toml").write_text(settings.toml())
    text = 'base = "mine.toml"\n[grid]\n"model.n_layer" = [1]\n'
    (point,) = read(tmp_path, text).points
    assert point.settings.train.steps == 7, "that beside the sweep, not that of the directory"
    (tmp_path / "mine.toml").unlink()
    (point,) = read(tmp_path, text).points
    assert point.settings.train.steps == 9


def test_strings_booleans_and_lists_arrive_unchanged(tmp_path: Path) -> None:
    text = 'grid = {"train.loss" = ["all", "output"], "model.tie_word_embeddings" = [true, false]}'
    assert values(read(tmp_path, text)) == [
        {"train.loss": loss, "model.tie_word_embeddings": tied}
        for loss in ("all", "output")
        for tied in (True, False)
    ]
    text = 'set = {"tasks.n_tasks" = 2}\ngrid = {"tasks.regexes" = [["ab", "cd"]]}'
    (point,) = read(tmp_path, text).points
    assert list(point.settings.tasks.regexes) == ["ab", "cd"]
    assert point.values == {"tasks.regexes": '["ab", "cd"]'}, "as a column holds it"


# --- Names ---

AXES = '[grid]\n"model.n_layer" = [1, 2]\n"train.steps" = [6, 7]\n'


def test_names_depend_neither_on_the_order_nor_on_who_works(tmp_path: Path) -> None:
    first = read(tmp_path, f"seeds = [0, 1]\n{AXES}")
    assert all(re.fullmatch(r"[0-9a-f]{12}", name) for name in names(first))
    turned = '[grid]\n"train.steps" = [7, 6]\n"model.n_layer" = [2, 1]\n'
    second = read(tmp_path, f"seeds = [1, 0]\n{turned}[set]\nworkers = 2\n")
    assert [p.name for p in first.points] != [p.name for p in second.points]
    assert names(first) == names(second)
    # However they came about: set for all, or on an axis.
    part = read(tmp_path, 'seeds = [1]\nset = {"model.n_layer" = 2, "train.steps" = 7}')
    assert names(part) < names(first)
    assert names(first).isdisjoint(names(read(tmp_path, f"seeds = [2]\n{AXES}")))


def test_equal_runs_are_one(tmp_path: Path) -> None:
    text = 'seeds = [0, 0]\ngrid = {"model.n_layer" = [1, 2, 1]}'
    sweep = read(tmp_path, text)
    assert values(sweep) == [{"model.n_layer": 1}, {"model.n_layer": 2}]
    text = 'grid = {workers = [1, 2]}\naround = {"model.n_layer" = [2, 2]}'
    assert len(read(tmp_path, text).points) == 1


def test_the_content_is_that_of_the_file(tmp_path: Path) -> None:
    text = '# mine\nbase = "smoke"\n'
    assert read(tmp_path, text).content == text.encode()


# --- What is wrong ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base = ", "is not TOML: "),
        ('base = "smoke"\n[base]', "is not TOML: "),
        ("bases = 3", "no key 'bases' in a sweep; it has base, seeds, set, grid, around"),
        ("base = 3", "base = 3: should be a string"),
        ("seeds = 3", "seeds = 3: should be a list"),
        ("set = [1]", "set = [1]: should be a table"),
        ("grid = 1", "grid = 1: should be a table"),
        ("around = true", "around = True: should be a table"),
        (
            'base = "smok"',
            "'smok' is neither a preset (smoke, default, distributions, paper) nor a .toml file",
        ),
        ('base = "none.toml"', "none.toml cannot be read: No such file or directory"),
        ('grid = {"train.steps" = 3}', "grid: train.steps = 3: should be a list of values"),
        ('grid = {"train.steps" = []}', "grid: train.steps = []: should be a list of values"),
        (
            'around = {"model.n_layer, model.n_head" = [2]}',
            "around: model.n_layer, model.n_head: 2: should be a list of 2 values, one for each",
        ),
        (
            'grid = {"train.step" = [3]}',
            "grid: no setting 'train.step'; the nearest is 'train.steps'",
        ),
        (
            'set = {"model.n_layr" = 3}',
            "set: no setting 'model.n_layr'; the nearest is 'model.n_layer'",
        ),
        ('around = {"n_embd" = [8]}', "around: no setting 'n_embd'; the nearest is 'model.n_embd'"),
        ('grid = {"train.steps" = [0]}', "train.steps = 0: should be at least"),
        ('grid = {"train.steps" = [2020-01-01]}', "train.steps = 2020-01-01: should be"),
        ('around = {"model.n_embd" = [33]}', "model: n_embd = 33: should be a multiple of"),
        ('seeds = ["one"]', "seed = 'one': should be a whole number"),
        ("seeds = []", "no run: seeds and the axes' values should not be empty"),
        ("grid = {seed = [1, 2]}", "seed: should stand in a list of its own: seeds = [0, 1]"),
        ("set = {seed = 1}", "seed: should stand in a list of its own: seeds = [0, 1]"),
        ("around = {seed = [1]}", "seed: should stand in a list of its own: seeds = [0, 1]"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        read(tmp_path, text)
    line = str(raised.value)
    assert line.startswith(str(tmp_path / "sweep.toml"))
    assert message in line
    assert "\n" not in line


def test_a_file_that_is_missing_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        read_sweep(tmp_path / "none.toml")
    assert (
        str(raised.value) == f"{tmp_path / 'none.toml'} cannot be read: No such file or directory"
    )
    (tmp_path / "latin.toml").write_bytes(b"# \xe4\n")
    with pytest.raises(InputError, match="is not TOML"):
        read_sweep(tmp_path / "latin.toml")


def test_a_grid_is_counted_before_it_is_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ("tasks.n_inputs", "tasks.n_outputs", "data.val_inputs", "data.measured_tasks")
    axes = [f'"{key}" = {list(range(10, 110))}' for key in keys]
    with pytest.raises(InputError, match="are 100,000,000 runs: should be at most 100,000; give"):
        read(tmp_path, "[grid]\n" + "\n".join(axes))
    monkeypatch.setattr("tasklens.runs.sweep_file.MOST_RUNS", 200)
    with pytest.raises(InputError, match="are 202 runs: should be at most 200"):
        read(tmp_path, f"seeds = [0, 1]\n[around]\n{axes[0]}")
    short = '"tasks.n_inputs" = [10, 11]'
    assert len(read(tmp_path, f"seeds = [0, 1]\n[around]\n{short}").points) == 6


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/2/3", "²/3", "١/٢", "-1/2", " 1/2", ""])
def test_a_shard_that_is_none(text: str) -> None:
    with pytest.raises(InputError, match="should be i/n with i from 1 to n"):
        parse_shard(text)


def test_a_shard_of_any_number_of_digits_is_none() -> None:
    assert parse_shard("2/3") == (2, 3)
    for text in (f"1/{'9' * 5000}", f"{'9' * 5000}/2"):
        with pytest.raises(InputError, match="should be i/n with i from 1 to n"):
            parse_shard(text)


def test_a_value_may_have_any_characters(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('base = "smoke"\n[set]\n"tasks.symbols" = "ab\U0001f600\\u007f"\n')
    (point,) = read_sweep(file).points
    assert point.settings.tasks.symbols == "ab\U0001f600\x7f"
