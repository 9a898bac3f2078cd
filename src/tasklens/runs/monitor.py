"""Measure a model while it is trained: a run whose checkpoints come one by one, from memory."""

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasklens.core.errors import CellsFailedError, InputError
from tasklens.core.files import digest
from tasklens.core.parquet import read_parquet
from tasklens.core.progress import warn
from tasklens.core.workers import LOCAL, start_workers
from tasklens.data.labelled_prompts import LabelledPrompts, PromptSettings, read_prompts
from tasklens.data.measured_parts import measured_parts
from tasklens.data.prompt_readers import FEW_SHOT, PromptSource
from tasklens.models.checkpoint_series import Checkpoint
from tasklens.models.hf_subject import HuggingFaceSubject
from tasklens.models.modes import untouched
from tasklens.runs.directory import PATIENCE
from tasklens.runs.few_shot import check_prompts, few_shot_prompts
from tasklens.runs.load_run import new_run
from tasklens.runs.model_run import ModelRun
from tasklens.runs.opened_model import OpenedModel, opened_model, tokenizer_hash
from tasklens.runs.pipeline import begin, finish_run
from tasklens.runs.run_arrays import SCORES
from tasklens.runs.settings import ModelRunSettings
from tasklens.runs.stage_data import make_data
from tasklens.runs.stage_measure import Measurer
from tasklens.runs.stage_states import Part, doubts, harvest_checkpoint, show_measured_tokens
from tasklens.scoring.best_layer import best_layer, is_layer
from tasklens.scoring.score_table import MODEL, main_scores, to_frame

#: The name of prompts that come from no file, in the settings of the run.
IN_MEMORY = "prompts in memory"
#: The command in the manifest of the run.
COMMAND = "tasklens.ClusterMonitor"


class ClusterMonitor:
    """Monitor of how the hidden states of a model in training cluster, for any training loop.

    Each call of `measure` adds a step to a run directory, which `tasklens report`, `show` and
    `verify` read, and `tasklens.load_run`. Nothing of the caller's is changed: the model, its mode
    and gradients, the global random generators, the number of threads. `tasklens.ClusterCallback`
    does this for the Trainer of transformers.

    Parameters
    ----------
    prompts : path, DataFrame, mapping, records, PromptSettings or LabelledPrompts
        The labelled prompts, see `tasklens.read_prompts`; ``few-shot`` makes some for the
        tokenizer.
    tokenizer : transformers tokenizer
        The one that the model reads with.
    out : path
        The run directory.
    changes : mapping, or sequence of str, optional
        Changes of the settings of a model run, see docs/reference/probe-settings.md:
        ``{"states.positions": ["query"]}``, or lines ``"measure.k=[16]"``. One process
        measures, unless ``workers`` is changed, as a training uses the other cores.
    checkpoints : path, optional
        Directory in which the training saves ``checkpoint-N``. `tasklens intervene` opens them.
    resume : bool
        Continue the run that the directory holds; steps with the same weights are kept.

    Raises
    ------
    InputError
        For wrong prompts or settings, before anything is written. `measure` raises it if the model
        cannot be measured, or if the directory holds another run.

    Examples
    --------
    >>> import tasklens as tl
    >>> def train(model, tokenizer, batches, take_step):
    ...     monitor = tl.ClusterMonitor("prompts.jsonl", tokenizer, out="runs/monitored")
    ...     for step, batch in enumerate(batches):
    ...         if step % 500 == 0:
    ...             print(step, monitor.measure(model, step)["best_ari"])
    ...         take_step(model, batch)
    ...     return monitor.finish()
    """

    def __init__(
        self,
        prompts: "PromptSource | PromptSettings | LabelledPrompts",
        tokenizer: Any,
        out: Path | str,
        changes: Mapping[str, object] | Iterable[str] = (),
        *,
        checkpoints: Path | str | None = None,
        resume: bool = False,
    ) -> None:
        if tokenizer is None:
            raise InputError("tokenizer: should be the one that the model reads with, but is None")
        models = [] if checkpoints is None else [str(checkpoints)]
        table = {"workers": 1, "subject": {"models": models}}
        settings = ModelRunSettings.from_table(table, changes)
        self.settings, self._prompts = _with_prompts(settings, prompts, tokenizer)
        self.tokenizer, self.out, self.resume = tokenizer, Path(out), resume
        self._run: ModelRun | None = None
        check_prompts(self.settings, self._prompts)
        for split, rows in self._prompts.splits.items():
            self.settings.check_size(split, rows.stop - rows.start)
        for position in self.settings.states.positions:
            measured_parts(self._prompts, position)

    @property
    def run(self) -> ModelRun:
        """The run, as far as it is measured."""
        return self._run or self._open(self.settings)

    def measure(self, model: Any, step: int) -> dict[str, float]:
        """Measure a model as it is now, and return its scores by name.

        Steps come in ascending order. If a step comes after a later one, the training has started
        again from it: the later ones are left out.

        Parameters
        ----------
        model : transformers.PreTrainedModel
            Or what torch, accelerate or peft wrap around it.
        step : int
            The number of optimiser steps that it has taken.

        Returns
        -------
        dict of float
            ``ari/block3`` and so on for each hidden state; ``ari/SPLIT/block3`` for the splits
            after the first, ``ari/POSITION/...`` for the positions after the first; ``accuracy``
            and ``accuracy/SPLIT``; ``best_ari`` and ``best_layer``, the number of its block (0:
            ``embed``), on the first split; ``seconds`` that this took.

        Raises
        ------
        InputError
            If the model cannot be measured.
        CellsFailedError
            If some hidden states could not be clustered; the hidden states are kept.
        """
        began = time.perf_counter()
        model = plain_model(model)
        with untouched(model):
            settings = self._settings_for(model)
            run = self._run or self._open(settings)
            with run.directory.locked(PATIENCE):
                if self._run is None:
                    begin(run, COMMAND)
                    make_data(run)
                subject = HuggingFaceSubject(
                    model, self.tokenizer, run.settings.subject.max_tokens, step
                )
                name = f"{self._name}/checkpoint-{step}" if self._name else f"step {step}"
                checkpoint = Checkpoint(step, name, None, live=True)
                opened = opened_model(run.settings, subject, run.table, name)
                if self._run is None:
                    show_measured_tokens(run, opened.tokens, self.tokenizer)
                self._run = run
                self._harvest(checkpoint, opened, began)
                with start_workers(LOCAL, run.settings.workers) as workers:
                    measurer = Measurer(run, workers, grows=True)
                    if not measurer.is_done(step):
                        measurer.begin(step)
                        measurer.finish()
                if measurer.failed:
                    raise CellsFailedError(measurer.failed)
                scores = _scores(run, step)
        return scores | {"seconds": time.perf_counter() - began}

    def finish(self) -> ModelRun:
        """Measure the last step as such, and make the figures, the verdict and the report.

        InputError if no step was measured.
        """
        run = self.run
        if not run.steps:
            raise InputError(f"{self.out}: no step was measured: call measure(model, step) first")
        with run.directory.locked(PATIENCE):
            for warning in doubts([run.facts(step) for step in run.steps]):
                warn(warning)
            finish_run(run, COMMAND)
        return run

    @property
    def _name(self) -> str:
        return next(iter(self.settings.subject.models), "")

    def _open(self, settings: ModelRunSettings) -> ModelRun:
        run = new_run("monitor", settings, self.out, resume=self.resume)
        assert isinstance(run, ModelRun)
        run.given = self._prompts
        return run

    def _settings_for(self, model: Any) -> ModelRunSettings:
        """Return the settings with the type of the model's weights."""
        dtype = str(model.dtype).removeprefix("torch.")
        subject = self.settings.subject.changed(dtype=dtype)
        return self.settings.changed(subject=subject)

    def _harvest(self, checkpoint: Checkpoint, opened: OpenedModel, began: float) -> None:
        """Keep the hidden states of a step, unless they are there, and mark the stage."""
        run = self.run
        common = [
            run.settings.affecting("states"),
            run.directory.output_hash("data"),
            opened.subject.weights_hash(),
            tokenizer_hash(self.tokenizer),
            checkpoint.step,
        ]
        parts = {Part(checkpoint, each): digest([*common, each]) for each in run.positions}
        missing = {
            part: inputs
            for part, inputs in parts.items()
            if not run.directory.made_from(run.states_at(checkpoint.step, part.position), inputs)
        }
        if missing:
            harvest_checkpoint(run, opened, missing)
        steps = [*(step for step in run.steps if step < checkpoint.step), checkpoint.step]
        if missing or tuple(steps) != run.steps:
            self._mark(steps, time.perf_counter() - began)

    def _mark(self, steps: Sequence[int], seconds: float) -> None:
        """Mark the stage of the hidden states as finished with some steps."""
        run, directory = self.run, self.run.directory
        before = directory.mark("states") or {"seconds": 0.0}
        parts = [run.states_at(step, position) for position in run.positions for step in steps]
        sources = [(path / "inputs").read_text() for path in parts]
        facts = [run.facts(step) for step in steps]
        files = [path for step in steps for path in directory.files_in(run.states_at(step))]
        directory.unfinish("measure")
        directory.finish(
            "states",
            run.inputs("states", sources),
            files,
            seconds=round(before["seconds"] + seconds, 2),
            sources=sources,
            checkpoints=facts,
            warnings=[*dict.fromkeys(note for each in facts for note in each["notes"])],
        )
        for name in ("state_names", "splits"):
            run.__dict__.pop(name, None)  # cached, of fewer steps


def plain_model(model: Any) -> Any:
    """Return the model of transformers in what torch, accelerate or peft have wrapped around it.

    A LoRA adapter stays active. InputError for learned prompts of peft, which are no tokens.
    """
    while True:
        inner = getattr(model, "_orig_mod", None)  # of torch.compile
        if inner is None and not hasattr(model, "config"):
            inner = getattr(model, "module", None)  # of DistributedDataParallel
        if inner is None:
            break
        model = inner
    if hasattr(model, "get_base_model"):
        if any(each.is_prompt_learning for each in model.peft_config.values()):
            raise InputError(
                "the model has learned prompts of peft, which are no tokens: should have an "
                "adapter in its layers, such as LoRA"
            )
        model = model.get_base_model()
    if not hasattr(model, "get_input_embeddings"):
        kind = type(model).__name__
        raise InputError(f"{kind}: should be a causal language model of transformers")
    return model


def _with_prompts(
    settings: ModelRunSettings,
    prompts: "PromptSource | PromptSettings | LabelledPrompts",
    tokenizer: Any,
) -> tuple[ModelRunSettings, LabelledPrompts]:
    """Return settings that name the prompts, and the prompts."""
    named, seed = settings.prompts, settings.seed
    if isinstance(prompts, PromptSettings):
        named = prompts
    elif isinstance(prompts, str | Path):
        named = named.changed(files=(str(prompts),))
    else:
        if not isinstance(prompts, LabelledPrompts):
            chosen = {name: getattr(named, name) for name in named.model_fields_set - {"files"}}
            prompts = read_prompts(prompts, seed=seed, **chosen)
        return settings.changed(prompts=named.changed(files=(IN_MEMORY,))), prompts
    settings = settings.changed(prompts=named)
    if named.files == (FEW_SHOT,):
        return settings, few_shot_prompts(settings, tokenizer, "the model in training")
    return settings, read_prompts(named, seed=seed)


def _scores(run: ModelRun, step: int) -> dict[str, float]:
    """Return the scores of a measured step by the names of `ClusterMonitor.measure`."""
    content = run.directory.read(run.directory.measured_at(step) / SCORES)
    frame = to_frame(main_scores(read_parquet(content)), ("ari", "accuracy"))
    first_split, first_position = next(iter(run.splits)), run.positions[0]
    scores: dict[str, float] = {}
    best: dict[tuple[str, str], float] = {}
    groups = frame[frame.space.isin(("raw", ""))].groupby(
        ["metric", "split", "position", "layer"], sort=False, observed=True
    )
    for (metric, split, position, layer), value in groups.value.mean().items():
        parts = [metric]
        parts += [position] if layer != MODEL and position != first_position else []
        parts += [split] if split != first_split else []
        scores["/".join([*parts, *([layer] if layer != MODEL else [])])] = float(value)
        if metric == "ari" and split == first_split and position == first_position:
            best[layer, "raw"] = float(value)
    chosen = best_layer({key: value for key, value in best.items() if is_layer(key[0])})
    if chosen:
        number = chosen[0].removeprefix("block")
        scores |= {"best_ari": best[chosen], "best_layer": float(number if number.isdigit() else 0)}
    return scores
