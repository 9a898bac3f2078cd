"""A probe's directory: its settings, and what its stages have left there."""

import json
from functools import cached_property
from typing import Any

import safetensors.numpy

from tasklens.core.errors import InputError
from tasklens.runs.settings import ModelRunSettings
from tasklens.data.labelled_prompts import LabelledPrompts, read_table
from tasklens.data.token_prompts import Prompts
from tasklens.runs.directory import RunDir
from tasklens.data.instances import Instances
from tasklens.models.checkpoint_series import Checkpoint, find_checkpoints
from tasklens.data.tokenize import Tokenized, instances_of_prompts

#: What is known of a harvested checkpoint: its weights' hash, its tokenizer's, its states.
ABOUT = "about.json"
TOKENS = "tokens.safetensors"
#: What the tokens that were answered or measured are called: {token: text}.
WORDS = "words.json"


class Probe:
    """A probe's directory and settings, and what its stages have in common.

    Parameters
    ----------
    run : RunDir
    settings : ModelRunSettings
    """

    def __init__(self, run: RunDir, settings: ModelRunSettings) -> None:
        self.run, self.settings = run, settings

    def need_measured(self) -> None:
        """Raise InputError where stage measure was not finished."""
        if self.run.mark("measure") is None:
            raise InputError(f"{self.run.path}: nothing is measured; go on with probe --resume")

    @cached_property
    def table(self) -> LabelledPrompts:
        """The labelled prompts that stage data left."""
        return read_table(self.run.read(self.run.prompts))

    @cached_property
    def checkpoints(self) -> list[Checkpoint]:
        """The models, in the order of their steps."""
        return checkpoints_of(self.settings)

    @property
    def steps(self) -> list[int]:
        """The steps that were harvested."""
        mark = self.run.mark("states") or {"checkpoints": []}
        return [checkpoint["step"] for checkpoint in mark["checkpoints"]]

    def tokens(self, step: int) -> Tokenized:
        """Return the prompts as the model of a step reads them."""
        found = safetensors.numpy.load(self.run.read(self.run.states_at(step) / TOKENS))
        begin = found["begin"] if self.settings.position.over == "mean" else None
        prompts = Prompts(found["ids"], found["position"], begin)
        return Tokenized(prompts, found["begin"], found["target"])

    @cached_property
    def instances(self) -> dict[str, Instances]:
        """What is known of each split without any model, as the first model's tokenizer reads."""
        tokens = self.tokens(self.steps[0])
        return {
            split: instances_of_prompts(self.table, tokens, split) for split in self.table.splits
        }

    def states(self, step: int) -> list[str]:
        """Return the names of the states that were harvested at a step."""
        names: list[str] = self.about(step)["states"]
        return names

    def words(self, step: int) -> dict[str, str]:
        """Return what the model of a step calls tokens, by number; a probe of old has none."""
        path = self.run.states_at(step) / WORDS
        return json.loads(self.run.read(path)) if path.exists() else {}

    def about(self, step: int) -> dict[str, Any]:
        """Return what is known of the model of a step."""
        return json.loads(self.run.read(self.run.states_at(step) / ABOUT))  # type: ignore[no-any-return]


def checkpoints_of(settings: ModelRunSettings) -> list[Checkpoint]:
    """Return the models that the settings name, in the order of their steps."""
    said = settings.subject
    return find_checkpoints(said.models, said.revisions, untrained=said.untrained)
