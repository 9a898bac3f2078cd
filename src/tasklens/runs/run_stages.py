"""The stages of a run directory: what each depends on, and whether it is finished."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

from tasklens.core.errors import InputError
from tasklens.core.files import digest
from tasklens.core.settings import Stage
from tasklens.runs.directory import RunDir
from tasklens.runs.manifest import NO_MANIFEST
from tasklens.runs.settings import RunSettings


class Stages(ABC):
    """A run directory with its settings, and the state of its stages; see `Run`."""

    #: What messages, pages and commands call this kind of run.
    kind: ClassVar[Literal["run", "probe"]]
    #: The stage that leaves the hidden states.
    states_stage: ClassVar[Literal["train", "states"]]
    #: Whether the model of a checkpoint is opened so fast that each worker may do it.
    opens_in_workers: ClassVar[bool]
    settings: RunSettings

    def __init__(self, directory: RunDir, settings: RunSettings) -> None:
        self.directory, self.settings = directory, settings

    @property
    def name(self) -> str:
        """The name of the run: that of its directory."""
        return self.directory.name

    @property
    @abstractmethod
    def steps(self) -> tuple[int, ...]:
        """The steps of the checkpoints, ascending."""

    @abstractmethod
    def states_hash(self, step: int, positions: Sequence[str] = ()) -> str:
        """Return a hash of the hidden states at a step, by default of all positions."""

    def save_settings(self) -> None:
        """Write the settings into the directory."""
        self.directory.write(self.directory.config, self.settings.toml().encode())

    def inputs(self, stage: Stage, sources: object = ()) -> str:
        """Return the hash of what the result of a stage depends on.

        That is the seed, its settings, the stage before, and `sources` (as JSON).
        """
        if stage == "measure" and len(self.settings.positions) > 1:  # they may be added
            sources = [sources, [self.states_hash(step) for step in self.steps]]
        before = self.before[stage]
        hashes = [] if before is None else [self.directory.output_hash(before)]
        affecting = self.settings.affecting(stage)
        affecting.pop("states.positions", None)  # may be added: each has its own hash
        return digest([self.settings.seed, affecting, hashes, sources])

    @property
    def before(self) -> dict[Stage, Stage | None]:
        """The stages of the run, each with the stage that it reads from."""
        states = self.states_stage
        stages: dict[Stage, Stage | None] = {"data": None, states: "data", "measure": states}
        return stages | {"interventions": states, "plot": "measure", "report": states}

    def need(self, stage: Stage) -> None:
        """Raise InputError if a stage, or one before it, was not finished under these settings."""
        before, directory = self.before[stage], self.directory
        if before is not None:
            self.need(before)
        mark = directory.mark(stage)
        if mark is None:
            raise InputError(self.unfinished(stage))
        if mark["inputs"] != self.inputs(stage, mark.get("sources", ())):
            raise InputError(
                f"{directory.path}: stage {stage} was finished under other settings than those in "
                f"{directory.config.name}; restore the file, or name a new directory with --out"
            )

    def unfinished(self, stage: Stage) -> str:
        """Return a line on a stage that is not finished: how far the run is, and what ends it."""
        directory = self.directory
        if directory.data.exists() and not directory.manifest.exists():
            return f"{directory.manifest} is gone; {NO_MANIFEST}"
        return (
            f"{directory.path}: stage {stage} is not finished; run it first: {self.command(stage)}"
        )

    def check_files(self, stage: Stage) -> None:
        """Raise InputError if a file of a stage, or of one before it, is damaged.

        A file that is gone is not, because hidden states may be removed once they are measured.
        """
        before, mark = self.before[stage], self.directory.mark(stage)
        if before is not None:
            self.check_files(before)
        paths = [self.directory.path / key for key in (mark or {"files": ()})["files"]]
        for path in (self.directory.config, *paths):
            if path.exists() or path.is_symlink():
                self.directory.check(path)

    def command(self, stage: Stage) -> str:
        """Return the command that runs a stage; some have none of their own."""
        if stage in ("data", "states"):
            return f"tasklens {self.kind} ... --out {self.directory.path} --resume"
        name = "intervene" if stage == "interventions" else stage
        return f"tasklens {name} {self.directory.path}"
