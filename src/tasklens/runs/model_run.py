"""A run that measures given models on labelled prompts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import safetensors.numpy

from tasklens.core.errors import InputError
from tasklens.core.files import digest, sha256
from tasklens.core.parquet import parquet_bytes
from tasklens.data.chats import HEADER
from tasklens.data.counterfactuals import Counterfactuals
from tasklens.data.instances import Instances
from tasklens.data.labelled_prompts import LabelledPrompts, read_table, table_of
from tasklens.data.measured_parts import default_position, parse_position
from tasklens.data.names import find_split
from tasklens.data.prompt_counterfactuals import counterfactuals_of_prompts
from tasklens.data.token_prompts import Prompts
from tasklens.data.tokenize import Tokenized, instances_of_prompts
from tasklens.models.checkpoint_series import Checkpoint, find_checkpoints
from tasklens.models.licences import NOT_STATED
from tasklens.report.view import ModelView, TaskOverview, TaskView
from tasklens.runs.directory import RunDir
from tasklens.runs.few_shot import hashes_of_prompts, prompts_of
from tasklens.runs.run import Run
from tasklens.runs.run_arrays import Ints
from tasklens.runs.settings import ModelRunSettings
from tasklens.runs.states_on_disk import ASKED, WHOLE, read_states
from tasklens.runs.step_names import names_of_steps
from tasklens.runs.task_overview import EXAMPLES, same_symbols
from tasklens.scoring.answer_scores import score_first_tokens, score_whole_answers

if TYPE_CHECKING:
    from tasklens.models.hf_subject import HuggingFaceSubject
    from tasklens.runs.opened_model import OpenedModel

#: What is known of a harvested checkpoint: the hashes of its weights and tokenizer, its states.
FACTS = "about.json"
TOKENS = "tokens.safetensors"
#: The texts that the chat template has written of prompts that are messages.
TEXTS = "texts.json"
#: What the tokens that were answered or measured are called: {token: text}.
TOKEN_NAMES = "words.json"


class ModelRun(Run):
    """A run that measures given models on labelled prompts; see `Run`."""

    kind: ClassVar[Literal["probe"]] = "probe"
    states_stage: ClassVar[Literal["states"]] = "states"
    opens_in_workers: ClassVar[bool] = False
    settings: ModelRunSettings
    #: The prompts, if the caller has read them: its model and tokenizer are in memory, too.
    given: LabelledPrompts | None = None
    #: The first model, if it is loaded already.
    opened: "OpenedModel | None" = None

    def __init__(self, directory: RunDir, settings: ModelRunSettings) -> None:
        super().__init__(directory, settings)
        self._instances: dict[str, Mapping[str, Instances]] = {}

    @cached_property
    def table(self) -> LabelledPrompts:
        """The labelled prompts that stage data left."""
        return read_table(self.directory.read(self.directory.prompts))

    @cached_property
    def asked(self) -> LabelledPrompts:
        """The labelled prompts that the settings name, for stage data."""
        return self.given or prompts_of(self.settings, self.checkpoints[0])

    @cached_property
    def checkpoints(self) -> list[Checkpoint]:
        """The models, in the order of their steps."""
        return checkpoints_of(self.settings)

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps of the checkpoints that were harvested, ascending."""
        mark = self.directory.mark("states") or {"checkpoints": []}
        return tuple(checkpoint["step"] for checkpoint in mark["checkpoints"])

    @property
    def step_names(self) -> Mapping[int, str]:
        """The names of the steps; empty if two models or more have training steps."""
        mark = self.directory.mark("states") or {"checkpoints": []}
        return names_of_steps(mark["checkpoints"])

    @cached_property
    def state_names(self) -> tuple[str, ...]:
        """The names of the hidden states that every checkpoint has, from the input up."""
        each: list[list[str]] = [self.facts(step)["states"] for step in self.steps]
        return tuple(name for name in each[-1] if all(name in names for names in each))

    @property
    def positions(self) -> tuple[str, ...]:
        """The names of the measured positions."""
        return self.settings.states.positions or (default_position(self.table),)

    @property
    def instances_by_split(self) -> Mapping[str, Instances]:
        """The facts about the prompts of each split, as the first model's tokenizer reads them."""
        return self.instances_at(self.positions[0])

    def instances_at(self, position: str) -> Mapping[str, Instances]:
        """Return the facts about the prompts of each split as read at a position."""
        if position not in self._instances:
            tokens = self.tokens(self.steps[0], position)
            self._instances[position] = {
                split: instances_of_prompts(self.table, tokens, split)
                for split in self.table.splits
            }
        return self._instances[position]

    @property
    def names(self) -> Mapping[str, Mapping[int, str]]:
        """The names of labels, inputs and outputs by number."""
        return self.names_at(self.positions[0])

    def names_at(self, position: str) -> Mapping[str, Mapping[int, str]]:
        """Return the names of labels, inputs and outputs in `instances_at`."""
        names = {"task": _numbered(self.table.label)}
        if self.table.input is None:
            measured = np.unique(
                np.concatenate([i.input for i in self.instances_at(position).values()])
            )
            called = self.token_names(self.steps[0], measured, position)
            names["input"] = dict(zip(measured.tolist(), called, strict=True))
        else:
            names["input"] = _numbered(self.table.input)
        if self.table.output is not None:
            names["output"] = _numbered(self.table.output)
        return names

    @property
    def unit_names(self) -> tuple[str, ...]:
        """The names of the groups of prompts, such as contexts and inputs; otherwise prompts."""
        return tuple(f"{name}s" for name in self.table.groups) or ("prompts",)

    def texts(self, split: str) -> tuple[str, ...]:
        """Return the text of each prompt of a split."""
        return self.rendered_table.text[self.table.splits[split]]

    @cached_property
    def rendered_table(self) -> LabelledPrompts:
        """The labelled prompts; the text of messages is that which the first model has read."""
        if self.table.messages is None:
            return self.table
        written = json.loads(self.directory.read(self.states_at(self.steps[0]) / TEXTS))
        headers = {HEADER: tuple(written[HEADER])} if written[HEADER] else {}
        return replace(
            self.table,
            text=tuple(written["text"]),
            columns=self.table.columns | headers,
            is_rendered=True,
        )

    def targets(self, step: int) -> Mapping[str, Ints]:
        """Return the first token of each right answer by split, -1 if it is not known.

        Of two tokens that are right it is the one that the model answered, if this is one of them.
        """
        target = self.tokens(step).target  # (N, 2)
        right = {}
        for split, answer in self.answers(step).items():
            both = target[self.table.splits[split]]
            right[split] = np.where(answer == both[:, 1], both[:, 1], both[:, 0])
        return right

    def answer_scores(self, step: int) -> Mapping[str, Mapping[str, float]]:
        """Return how the right answers compare with those under other labels, by split."""
        tokens = self.tokens(step).candidates
        if tokens is None:
            return {}
        states = self.states_at(step)
        scores: dict[str, dict[str, float]] = {split: {} for split in self.table.splits}
        for name, score in ((ASKED, score_first_tokens), (WHOLE, score_whole_answers)):
            if name == WHOLE and self.settings.states.answers != "whole":
                continue
            self.check_states(step, name)
            logs = np.asarray(read_states(states, name))
            for split, rows in self.table.splits.items():
                scores[split] |= score(logs[rows], tokens[rows])
        return scores

    def token_names(self, step: int, tokens: Ints, position: str | None = None) -> list[str]:
        """Return what tokens that were answered or measured at a step are called."""
        path = self.states_at(step, position) / TOKEN_NAMES
        names: dict[str, str] = json.loads(self.directory.read(path))
        return [names.get(str(token), f"token {token}") for token in tokens]

    @property
    def models(self) -> tuple[ModelView, ...]:
        """The model of each step, with what its files state."""
        facts = [self.facts(step) for step in self.steps]
        # Runs of earlier versions have not looked for a licence.
        return tuple(
            ModelView(each["step"], each["name"], each.get("licence", NOT_STATED), each["weights"])
            for each in facts
        )

    @property
    def columns(self) -> Mapping[str, Sequence[Any]]:
        """All columns of the files of prompts."""
        return self.table.columns

    def data_files(self) -> dict[str, bytes]:
        """Read and split the prompts; return them as one file."""
        return {self.directory.prompts.name: parquet_bytes(table_of(self.asked))}

    def sources(self) -> dict[str, str]:
        """Return the SHA-256 of each file of prompts, or of what they are made of."""
        if self.given is not None:
            content = parquet_bytes(table_of(self.given))
            return dict.fromkeys(self.settings.prompts.files, sha256(content))
        return hashes_of_prompts(self.settings, self.checkpoints[0])

    def overview(self) -> TaskOverview:
        """Return the labels, and how many prompts and models there are."""
        table = self.rendered_table
        tasks = []
        for label in sorted(set(table.label)):
            texts = [
                text for text, each in zip(table.text, table.label, strict=True) if each == label
            ]
            distinct = list(dict.fromkeys(texts))
            spread = np.unique(
                np.linspace(0, len(distinct) - 1, min(EXAMPLES, len(distinct))).astype(int)
            )
            examples = tuple(distinct[i] for i in spread)
            tasks.append(TaskView(label, examples=examples, n_examples=len(texts)))
        sizes = {"prompts": len(table), "labels": len(tasks), "models": len(self.steps)}
        counted = {"inputs": table.input, "outputs": table.output}
        counted |= dict(zip(self.unit_names, table.groups.values(), strict=False))
        sizes |= {name: len(set(values)) for name, values in counted.items() if values is not None}
        sizes |= {
            f"prompts of {split}": rows.stop - rows.start for split, rows in table.splits.items()
        }
        return TaskOverview(tuple(tasks), sizes, None, same_symbols(self.instances_by_split))

    # -- interventions ------------------------------------------------------------------------

    def counterfactuals(self, split: str, position: str, n: int) -> Counterfactuals:
        """Return at most n prompts of a split with what is known of their answers by label."""
        split = find_split(split, self.table.splits)
        position = self.position(position)
        if (split, position, n) not in self._counterfactuals:
            prompts = self.tokens(self.steps[0], position).prompts
            begin = prompts.position if prompts.begin is None else prompts.begin
            self._counterfactuals[split, position, n] = counterfactuals_of_prompts(
                self.rendered_table,
                self._tokenizer,
                split,
                position,
                (begin, prompts.position),
                n,
                special_tokens=self.settings.states.special_tokens,
                answers=self.settings.interventions.answers,
                seed=self.settings.seed,
            )
        return self._counterfactuals[split, position, n]

    @cached_property
    def _counterfactuals(self) -> dict[tuple[str, str, int], Counterfactuals]:
        """Results of `counterfactuals`: many texts are tokenized for each."""
        return {}

    @cached_property
    def _tokenizer(self) -> Any:
        """The tokenizer of all models; InputError if it is not the one that read the prompts."""
        from tasklens.runs.opened_model import tokenizer_hash, tokenizer_of

        first, *others = (self.facts(step) for step in self.steps)
        for facts in others:
            if facts["tokenizer"] != first["tokenizer"]:
                raise InputError(
                    f"{facts['name']} has another tokenizer than {first['name']}: should be the "
                    "same for all models whose states are edited; make a run of each"
                )
        saved = next(iter(self.intervenable_steps), self.steps[0])
        tokenizer = tokenizer_of(self.settings, self._checkpoint(saved))
        if tokenizer_hash(tokenizer) != first["tokenizer"]:
            raise InputError(
                f"{first['name']}: the tokenizer has changed since {self.directory.path} was made; "
                "restore it, or make the run again with another --out"
            )
        return tokenizer

    @property
    def intervenable_steps(self) -> tuple[int, ...]:
        """The steps of the checkpoints that were harvested, ascending, as far as they are saved."""
        live = {step for step in self.steps if self.is_live(step)}
        saved = live and {checkpoint.step for checkpoint in self._saved}
        return tuple(step for step in self.steps if step not in live or step in saved)

    def open_subject(self, step: int) -> "HuggingFaceSubject":
        """Load the model of a checkpoint; InputError if it is gone or not the one measured."""
        from tasklens.runs.opened_model import load_model

        checkpoint = self._checkpoint(self._step(step))
        subject = load_model(self.settings, checkpoint)
        if subject.weights_hash() != self.facts(step)["weights"]:
            raise InputError(
                f"{checkpoint.name}: its weights are not those that {self.directory.path} has "
                "measured; restore them, or make the run again with another --out"
            )
        return subject

    @property
    def _saved(self) -> list[Checkpoint]:
        """The models that can be opened; of a run beside a training none may be saved."""
        live = any(map(self.is_live, self.steps))
        try:
            return self.checkpoints
        except InputError:
            if not live:
                raise
            return []

    def is_live(self, step: int) -> bool:
        """Return whether a model was measured while it was trained; it may not be saved."""
        return bool(self.facts(step).get("live", False))

    def _checkpoint(self, step: int) -> Checkpoint:
        """Return the model of a step; InputError if it is gone."""
        for checkpoint in self._saved:
            if checkpoint.step == step:
                return checkpoint
        raise InputError(
            f"{self.facts(step)['name']}: the model of step {step} is gone; restore it, or make "
            "the run again with another --out"
        )

    def same_model(self, first: int, second: int) -> bool:
        """Return whether the models of two steps have the same weights and tokenizer."""
        keys = ("weights", "tokenizer")
        return all(self.facts(first)[key] == self.facts(second)[key] for key in keys)

    # -- what stage states left ---------------------------------------------------------------

    def tokens(self, step: int, position: str | None = None) -> Tokenized:
        """Return the prompts as the model of a step reads them, up to a position."""
        content = self.directory.read(self.states_at(step, position) / TOKENS)
        arrays = safetensors.numpy.load(content)
        name = self.positions[0] if position is None else position
        _, is_mean = parse_position(self.table, name)
        begin = arrays["begin"] if is_mean else None
        prompts = Prompts(
            arrays["ids"],
            arrays["position"],
            begin,
            position_name=name,
            answer_at=arrays["answer_at"],
        )
        return Tokenized(prompts, arrays["begin"], arrays["target"], arrays.get("candidates"))

    def _hash_at(self, directory: Path) -> str:
        """Return a hash of what the hidden states depend on; they may be in shards or not."""
        return digest(
            [self.directory.noted(directory / name) for name in (FACTS, TOKENS, "inputs")]
        )

    def facts(self, step: int) -> dict[str, Any]:
        """Return the recorded facts about the model of a step."""
        return json.loads(self.directory.read(self.directory.states_at(step) / FACTS))  # type: ignore[no-any-return]


def checkpoints_of(settings: ModelRunSettings) -> list[Checkpoint]:
    """Return the models that the settings name, in the order of their steps."""
    subject = settings.subject
    base = Path(subject.base) if subject.base else None
    return find_checkpoints(
        subject.models,
        subject.revisions,
        untrained=subject.untrained,
        base=base,
        stages=subject.names,
    )


def _numbered(values: tuple[str, ...]) -> dict[int, str]:
    """Return what the numbers of `tasklens.data.labelled_prompts.codes` stand for."""
    return dict(enumerate(sorted(set(values))))
