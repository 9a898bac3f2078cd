"""Compare the instances per second of training, at an equal number of instances per step.

One of our steps takes rows of m inputs each, so the reference's step takes as many plain sequences
as all rows have inputs. A step of the reference has equal micro-batches. Some of these and the
update of the weights are timed; the time of a step is their product, which is printed.
"""

from dataclasses import dataclass
from itertools import islice

from common import Report, Result, begin, interleaved, medians, parser, sized
from reference import MICRO_BATCH, Choice, ReferenceTrainer, best_form

from tasklens.data.dataset import Dataset
from tasklens.data.synthetic import make_dataset
from tasklens.models.gpt2 import make_model
from tasklens.models.training import Trainer
from tasklens.runs.settings import TrainingRunSettings

#: Our steps for each micro-batch of the reference, and the batches whose tokens are counted.
OUR_STEPS, COUNTED = 3, 100


@dataclass(frozen=True)
class StepTimes:
    """Seconds of our step, and of the parts of the reference's.

    Attributes
    ----------
    ours : float
        Seconds of our step.
    instances : int
        Instances of our step.
    micro_batch, update : float
        Seconds of the gradients of `MICRO_BATCH` sequences, and of the optimiser's step.
    rounds : int
        Number of micro-batches that were timed.
    choice : Choice
        The reference's form.
    tokens, their_tokens : float
        Tokens that each side reads per instance, with their padding.
    """

    ours: float
    instances: int
    micro_batch: float
    update: float
    rounds: int
    choice: Choice
    tokens: float
    their_tokens: float

    def theirs(self, instances: int) -> float:
        """Return the seconds of a step of the reference."""
        return instances / MICRO_BATCH * self.micro_batch + self.update

    def arithmetic(self, instances: int) -> str:
        """Return how the seconds of a step of the reference follow from those of its parts."""
        fp32 = f"; in fp32, transformers' default, {self.choice.fp32:.3g} times as long"
        return (
            f"{instances} instances = {instances / MICRO_BATCH:.4g} micro-batches of {MICRO_BATCH} "
            f"at {self.micro_batch:.3g} s, {self.rounds} of them timed, and {self.update:.3g} s "
            f"for the optimiser's step{fp32 if self.choice.form.bf16 else ''}"
        )


def time_steps(
    settings: TrainingRunSettings, dataset: Dataset, rounds: int, choice: Choice | None = None
) -> StepTimes:
    """Time our step and the parts of the reference's in turn.

    Parameters
    ----------
    settings : TrainingRunSettings
    dataset : Dataset
    rounds : int
        Micro-batches of the reference that are timed, with `OUR_STEPS` of our steps each.
    choice : Choice, optional
        The reference's form; by default the fastest on this machine.
    """
    choice = choice or best_form(settings, dataset)
    model = make_model(dataset, settings.model, seed=settings.seed)
    ours = Trainer(model, dataset, settings.train, settings.seed)
    theirs = ReferenceTrainer(settings, dataset, choice.form)
    batches, micro_batches = ours.batches(), theirs.batches(MICRO_BATCH)

    def our_steps() -> None:
        for batch in islice(batches, OUR_STEPS):
            ours.take_step(batch)

    seconds = medians(
        interleaved(
            {
                "ours": our_steps,
                "micro-batch": lambda: theirs.gradients(next(micro_batches)),
                "update": theirs.update,
            },
            rounds,
        )
    )
    counted = list(islice(batches, COUNTED))
    instances = sum(batch.inputs.numel() for batch in counted)
    read = instances + sum(batch.prefix.numel() for batch in counted)
    their_read = sum(theirs.data.batch(next(micro_batches))[0].numel() for _ in range(COUNTED))
    return StepTimes(
        ours=seconds["ours"] / OUR_STEPS,
        instances=counted[0].inputs.numel(),
        micro_batch=seconds["micro-batch"],
        update=seconds["update"],
        rounds=rounds,
        choice=choice,
        tokens=read / instances,
        their_tokens=their_read / (COUNTED * MICRO_BATCH),
    )


def compare(width: int, inputs: int | None, rounds: int, report: Report) -> None:
    """Add the row of one width and one number of inputs per row, by default the preset's."""
    settings = sized(width, **({"train__inputs_per_row": inputs} if inputs else {}))
    dataset = make_dataset(settings.tasks, settings.data, seed=settings.seed)
    times = time_steps(settings, dataset, rounds)
    theirs = times.theirs(times.instances)
    rows = settings.train.instructions_per_step
    report.add(
        Result(
            what=f"training step, width {width}, {rows} x {times.instances // rows} instances",
            against=f"GPT2LMHeadModel, {times.choice.form}",
            ours=times.instances / times.ours,
            theirs=times.instances / theirs,
            unit="instances/s",
            ratio=theirs / times.ours,
            note=f"ours: {times.ours:.3g} s a step; reference: "
            f"{times.arithmetic(times.instances)}; tokens per instance: ours {times.tokens:.3g}, "
            f"theirs {times.their_tokens:.3g}, {times.their_tokens / times.tokens:.3g} times",
        )
    )


def main() -> None:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--widths", type=int, nargs="+", default=[128])
    options.add_argument("--inputs", type=int, nargs="+", help="inputs per row, not the preset's")
    options.add_argument("--rounds", type=int, default=5)
    arguments = options.parse_args()
    report = begin(arguments)
    for width in arguments.widths:
        for inputs in arguments.inputs or [None]:
            compare(width, inputs, arguments.rounds, report)


if __name__ == "__main__":
    main()
