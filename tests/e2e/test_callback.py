"""ClusterCallback in the Trainer of transformers, and ClusterMonitor in any loop."""

import random
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import tasklens as tl
from e2e.conftest import Command
from e2e.stock import QUICK, STATES, Stock
from tasklens.core.errors import InputError
from tasklens.runs import monitor as monitor_module
from tasklens.runs.model_run import ModelRun
from tasklens.runs.monitor import ClusterMonitor, plain_model
from tasklens.runs.stage_states import harvest_checkpoint

STEPS, EVERY = 4, 2


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """The prompts of the stock, padded to one length."""

    def __init__(self, stock: Stock, tokenizer: Any) -> None:
        ids = [tokenizer(row["text"])["input_ids"] for row in stock.rows]
        self.ids = [[*each, *[0] * (12 - len(each))] for each in ids]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"input_ids": self.ids[i], "labels": self.ids[i]}


def tokenizer_of(stock: Stock) -> Any:
    import transformers

    return transformers.AutoTokenizer.from_pretrained(stock.checkpoints[100])


def model_of(stock: Stock) -> Any:
    """Load a model of the stock; with dropout, so that the random generators count."""
    import transformers

    path = stock.checkpoints[100]
    return transformers.AutoModelForCausalLM.from_pretrained(path, attention_dropout=0.3)


def trainer_of(stock: Stock, out: Path, **arguments: Any) -> Any:
    import transformers

    usual: dict[str, Any] = {"max_steps": STEPS, "save_steps": EVERY, "logging_steps": 1}
    args = transformers.TrainingArguments(
        str(out),
        **usual | arguments,
        per_device_train_batch_size=4,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        seed=3,
    )
    tokenizer = tokenizer_of(stock)
    return transformers.Trainer(
        model_of(stock),
        args,
        train_dataset=Rows(stock, tokenizer),
        data_collator=transformers.default_data_collator,
        processing_class=tokenizer,
    )


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def logged(trainer: Any) -> dict[int, dict[str, float]]:
    """Return the scores in a Trainer's log by step."""
    return {
        entry["step"]: {
            name.removeprefix("tasklens/"): value
            for name, value in entry.items()
            if name.startswith("tasklens/")
        }
        for entry in trainer.state.log_history
        if "tasklens/seconds" in entry
    }


@pytest.fixture(scope="module")
def trained(stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A Trainer that was watched, and the directory of its checkpoints and its run."""
    path = tmp_path_factory.mktemp("trained")
    trainer = trainer_of(stock, path / "out")
    trainer.add_callback(tl.ClusterCallback(trainer, stock.prompts, path / "run", QUICK))
    trainer.train()
    return trainer, path


def test_the_training_is_the_same_to_the_last_bit(
    stock: Stock, trained: tuple[Any, Path], tmp_path: Path
) -> None:
    alone = trainer_of(stock, tmp_path / "out", save_strategy="no")
    alone.train()
    watched, _ = trained
    assert losses(watched) == losses(alone)
    assert len(losses(alone)) == STEPS, "no loss is lost from the log"
    pairs = zip(watched.model.parameters(), alone.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_scores_are_in_the_log_of_the_trainer(trained: tuple[Any, Path]) -> None:
    trainer, path = trained
    run = tl.load_run(path / "run")
    assert run.steps == (0, 2, 4)
    assert run.is_series
    scores = run.scores()
    by_step = logged(trainer)
    assert list(by_step) == [0, 2, 4]
    for step, of_step in by_step.items():
        names = [*(f"ari/{state}" for state in STATES), "accuracy", "best_ari", "best_layer"]
        assert set(of_step) == {*names, "seconds"}
        rows = scores[scores.step == step]
        for state in STATES:
            ari = rows[(rows.metric == "ari") & (rows.layer == state)].value.mean()
            assert of_step[f"ari/{state}"] == pytest.approx(ari, abs=1e-12)
        layers = [of_step[f"ari/{state}"] for state in STATES[:3]]
        assert of_step["best_ari"] == max(layers)
        assert of_step["best_layer"] == layers.index(max(layers))


def test_the_run_is_that_of_a_probe_of_the_saved_checkpoints(
    stock: Stock, trained: tuple[Any, Path], command: Command, tmp_path: Path
) -> None:
    _, path = trained
    result = command(*stock.command("--out", tmp_path / "probe", models=path / "out"))
    assert result.status == 0, result.err
    live, probed = (tl.load_run(each) for each in (path / "run", tmp_path / "probe"))
    assert isinstance(live, ModelRun)
    assert isinstance(probed, ModelRun)
    assert live.intervenable_steps == probed.steps == (2, 4)
    for step in probed.steps:
        assert live.facts(step)["weights"] == probed.facts(step)["weights"]
        for state in STATES:
            assert (live.states(state, step) == probed.states(state, step)).all()
    a, b = (run.scores().drop(columns="run") for run in (live, probed))
    pd.testing.assert_frame_equal(
        a[a.step > 0].reset_index(drop=True), b[b.step > 0].reset_index(drop=True)
    )


def test_commands_read_the_run(trained: tuple[Any, Path], command: Command, tmp_path: Path) -> None:
    path = Path(shutil.copytree(trained[1] / "run", tmp_path / "run"))
    assert (path / "report.html").is_file()
    assert command("show", path).status == 0
    assert command("report", path).status == 0
    assert command("verify", path).status in (0, 1)
    assert command("measure", path).status == 0, "there is nothing to do"
    edited = command("intervene", path, "--state", "block1", "--edit", "shift")
    assert edited.status == 0, edited.err
    assert {*tl.load_run(path).effects().step} == {2, 4}, "the steps that were saved"
    refused = command("measure", path, "--set", 'states.positions=["input","verb"]')
    assert refused.status == 2
    assert "no position can be added, because the models were measured while they" in refused.err


def test_a_training_that_resumes_measures_what_is_missing(
    stock: Stock, trained: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copytree(trained[1], tmp_path / "copied"))
    read: list[tuple[int, int]] = []

    def counted(run: Any, opened: Any, parts: Any) -> None:
        read.append((opened.subject.step, len(parts)))
        harvest_checkpoint(run, opened, parts)

    monkeypatch.setattr(monitor_module, "harvest_checkpoint", counted)
    trainer = trainer_of(stock, path / "out", max_steps=6)
    callback = tl.ClusterCallback(trainer, stock.prompts, path / "run", QUICK)
    trainer.add_callback(callback)
    monkeypatch.setattr(callback.monitor, "settings", _same_models(callback.monitor, trained[1]))
    trainer.train(resume_from_checkpoint=str(path / "out" / f"checkpoint-{STEPS}"))
    assert read == [(6, 1)], "step 4 has the same weights"
    assert tl.load_run(path / "run").steps == (0, 2, 4, 6)
    again = trainer_of(stock, path / "out")
    again.add_callback(tl.ClusterCallback(again, stock.prompts, path / "run", QUICK))
    with pytest.raises(InputError, match="holds another run"):
        again.train()


def _same_models(monitor: ClusterMonitor, path: Path) -> Any:
    """Return the settings of a monitor with the directory that the copied run was made with."""
    subject = monitor.settings.subject.changed(models=(str(path / "out"),))
    return monitor.settings.changed(subject=subject)


# -- any loop -------------------------------------------------------------------------------------


def monitor_of(stock: Stock, out: Path, *changes: str, **more: Any) -> ClusterMonitor:
    """Return a monitor of the stock's prompts in memory, of which some phrasings are held out."""
    prompts = tl.read_prompts(stock.prompts, hold_out=["phrasing"])
    quick = [item for item in QUICK if not any(c.startswith(item.split("=")[0]) for c in changes)]
    return tl.ClusterMonitor(prompts, tokenizer_of(stock), out, [*quick, *changes], **more)


def test_scores_are_named_by_split_and_position(stock: Stock, tmp_path: Path) -> None:
    positions = 'states.positions=["input","verb"]'
    states = 'subject.states=["block2"]'
    monitor = monitor_of(stock, tmp_path / "run", positions, states)
    scores = monitor.measure(model_of(stock), 7)
    assert set(scores) == {
        *("ari/block2", "ari/held_out_phrasing/block2"),
        *("ari/verb/block2", "ari/verb/held_out_phrasing/block2"),
        *("accuracy", "accuracy/held_out_phrasing"),
        *("best_ari", "best_layer", "seconds"),
    }
    assert scores["best_layer"] == 2.0
    assert scores["best_ari"] == scores["ari/block2"]
    run = monitor.finish()
    assert (run.steps, run.positions, run.is_series) == ((7,), ("input", "verb"), False)
    assert run.intervenable_steps == (), "the model of step 7 is not saved"
    assert run.facts(7)["licence"] == "not stated"


def test_only_the_last_step_has_maps_whatever_ends_the_training(
    stock: Stock, tmp_path: Path, command: Command
) -> None:
    """A killed training leaves a run that `measure` and `report` finish."""
    out = tmp_path / "run"
    quick_maps = ("clusters.tsne=last", "clusters.tsne_max_iter=250", "clusters.perplexity=5")
    monitor = monitor_of(stock, out, *quick_maps, 'subject.states=["block1","embed"]')
    model = model_of(stock)
    assert "ari/block1" in monitor.measure(model, 0)
    first = _change(model)
    second = monitor.measure(model, 5)
    for name in ("measure", "report"):
        result = command(name, out)
        assert result.status == 0, result.err
    scores = tl.load_run(out).scores()
    assert {*scores[scores.space == "tsne"].step} == {5}
    raw = scores[(scores.metric == "ari") & (scores.step == 5) & (scores.space == "raw")]
    shown = raw[(raw.split == "kept") & (raw.layer == "block1")].value.mean()
    assert shown == pytest.approx(second["ari/block1"], abs=1e-12)
    more = monitor_of(stock, out, *quick_maps, 'subject.states=["block1","embed"]', resume=True)
    _change(model, -first)
    assert more.measure(model, 0)["seconds"] > 0
    assert more.run.steps == (0,), "the training has started again"


def _change(model: Any, by: float = 0.5) -> float:
    with torch.no_grad():
        model.get_input_embeddings().weight[3] += by
    return by


def test_nothing_of_the_model_or_the_process_is_changed(stock: Stock, tmp_path: Path) -> None:
    model = model_of(stock).train()
    model.model.layers[0].eval()
    model.config.use_cache = True
    loss = model(torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss
    loss.backward()

    def state() -> dict[str, Any]:
        return {
            "modes": [module.training for module in model.modules()],
            "generators": (torch.get_rng_state().tolist(), random.getstate()),
            "numpy": np.random.get_state()[1].tolist(),  # type: ignore[index]  # noqa: NPY002
            "gradients": [each.grad is None for each in model.parameters()],
            "sum of gradients": sum(float(each.grad.sum()) for each in model.parameters()),
            "requires": [each.requires_grad for each in model.parameters()],
            "config": (model.config.use_cache, torch.is_grad_enabled(), torch.get_num_threads()),
            "hooks": [len(module._forward_hooks) for module in model.modules()],
        }

    before = state()
    monitor_of(stock, tmp_path / "run").measure(model, 0)
    assert {name for name, value in state().items() if before[name] != value} == set()


def test_wrapped_models_are_measured_and_learned_prompts_are_refused(
    stock: Stock, tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft")
    plain = monitor_of(stock, tmp_path / "plain").measure(model_of(stock), 0)
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=2)
    adapted = _with_peft(peft, stock, config)
    wrapped = torch.nn.ModuleDict()  # as DistributedDataParallel keeps it
    wrapped.module = adapted
    scores = monitor_of(stock, tmp_path / "adapter").measure(wrapped, 0)
    assert {**scores, "seconds": 0} == {**plain, "seconds": 0}, "a new adapter changes nothing"
    prompts = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with pytest.raises(InputError, match=r"^the model has learned prompts of peft"):
        plain_model(_with_peft(peft, stock, prompts))
    with pytest.raises(InputError, match=r"^Linear: should be a causal language model"):
        plain_model(torch.nn.Linear(1, 1))


def _with_peft(peft: Any, stock: Stock, config: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft's own
        return peft.get_peft_model(model_of(stock), config)


def test_the_type_of_the_weights_is_that_of_the_run(stock: Stock, tmp_path: Path) -> None:
    monitor = monitor_of(stock, tmp_path / "run", 'subject.states=["block1"]')
    monitor.measure(model_of(stock).bfloat16(), 1)
    assert monitor.run.settings.subject.dtype == "bfloat16"
    assert monitor.run.states("block1").dtype == np.float32


def test_a_directory_with_other_prompts_is_refused(stock: Stock, tmp_path: Path) -> None:
    monitor_of(stock, tmp_path / "run").measure(model_of(stock), 0)
    other = tl.read_prompts(pd.DataFrame(stock.rows[:24]))
    again = tl.ClusterMonitor(other, tokenizer_of(stock), tmp_path / "run", QUICK, resume=True)
    with pytest.raises(InputError, match="holds another run: prompts in memory has changed"):
        again.measure(model_of(stock), 0)
    with pytest.raises(InputError, match=r"already holds this run; resume it"):
        monitor_of(stock, tmp_path / "run").measure(model_of(stock), 0)
    with pytest.raises(InputError, match=r"no step was measured"):
        monitor_of(stock, tmp_path / "empty").finish()
