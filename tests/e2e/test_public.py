"""The public names: each has a documented example, which is run as a reader would run it."""

import contextlib
import doctest
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch

import tasklens as tl

#: A run like ``tasklens run smoke``, of which the examples read, in a few seconds.
QUICK = {
    "train.steps": 16,
    "train.warmup_steps": 4,
    "clusters.tsne": "none",
    "clusters.n_init": 1,
    "workers": 1,
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the finished run ``runs/smoke``."""
    path = tmp_path_factory.mktemp("public")
    tl.run(tl.load_settings("smoke", QUICK), out=path / "runs" / "smoke")
    return path


@pytest.fixture
def working_directory(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(directory)
    return directory


@pytest.mark.usefixtures("working_directory")
@pytest.mark.parametrize("name", sorted(tl.__all__))
def test_every_public_name_has_an_example_that_runs(name: str) -> None:
    # An object's own docstring, and those of its public methods.
    tests = doctest.DocTestFinder(exclude_empty=True).find(getattr(tl, name), name, globs={})
    assert any(test.examples for test in tests), f"tasklens.{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in tests:
        output = io.StringIO()
        with contextlib.redirect_stderr(io.StringIO()):
            failed, _ = runner.run(test, out=output.write)
        assert not failed, output.getvalue()


def test_the_package_is_imported_in_no_time_and_without_torch() -> None:
    code = "import sys, tasklens; print(*sorted({'torch', 'numpy', 'pandas'} & {*sys.modules}))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "\n", "nothing that takes long is imported before it is used"


SCRIPT = """
import tasklens as tl

print("begins")
settings = tl.load_settings(
    "smoke", {"train.steps": 4, "train.warmup_steps": 2, "clusters.tsne": "none", "workers": 2}
)
print(tl.run(settings, out="runs/script").steps)
"""


@pytest.mark.long
def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    result = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "begins\n(0, 1, 2, 4)\n", "no worker runs the script again"


@contextlib.contextmanager
def unchanged(network: torch.nn.Module) -> Iterator[None]:
    """Check that the state of the process and the mode of a network are as they were."""

    def state() -> dict[str, object]:
        import warnings

        return {
            "modes": [module.training for module in network.modules()],
            "torch's generator": torch.get_rng_state().tolist(),
            "NumPy's generator": np.random.get_state()[1].tolist(),  # type: ignore[index]  # noqa: NPY002
            "threads": torch.get_num_threads(),
            "gradients": torch.is_grad_enabled(),
            "precision": torch.get_float32_matmul_precision(),
            "warnings": list(warnings.filters),
            "matplotlib": dict(mpl.rcParams),
            "hooks": [len(module._forward_hooks) for module in network.modules()],
            "directory": Path.cwd(),
        }

    before = state()
    yield
    after = state()
    assert {name for name in before if before[name] != after[name]} == set()


@pytest.mark.usefixtures("working_directory")
def test_nothing_of_the_callers_is_changed(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    run = tl.load_run("runs/smoke")
    dataset = run.dataset  # type: ignore[attr-defined]
    ours = tl.make_model(dataset, n_layer=2, n_head=2, n_embd=32, dropout=0.1)
    next(ours.children()).eval()
    assert ours.training, "some modules are in training mode and some are not"
    theirs = AutoModelForCausalLM.from_pretrained("runs/smoke/checkpoints/step-00000016").train()
    view = run.view()
    for network in (ours, theirs):
        with unchanged(network):
            tl.harvest(network, dataset["val_subset"] if network is ours else run_prompts(run))
    with unchanged(ours):
        tl.train(ours, dataset, steps=2, warmup_steps=1)
    with unchanged(ours):
        tl.score(tl.harvest(ours, dataset["val_subset"]), space="tsne", perplexity=10)
    with unchanged(ours):
        run.plot_map("block2").savefig(tmp_path / "map.png")
        tl.figure1(run.scores()).savefig(tmp_path / "figure1.png")
        tl.figure_agreement(view).savefig(tmp_path / "agreement.png")
    with unchanged(ours):
        tl.run(tl.load_settings("smoke", QUICK), out=tmp_path / "run")
        tl.verify(tmp_path / "run")


def run_prompts(run: tl.Run) -> tl.Prompts:
    """Return prompts that a model of a run reads."""
    ids = np.ones((3, 4), dtype=np.int64)
    return tl.Prompts(ids, np.array([1, 2, 3]))
