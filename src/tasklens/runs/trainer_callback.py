"""Measure in the Trainer of transformers: its saves, its log, its resume."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tasklens.core.errors import InputError, first_line
from tasklens.core.extras import import_extra
from tasklens.core.progress import warn
from tasklens.data.labelled_prompts import LabelledPrompts, PromptSettings
from tasklens.data.prompt_readers import PromptSource
from tasklens.runs.monitor import ClusterMonitor

#: Of which the callback is a subclass; this module is imported when the callback is used.
_TrainerCallback: Any = import_extra("transformers", "ClusterCallback").TrainerCallback
#: The beginning of the names in the Trainer's log.
PREFIX = "tasklens/"


class ClusterCallback(_TrainerCallback):  # type: ignore[misc]
    """Callback that measures how hidden states cluster while the Trainer of transformers trains.

    It measures as the training begins, at each save or every so many steps, and at the last step.
    The scores go through the Trainer's own log to whatever it logs to, such as
    ``tasklens/ari/block3``; see `ClusterMonitor.measure` for the names. The run directory is one of
    a series of checkpoints, with figures and a report at the end.

    Parameters
    ----------
    trainer : transformers.Trainer
        The Trainer that the callback is added to.
    prompts, out, changes
        As for `ClusterMonitor`.
    every : int, optional
        Steps between two measurements; by default one at each save.
    tokenizer : transformers tokenizer, optional
        By default the Trainer's ``processing_class``.
    resume : bool
        Continue a run that the directory holds, also if the training starts anew. A training that
        resumes from a checkpoint always does; steps with the same weights are not measured again.

    Raises
    ------
    InputError
        For wrong prompts or settings at once; as the training begins, for a model that cannot be
        measured, or a directory that holds another run. A later failure is a warning, and the
        training continues.

    Notes
    -----
    Nothing of the training is changed, see `ClusterMonitor`. The model is measured in the type of
    its weights, on its device, while the training waits; the log has the seconds. Of several
    processes only the first measures, and the others wait for it at their next step. Weights that
    are spread over processes, by FSDP or DeepSpeed's stage 3, are refused: `tasklens probe`
    measures their saved checkpoints.

    Examples
    --------
    >>> import tasklens as tl
    >>> def add_to(trainer):
    ...     trainer.add_callback(tl.ClusterCallback(trainer, "tasks-in-words", out="runs/clusters"))
    """

    def __init__(
        self,
        trainer: Any,
        prompts: "PromptSource | PromptSettings | LabelledPrompts",
        out: Path | str,
        changes: Mapping[str, object] | Iterable[str] = (),
        *,
        every: int | None = None,
        tokenizer: Any = None,
        resume: bool = False,
    ) -> None:
        if not hasattr(trainer, "callback_handler"):
            kind = type(trainer).__name__
            raise InputError(f"trainer: is a {kind}, but should be a Trainer of transformers")
        if every is not None and every < 1:
            raise InputError(f"every = {every}: should be at least 1, or None for each save")
        tokenizer = tokenizer or trainer.processing_class
        if tokenizer is None:
            raise InputError(
                "the Trainer has no processing_class: should be the tokenizer of its model; or "
                "give tokenizer"
            )
        self.trainer, self.every = trainer, every
        saved = trainer.args.output_dir
        self.monitor = ClusterMonitor(
            prompts, tokenizer, out, changes, checkpoints=saved, resume=resume
        )
        self._measured: int | None = None  # the last step that was tried

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Measure the model that the training begins with."""
        if state.is_world_process_zero:
            _check_whole(self.trainer)
            self.monitor.resume |= state.global_step > 0
            self._log(self.monitor.measure(others["model"], state.global_step), state, control)

    def on_save(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Measure a model that was saved, unless there is a number of steps."""
        if self.every is None:
            self._measure(state, control, others["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Measure every so many steps, and at the last one."""
        is_last = state.global_step >= state.max_steps
        if is_last or (self.every is not None and state.global_step % self.every == 0):
            self._measure(state, control, others["model"])

    def on_epoch_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Measure the last step of a training that stops early, before the best model is loaded."""
        if control.should_training_stop:
            self._measure(state, control, others["model"])

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Make the figures, the verdict and the report."""
        if state.is_world_process_zero:
            try:
                self.monitor.finish()
            except Exception as error:  # of any kind: the training has ended well
                warn(f"{self.monitor.out}: the report is not made: {first_line(error)}")

    def _measure(self, state: Any, control: Any, model: Any) -> None:
        """Measure a step once; a failure is a warning, as it should cost no hours of training."""
        if not state.is_world_process_zero or self._measured == state.global_step:
            return
        try:
            scores = self.monitor.measure(model, state.global_step)
        except Exception as error:  # of any kind, also of the model's own code
            self._measured = state.global_step
            warn(f"step {state.global_step} is not measured: {first_line(error)}")
            return
        self._log(scores, state, control)

    def _log(self, scores: Mapping[str, float], state: Any, control: Any) -> None:
        """Log scores as the Trainer logs its loss."""
        self._measured = state.global_step
        should_log = control.should_log  # logging resets it, and the loss of the step would be lost
        self.trainer.log({f"{PREFIX}{name}": value for name, value in scores.items()})
        control.should_log = should_log


def _check_whole(trainer: Any) -> None:
    """Raise InputError if the first process does not have all weights."""
    is_sharded = getattr(trainer, "is_fsdp_enabled", False)
    plugin = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
    if is_sharded or (plugin is not None and plugin.zero_stage == 3):
        raise InputError(
            "the weights are spread over processes (FSDP, or stage 3 of DeepSpeed), and no process "
            "has them all: leave out ClusterCallback, and measure the saved checkpoints with "
            "tasklens probe"
        )
