"""The settings of a run, composed of those of the stages: one TOML file, a table per stage."""

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from tasklens.clustering.cluster import ClusterSettings
from tasklens.core.errors import InputError
from tasklens.core.files import read_small_file
from tasklens.core.messages import short
from tasklens.core.settings import Affects, SettingsBase, check_device_name
from tasklens.core.workers import default_workers
from tasklens.data.instances import JUDGED, UNSEEN_KINDS
from tasklens.data.labelled_prompts import PromptSettings
from tasklens.data.names import find_split, state_name
from tasklens.data.synthetic import DataSettings, TrainingStateSettings
from tasklens.data.tasks import TaskSettings
from tasklens.data.tokenize import ModelStateSettings
from tasklens.interventions.settings import InterventionSettings
from tasklens.models.checkpoints import CheckpointSettings
from tasklens.models.gpt2 import ModelSettings
from tasklens.models.training import TrainSettings
from tasklens.report.figure_settings import FigureSettings
from tasklens.report.view import ReportSettings
from tasklens.scoring.score_cells import MeasureSettings

PRESETS = ("smoke", "default", "distributions", "paper")
#: Checkpoints of a run, each of which has files of its own.
MOST_CHECKPOINTS = 100_000
#: The columns of the instances of a training run.
COLUMNS = ("length", "input", "output")
#: From so many cores on, a quarter of them measures while the others train.
MANY_CORES = 8


class SubjectSettings(SettingsBase, affects=Affects("states", replicate=True)):
    """The models, and how they are run."""

    models: tuple[str, ...] = ()
    """Directories of models, of checkpoint-N or of our runs, GGUF files, or names on the hub."""
    names: Annotated[tuple[str, ...], Affects("states")] = ()
    """Names of the models if these are stages of one model, in their order, such as base and sft;
    empty: a single model, or a series."""
    revisions: tuple[str, ...] = ()
    """Revisions of a name on the hub, each a checkpoint; its name has the step, as step1000 has."""
    untrained: bool = False
    """Measure a network of the same configuration with fresh weights, too, as step 0."""
    tokenizer: str = ""
    """Directory of the tokenizer; empty: the model's own, the one in the directory above it, or
    that of the base model."""
    base: str = ""
    """Directory of the base model of LoRA adapters; empty: the one that each adapter names."""
    states: Annotated[tuple[str, ...], Field(min_length=1)] = ("all",)
    """Names of the states that are harvested, such as embed, block6 or ln_f; all: every one but
    attnN and mlpN, which are what the branches of block N add. attn, mlp and block: those of all
    blocks."""
    device: Annotated[str, Affects("states", rounding=True)] = "cpu"
    """Where the models run: cpu, cuda or cuda:N; auto: spread over all GPUs that are there, and
    over the memory and the disk where these do not hold it (device_map="auto" of accelerate)."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """What the models compute in. States are kept in float32 whatever stands here."""
    max_tokens: Annotated[int, Field(ge=0, lt=2**31), Affects("states", rounding=True)] = 0
    """Tokens in a forward pass, which decide the last bits of the states; 0: 2,048 on a CPU and
    65,536 on a GPU, or what the free memory holds. Halved if the memory does not hold them."""
    trust_remote_code: bool = False
    """Run code that comes with a model."""

    @field_validator("device")
    @classmethod
    def _check_device(cls, device: str) -> str:
        """Check the name of the device, which may also be auto."""
        return device if device == "auto" else check_device_name(device, "auto, ")

    @field_validator("states", mode="before")
    @classmethod
    def _named(cls, states: Any) -> Any:
        """Return the names of hidden states that may be written in another way, e.g. "layer 5"."""
        if isinstance(states, list | tuple):
            return tuple(state_name(s) if isinstance(s, str) else s for s in states)
        return states

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Check the names of the states."""
        for name in self.states:
            if not re.fullmatch(r"all|wte|embed|(block|attn|mlp)([1-9]\d*)?|ln_f", name):
                raise ValueError(
                    f"states: no hidden state {name!r}; should be all, wte, embed, attn1, mlp1, "
                    "block1, ..., ln_f, attn, mlp or block"
                )
        for i, name in enumerate(self.names):
            if not re.fullmatch(r"(?!untrained$|[0-9]+$)[\w.+-]{1,40}", name):
                raise ValueError(
                    f"names: {short(name)}: should be a word of letters, digits and . _ + -, such "
                    "as sft; no number, and not untrained"
                )
            if name in self.names[:i]:
                raise ValueError(f"names: {name} is given twice; give each stage another name")
        if self.names and len(self.names) != len(self.models):
            raise ValueError(
                f"names: {len(self.names)} names for {len(self.models)} models: should be one for "
                "each"
            )
        if self.names and self.revisions:
            raise ValueError("revisions: stages with names take ORG/NAME@REVISION as the model")
        return self


class RunSettings(SettingsBase):
    """Settings that both kinds of run have."""

    removed: ClassVar = {"clusters.device": "t-SNE runs on the CPU; remove the line"}

    seed: Annotated[int, Field(ge=0, lt=2**63), Affects("data", replicate=True)] = 0
    """Root seed, from which every random choice of the run derives."""
    workers: Annotated[int, Field(ge=0, lt=2**31), Affects("nothing")] = 0
    """Processes that measure; 0: one per core; 1: only this one. No result depends on it."""
    measure: MeasureSettings = MeasureSettings()
    """What is done with the hidden states, and into how many clusters they go."""
    clusters: ClusterSettings = ClusterSettings()
    """How the hidden states are clustered."""
    interventions: InterventionSettings = InterventionSettings()
    """How many hidden states are edited, to see whether the model uses the clusters."""
    figure: FigureSettings = FigureSettings()
    """What the figure shows."""
    report: ReportSettings = ReportSettings()
    """What the report shows of the measured instances."""

    @model_validator(mode="after")
    def _check_figure(self) -> Self:
        if self.figure.space == "tsne" and self.clusters.tsne == "none":
            raise ValueError("figure.space = 'tsne': should be 'raw', since clusters.tsne = 'none'")
        if self.positions:
            self.check_figure(self.positions)
        return self

    def check_figure(self, positions: Sequence[str]) -> None:
        """Raise InputError if the figure's position is not one of those that are measured."""
        position = self.figure.position
        if position and position not in positions:
            raise InputError(
                f"figure.position = {short(position)}: should be one of states.positions = "
                f"{list(positions)}"
            )

    @property
    def positions(self) -> tuple[str, ...]:
        """The positions that the settings name; empty: the default one of the prompts."""
        states: Any = dict(self)["states"]  # of which each kind of run has its own class
        return states.positions  # type: ignore[no-any-return]

    def with_positions(self, positions: Sequence[str]) -> Self:
        """Return the settings with other measured positions."""
        states: SettingsBase = dict(self)["states"]
        return self.changed(states=states.changed(positions=tuple(positions)))

    def check_size(self, split: str, n: int) -> None:
        """Raise InputError if a split of n instances is too small for the numbers of clusters."""
        if max(self.measure.k, default=0) > n:
            raise InputError(
                f"split {split} has {n} prompts, too few for measure.k = {list(self.measure.k)}"
            )


class TrainingRunSettings(RunSettings):
    """All settings of a training run, which draws its data and trains its model.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.TrainingRunSettings(seed=3, train=tl.TrainSettings(steps=100, warmup_steps=10)).seed
    3
    """

    removed: ClassVar = {
        **RunSettings.removed,
        "fsdp": "torchrun trains a copy of the model in each process (DDP); remove the line",
    }

    tasks: TaskSettings = TaskSettings()
    """The tasks and their instructions."""
    data: DataSettings = DataSettings()
    """How the instances are split, and which are measured."""
    model: ModelSettings = ModelSettings()
    """The size and the initialisation of GPT-2."""
    train: TrainSettings = TrainSettings()
    """The optimiser and its schedule."""
    checkpoints: CheckpointSettings = CheckpointSettings()
    """When a checkpoint is taken and what is kept of it."""
    states: TrainingStateSettings = TrainingStateSettings()
    """Where the hidden states are measured."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        instances = self.data.measured_instances
        if max(self.measure.k, default=0) > instances:
            raise ValueError(
                f"measure.k = {list(self.measure.k)} is more clusters than the "
                f"data.measured_instances = {instances}"
            )
        for key in ("residualize", "cross"):
            for name in getattr(self.measure, key):
                if name not in COLUMNS:
                    raise ValueError(
                        f"measure.{key}: the data of a training run have no column {short(name)}: "
                        f"should be one of {', '.join(COLUMNS)}"
                    )
                if name == "output" and self.tasks.unseen_tasks and not self.tasks.file:
                    raise ValueError(
                        f"measure.{key}: instances of tasks.unseen_tasks ="
                        f" {self.tasks.unseen_tasks} have no output; leave out one of them"
                    )
        self._check_figure_splits()
        steps, every = self.train.steps, self.checkpoints.every
        if (n := steps // every) > MOST_CHECKPOINTS:
            raise ValueError(
                f"checkpoints.every = {every}, train.steps = {steps}: these are {n} checkpoints: "
                f"should be at most {MOST_CHECKPOINTS}"
            )
        return self

    def _check_figure_splits(self) -> None:
        """Raise ValueError if the figure shows a split that is not measured."""
        unseen = UNSEEN_KINDS if self.tasks.file else self.tasks.unseen_kinds
        for split in self.figure.splits:
            try:
                find_split(split, (*JUDGED, *unseen))
            except InputError as error:
                raise ValueError(f"figure.splits: {error}") from error

    @property
    def cores_training(self) -> int:
        """CPU threads that train."""
        cores = default_workers()
        if self.train.device != "cpu":
            return self.train.threads or 1
        return self.train.threads or (cores if cores < MANY_CORES else cores - cores // 4)


class ModelRunSettings(RunSettings):
    """All settings of a model run, which measures given models on given prompts.

    Examples
    --------
    >>> import tasklens as tl
    >>> settings = tl.ModelRunSettings(prompts=tl.PromptSettings(label="task"))
    >>> settings.prompts.files
    ('tasks-in-words',)
    """

    removed: ClassVar = {
        **RunSettings.removed,
        "position.at": 'name positions in states.positions, e.g. ["input", "instruction"]',
        "position.over": "a position with _mean after its name is the mean over the part, e.g. "
        'states.positions = ["instruction_mean"]',
        "position.max_length": "it is states.max_length",
        "position.special_tokens": "it is states.special_tokens",
    }

    interventions: InterventionSettings = InterventionSettings(checkpoints=0)
    """How many hidden states are edited, to see whether the model uses the clusters."""
    subject: SubjectSettings = SubjectSettings()
    """The models, and how they are run."""
    prompts: PromptSettings = PromptSettings()
    """The labelled prompts, and how they are split."""
    states: ModelStateSettings = ModelStateSettings()
    """Which tokens of a prompt are measured."""


def load_settings(
    source: Path | str, changes: Iterable[str] | Mapping[str, Any] = ()
) -> TrainingRunSettings:
    """Load the settings of a training run from a preset or a TOML file, with changes.

    Parameters
    ----------
    source : str or path
        A preset (``smoke``, ``default``, ``distributions``, ``paper``), or the path of a TOML file.
    changes : mapping, or sequence of str, optional
        Values by key, such as ``{"train.steps": 100}``, or lines ``"train.steps=100"``.

    Returns
    -------
    TrainingRunSettings

    Raises
    ------
    InputError
        For an unknown key (naming the nearest known one), a value out of range, a file that is
        missing or is not TOML.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.load_settings("smoke", {"train.steps": 20, "seed": 7}).train.steps
    20
    """
    source = str(source)
    if source in PRESETS:
        content = resources.files("tasklens").joinpath(f"runs/presets/{source}.toml").read_bytes()
    elif source.endswith(".toml"):
        content = read_small_file(Path(source))
    else:
        raise InputError(
            f"{short(source)} is neither a preset ({', '.join(PRESETS)}) nor a .toml file"
        )
    name = "" if source in PRESETS else source
    return TrainingRunSettings.from_toml(content, name, changes)
