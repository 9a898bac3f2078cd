"""The steps that ClusterCallback measures, with a Trainer and a monitor that only record."""

import re
from types import SimpleNamespace
from typing import Any

import pytest

from tasklens.core.errors import CellsFailedError, InputError
from tasklens.runs.trainer_callback import ClusterCallback

PROMPTS = {"text": ["a", "b", "c", "d"], "label": [0, 0, 1, 1]}


class Trainer:
    """A Trainer that keeps what is logged."""

    callback_handler = None
    is_fsdp_enabled = False

    def __init__(self, processing_class: Any = "tokenizer") -> None:
        self.processing_class = processing_class
        self.args = SimpleNamespace(output_dir="out")
        self.accelerator = SimpleNamespace(state=SimpleNamespace(deepspeed_plugin=None))
        self.logs: list[dict[str, float]] = []
        self.control = SimpleNamespace(should_log=True, should_training_stop=False)

    def log(self, logs: dict[str, float]) -> None:
        self.logs.append(logs)
        self.control.should_log = False  # as the Trainer does


class Monitor:
    """A monitor that measures nothing, and fails at some steps."""

    out, resume = "run", False

    def __init__(self, failing: dict[int, Exception]) -> None:
        self.failing, self.steps, self.finished = failing, list[int](), 0

    def measure(self, model: str, step: int) -> dict[str, float]:
        assert model == "model"
        self.steps.append(step)
        if step in self.failing:
            raise self.failing[step]
        return {"best_ari": step / 10}

    def finish(self) -> None:
        self.finished += 1


class Training:
    """The events of a training, in the order in which the Trainer sends them."""

    def __init__(
        self,
        *,
        every: int | None = None,
        rank: int = 0,
        failing: dict[int, Exception] | None = None,
    ) -> None:
        self.trainer = Trainer()
        self.callback = ClusterCallback(self.trainer, PROMPTS, "run", every=every)
        self.monitor = Monitor(failing or {})
        self.callback.monitor = self.monitor  # type: ignore[assignment]
        self.state = SimpleNamespace(is_world_process_zero=rank == 0, global_step=0, max_steps=6)

    def send(self, event: str) -> None:
        getattr(self.callback, event)(None, self.state, self.trainer.control, model="model")

    def run(self, *, begin: int = 0, saves: tuple[int, ...] = (2, 4, 6), stop: int = 6) -> None:
        self.state.global_step = begin
        self.send("on_train_begin")
        for step in range(begin + 1, stop + 1):
            self.state.global_step = step
            self.trainer.control.should_log = True
            self.send("on_step_end")
            assert self.trainer.control.should_log, "the loss is logged after this"
            if step in saves:
                self.send("on_save")
        self.trainer.control.should_training_stop = stop < self.state.max_steps
        self.send("on_epoch_end")
        self.send("on_train_end")


def test_each_save_and_both_ends_are_measured_once() -> None:
    training = Training()
    training.run(saves=(2, 4, 6))
    assert training.monitor.steps == [0, 2, 4, 6]
    assert training.trainer.logs == [{"tasklens/best_ari": n / 10} for n in (0, 2, 4, 6)]
    assert training.monitor.finished == 1
    training = Training()
    training.run(saves=())
    assert training.monitor.steps == [0, 6]


def test_every_so_many_steps_are_measured_whatever_is_saved() -> None:
    training = Training(every=4)
    training.run(saves=(3,))
    assert training.monitor.steps == [0, 4, 6]


def test_a_training_that_stops_early_is_measured_before_the_best_model_is_loaded() -> None:
    training = Training(every=2)
    training.run(stop=3)
    assert training.monitor.steps == [0, 2, 3]


def test_a_training_that_resumes_continues_its_run() -> None:
    training = Training(every=2)
    training.run(begin=4)
    assert training.monitor.steps == [4, 6]
    assert training.monitor.resume


def test_other_processes_measure_nothing() -> None:
    training = Training(rank=1)
    training.run()
    assert (training.monitor.steps, training.monitor.finished) == ([], 0)


def test_a_failure_at_the_beginning_stops_the_training() -> None:
    with pytest.raises(InputError, match=r"^no head$"):
        Training(failing={0: InputError("no head")}).run()


@pytest.mark.parametrize(
    "error", [InputError("no room"), CellsFailedError({"a": "b"}), RuntimeError("no room\nat all")]
)
def test_a_later_failure_is_a_warning(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    training = Training(failing={4: error})
    training.run()
    assert training.monitor.steps == [0, 2, 4, 6]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tasklens: warning: step 4 is not measured: ")


def test_what_cannot_be_right_is_refused_before_the_training() -> None:
    cases: list[tuple[Any, dict[str, Any], str]] = [
        ("model", {}, "trainer: is a str, but should be a Trainer of transformers"),
        (Trainer(), {"every": 0}, "every = 0: should be at least 1, or None for each save"),
        (Trainer(None), {}, "the Trainer has no processing_class: should be the tokenizer of"),
        (Trainer(), {"changes": {"measure.k": [9]}}, "split all has 4 prompts, too few for meas"),
        (
            Trainer(),
            {"changes": ["measure.kk=9"]},
            "no setting 'measure.kk'; the nearest",
        ),
    ]
    for trainer, more, line in cases:
        with pytest.raises(InputError, match=re.escape(line)):
            ClusterCallback(trainer, PROMPTS, "run", **more)
    with pytest.raises(InputError, match=r"single value"):
        ClusterCallback(Trainer(), {"text": ["a", "b"], "label": [0, 0]}, "run")


@pytest.mark.parametrize("kind", ["FSDP", "stage 3"])
def test_weights_in_parts_are_refused(kind: str) -> None:
    training = Training()
    if kind == "FSDP":
        training.trainer.is_fsdp_enabled = True
    else:
        plugin = SimpleNamespace(zero_stage=3)
        training.trainer.accelerator.state.deepspeed_plugin = plugin
    with pytest.raises(InputError, match="the weights are spread over processes"):
        training.send("on_train_begin")
