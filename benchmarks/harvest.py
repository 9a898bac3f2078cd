"""Time the harvest of the input token's states, in fp32 on both sides and from the same weights.

(a) A whole split of instructions with all their inputs. The reference reads a sample of these
instructions, and both sides are counted in instances per second. (b) The measured subsets of a run,
as the run reads them at every checkpoint; few of their instances share an instruction.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from common import Report, Result, begin, interleaved, medians, parser, sized
from numpy.typing import NDArray
from reference import Reader, Sequences, sequences, with_weights_of

from tasklens.data.dataset import MEASURED, Dataset
from tasklens.data.synthetic import make_dataset
from tasklens.data.token_prompts import Prompts, join
from tasklens.models.gpt2 import GPT2, make_model
from tasklens.models.gpt2_subject import GPT2Subject
from tasklens.models.harvest import harvest
from tasklens.models.subject import Harvest
from tasklens.runs.settings import TrainingRunSettings

TARGET = ">= 10"
FULL_SPLIT = "val_instruction"
ATTENTIONS = ("sdpa", "eager")
BATCH_SIZES = (32, 64, 256)


@dataclass(frozen=True)
class HarvestTimes:
    """Seconds and number of instances of each side, and the reference's batch size."""

    ours: float
    theirs: float
    instances: int
    their_instances: int
    reader: str

    @property
    def ratio(self) -> float:
        """Our instances per second over those of the reference."""
        return self.theirs / self.their_instances / (self.ours / self.instances)


class Harvesters:
    """One model's weights on both sides."""

    def __init__(
        self, settings: TrainingRunSettings, dataset: Dataset, model: GPT2 | None = None
    ) -> None:
        self.dataset = dataset
        self.model = model or make_model(dataset, settings.model, seed=settings.seed)
        self.subject = GPT2Subject(self.model)
        self.reader = best_reader(self.model, settings, dataset)

    def time(self, prompts: Prompts, theirs: Sequences, rounds: int) -> HarvestTimes:
        """Time both sides in turn."""
        sides: dict[str, Callable[[], object]] = {
            "ours": partial(harvest, self.subject, prompts),
            "theirs": partial(self.reader.harvest, theirs),
        }
        seconds = medians(interleaved(sides, rounds))
        attention = self.reader.model.config._attn_implementation
        reader = f"{attention} attention, batches of {self.reader.batch_size} by length"
        return HarvestTimes(seconds["ours"], seconds["theirs"], len(prompts), len(theirs), reader)

    def time_subsets(self, rounds: int) -> HarvestTimes:
        """Time one checkpoint of a run: the three measured subsets at once."""
        return self.time(*self.subsets(), rounds)

    def subsets(self) -> tuple[Prompts, Sequences]:
        """Return the measured subsets for either side."""
        parts = [sequences(self.dataset, split) for split in MEASURED]
        together = Sequences(
            torch.cat([part.ids for part in parts]), torch.cat([part.length for part in parts])
        )
        return join([self.dataset.prompts(split) for split in MEASURED]), together


def best_reader(model: GPT2, settings: TrainingRunSettings, dataset: Dataset) -> Reader:
    """Return the fastest reference reader on this machine, by attention and batch size."""
    plain = sequences(dataset, "val_subset")
    some = Sequences(plain.ids[::2], plain.length[::2])
    readers: dict[str, Reader] = {}
    for attention in ATTENTIONS:
        theirs = with_weights_of(model, settings, dataset, attention)
        readers |= {f"{attention}, {n} a batch": Reader(theirs, n) for n in BATCH_SIZES}
    sides = {name: partial(reader.harvest, some) for name, reader in readers.items()}
    seconds = {name: min(values) for name, values in interleaved(sides, 2).items()}
    for name, value in seconds.items():
        print(f"  reference, {name}: {value / len(some) * 1e3:.3g} ms an instance", flush=True)
    return readers[min(seconds, key=lambda name: seconds[name])]


def largest_difference(ours: Harvest, theirs: dict[str, NDArray[Any]]) -> float:
    """Return the largest difference between the states that both have."""
    return max(float(np.abs(ours.states[name] - state).max()) for name, state in theirs.items())


def compare_whole(both: Harvesters, width: int, part: float, rounds: int, report: Report) -> None:
    """Add the row of a whole split, of which the reference reads a part of the instructions."""
    dataset = both.dataset
    instructions = dataset.splits[FULL_SPLIT].instruction
    distinct = np.unique(instructions)
    few = distinct[:: max(1, round(1 / part))]
    index = np.flatnonzero(np.isin(instructions, few))
    prompts, plain = dataset.prompts(FULL_SPLIT), sequences(dataset, FULL_SPLIT)
    sample = Sequences(plain.ids[index], plain.length[index])
    add(
        f"harvest of {FULL_SPLIT}, width {width}",
        both.time(prompts, sample, rounds),
        report,
        f"{len(distinct)} instructions with all inputs, theirs {len(few)} of them",
        largest_difference(
            harvest(both.subject, Prompts(prompts.ids[index], prompts.position[index])),
            both.reader.harvest(sample)[0],
        ),
    )


def compare_subsets(both: Harvesters, width: int, rounds: int, report: Report) -> None:
    """Add the row of the measured subsets."""
    prompts, theirs = both.subsets()
    add(
        f"harvest of the measured subsets, width {width}",
        both.time(prompts, theirs, rounds),
        report,
        "one checkpoint of a run",
        largest_difference(harvest(both.subject, prompts), both.reader.harvest(theirs)[0]),
    )


def add(what: str, times: HarvestTimes, report: Report, note: str, difference: float) -> None:
    """Add a row."""
    report.add(
        Result(
            what=what,
            against=f"GPT2LMHeadModel, {times.reader}",
            ours=times.instances / times.ours,
            theirs=times.their_instances / times.theirs,
            unit="instances/s",
            ratio=times.ratio,
            target=TARGET,
            note=f"{note}; ours {times.ours:.3g} s, theirs {times.theirs:.3g} s; "
            f"states differ by {difference:.1e} at most",
        )
    )


def main() -> None:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--widths", type=int, nargs="+", default=[128])
    options.add_argument("--part", type=float, default=0.1, help="of the split, for the reference")
    options.add_argument("--rounds", type=int, default=3)
    arguments = options.parse_args()
    report = begin(arguments)
    for width in arguments.widths:
        settings = sized(width)
        dataset = make_dataset(settings.tasks, settings.data, seed=settings.seed)
        both = Harvesters(settings, dataset)
        compare_whole(both, width, arguments.part, arguments.rounds, report)
        compare_subsets(both, width, arguments.rounds, report)


if __name__ == "__main__":
    main()
