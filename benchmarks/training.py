"""Compare the instances per second of training, at an equal number of instances per step.

One of our steps takes rows of m inputs each, so the reference's step takes as many plain sequences
as all rows have inputs. A step of the reference has equal micro-batches. Some of these and the
update of the weights are timed; the time of a step is their product, which is printed.
"""

from dataclasses import dataclass
from itertools import islice

from common import Report, Result, begin, interleaved, medians, parser, sized
from reference import MICRO_BATCH, Choice, ReferenceTrainer, best_form

from tasklens.data.synthetic import Dataset, make_dataset
from tasklens.models.gpt2 import make_model
from tasklens.models.training import Trainer
from tasklens.runs.settings import TrainingRunSettings

TARGETS = {10: ">= 8", 48: ">= 25"}
#: Our steps for each micro-batch of the reference.
OUR_STEPS = 3


@dataclass(frozen=True)
class StepTimes:
    """Seconds per step and instances of each side, and the arithmetic of the reference's."""

    ours: float
    theirs: float
    instances: int
    their_instances: int
    choice: Choice
    arithmetic: str


def time_steps(
    settings: TrainingRunSettings,
    dataset: Dataset,
    rounds: int,
    *,
    their_instances: int | None = None,
    choice: Choice | None = None,
) -> StepTimes:
    """Time our step and the reference's in turn.

    Parameters
    ----------
    settings : TrainingRunSettings
    dataset : Dataset
    rounds : int
        Micro-batches of the reference that are timed, with `OUR_STEPS` of our steps each.
    their_instances : int, optional
        Instances per step of the reference; by default as many as ours.
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
    instances = next(ours.batches()).inputs.numel()
    their_instances = their_instances or instances
    n_micro = their_instances / MICRO_BATCH
    arithmetic = (
        f"reference: {their_instances} instances = {n_micro:.4g} micro-batches of {MICRO_BATCH} at "
        f"{seconds['micro-batch']:.3g} s, {rounds} of them timed, and {seconds['update']:.3g} s "
        "for the optimiser's step"
    )
    if choice.form.bf16:
        arithmetic += f" (in fp32, transformers' default, {choice.fp32:.3g} times as long)"
    return StepTimes(
        ours=seconds["ours"] / OUR_STEPS,
        theirs=n_micro * seconds["micro-batch"] + seconds["update"],
        instances=instances,
        their_instances=their_instances,
        choice=choice,
        arithmetic=arithmetic,
    )


def compare(width: int, inputs: int, rounds: int, report: Report, choice: Choice | None) -> Choice:
    """Add the row of one width and one number of inputs; return the reference's form."""
    # One input of each instruction is held out of training: the tasks have one more.
    more = inputs + 1
    settings = sized(width, tasks__n_inputs=more, tasks__inputs_per_task=more, data__val_inputs=1)
    dataset = make_dataset(settings.tasks, settings.data, seed=settings.seed)
    print(f"width {width}, {inputs} inputs an instruction", flush=True)
    times = time_steps(settings, dataset, rounds, choice=choice)
    report.add(
        Result(
            what=f"training step, width {width}, {inputs} inputs an instruction",
            against=f"GPT2LMHeadModel, {times.choice.form}",
            ours=times.instances / times.ours,
            theirs=times.instances / times.theirs,
            unit="instances/s",
            ratio=times.theirs / times.ours,
            target=TARGETS.get(inputs, ""),
            note=f"ours: {times.ours:.3g} s a step; {times.arithmetic}",
        )
    )
    return times.choice


def main() -> None:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--widths", type=int, nargs="+", default=[128, 768])
    options.add_argument("--inputs", type=int, nargs="+", default=[10, 48])
    options.add_argument("--rounds", type=int, default=5)
    arguments = options.parse_args()
    report = begin(arguments)
    for width in arguments.widths:
        choice = None  # one for a width: its sequences are of the same lengths
        for inputs in arguments.inputs:
            choice = compare(width, inputs, arguments.rounds, report, choice)


if __name__ == "__main__":
    main()
