"""Add positions to a run, from the weights that are kept or by reading the prompts again."""

from tasklens.core.errors import InputError
from tasklens.core.progress import progress
from tasklens.core.workers import LOCAL
from tasklens.data.measured_parts import measured_parts
from tasklens.models.devices import check_device
from tasklens.models.gpt2_subject import harvest_measured
from tasklens.runs.estimate import check_space
from tasklens.runs.model_run import ModelRun
from tasklens.runs.run import Run
from tasklens.runs.states_on_disk import state_contents
from tasklens.runs.training_run import TrainingRun


def check_weights(run: TrainingRun) -> None:
    """Raise InputError if a position cannot be added, because weights of a checkpoint are gone.

    Checkpoints that training has not reached yet do not count.
    """
    lacking = [step for step in run.steps if run.lacking(step)]
    kept = run.intervenable_steps if lacking else ()
    gone = [step for step in lacking if step not in kept]
    if gone:
        some = ", ".join(map(str, gone[:5])) + (", ..." if len(gone) > 5 else "")
        raise InputError(
            f"{run.directory.path}: the position {run.lacking(gone[0])[0]} cannot be added, "
            f"because no weights are kept of {len(gone)} of {len(run.steps)} checkpoints "
            f"(steps {some}); to train again with all positions, name another directory with --out"
        )


def add_positions(run: TrainingRun) -> None:
    """Harvest the positions that were not measured while training, from the weights that are kept.

    A position that is there at a checkpoint is not harvested again. InputError as `check_weights`.
    """
    missing = {step: lacking for step in run.steps if (lacking := run.lacking(step))}
    if not missing:
        return
    check_weights(run)
    check_device(run.settings.train.device, "train.device")
    n_bytes = 4 * run.settings.model.n_embd * len(run.state_names)
    n_bytes *= run.settings.data.measured_instances * len(run.splits)
    check_space(
        run.directory.path, n_bytes * sum(map(len, missing.values())), "name fewer positions"
    )
    with progress("positions", len(missing), "checkpoint") as bar:
        for step, positions in missing.items():
            model = run.open_subject(step).to(run.settings.train.device)
            harvested = harvest_measured(model, run.dataset, positions)
            with run.directory.batch():
                for position, harvest in harvested.items():
                    run.directory.write_directory(
                        run.states_at(step, position), state_contents(harvest.states, {})
                    )
            bar.update()


def harvest_positions(run: Run, engine: str = LOCAL) -> None:
    """Harvest the positions of a finished run that were added to its settings, if there are any."""
    run.need(run.states_stage)
    if not any(run.lacking(step) for step in run.steps):
        return
    if isinstance(run, TrainingRun):
        add_positions(run)
    elif isinstance(run, ModelRun):
        from tasklens.runs.stage_states import harvest_models

        for position in run.positions:
            measured_parts(run.rendered_table, position)
        if any(run.is_live(step) for step in run.steps):
            raise InputError(
                f"{run.directory.path}: no position can be added, because the models were measured "
                "while they were trained: name all positions before, or measure the saved "
                "checkpoints with tasklens probe"
            )
        harvest_models(run, engine)
