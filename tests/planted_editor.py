"""A model whose answer is computed from its hidden states by a rule that tests choose."""

from collections.abc import Callable, Sequence

import numpy as np

from tasklens.data.counterfactuals import Counterfactuals, Fold
from tasklens.data.edited_prompts import Edited, EditedPrompts, Floats, Ints
from tasklens.interventions.cell import CellStates

#: States (n, D) and inputs (n,) to answers (n,), as indices.
Rule = Callable[[Floats, Ints], Ints]


class PlantedEditor:
    """N prompts whose states are given, answered by a rule; the first state is the one edited."""

    how = "by a rule"

    def __init__(
        self,
        states: dict[str, Floats],
        inputs: Ints,
        n_answers: int,
        rule: Rule,
        *,
        among_candidates: bool = False,
    ) -> None:
        self.names = tuple(states)
        #: Whether the answer is the best candidate, as for answers of several tokens.
        self._among_candidates = among_candidates
        self._states, self._inputs, self._n, self._rule = states, inputs, n_answers, rule

    def states(self, names: Sequence[str]) -> dict[str, Floats]:
        """Return the states."""
        return {name: self._states[name] for name in names}

    def answer(self, name: str, row: Ints, change: Floats, candidates: Ints) -> Edited:
        """Apply the rule to the changed states; the answer has likelihood 0.9."""
        answer = self._rule(self._states[name][row] + change, self._inputs[row])
        others = np.log(0.1 / (self._n - 1))
        likelihood = np.where(candidates == answer[:, None], np.log(0.9), others)
        if self._among_candidates:
            best: Ints = np.argmax(likelihood, axis=1)
            answer = candidates[np.arange(len(answer)), best]
        return Edited(answer, np.where(candidates < 0, np.nan, likelihood).astype(np.float32))


class World:
    """T tasks with F inputs each: task t answers input x with (x + t * step) modulo n_answers."""

    def __init__(self, seed: int, n_tasks: int = 4, n_inputs: int = 12, width: int = 16) -> None:
        rng = np.random.default_rng(seed)
        self.n_tasks, self.n_inputs, self.n_answers = n_tasks, n_inputs, n_tasks * n_inputs
        self.mean = 4 * rng.standard_normal((n_tasks, width))
        self.code = rng.standard_normal((n_inputs, width))
        self.rng = rng

    def output(self, task: Ints, inputs: Ints) -> Ints:
        """Return the right answers."""
        return task * self.n_inputs + inputs

    def states(self, task: Ints, inputs: Ints) -> Floats:
        """Return states: the centroid of the task, what the input adds, and noise."""
        noise = 0.1 * self.rng.standard_normal((len(task), self.mean.shape[1]))
        return (self.mean[task] + 0.3 * self.code[inputs] + noise).astype(np.float32)

    def nearest(self, states: Floats, inputs: Ints) -> Ints:
        """Answer for the task of the nearest centroid: the clusters are used."""
        distance = np.linalg.norm(states[:, None] - self.mean, axis=2)
        return self.output(distance.argmin(axis=1), inputs)

    def asked(self, n: int, split: str = "val_subset") -> tuple[Counterfactuals, Ints, Ints]:
        """Return n prompts with donors, their inputs, and the donors' inputs."""
        task = self.rng.integers(self.n_tasks, size=n)
        inputs = self.rng.integers(self.n_inputs, size=n)
        every = np.arange(self.n_tasks)
        row = np.arange(n, dtype=np.int64)
        prompts = EditedPrompts(inputs[:, None], *[np.zeros(n, dtype=np.int64)] * 3)
        pairs = np.array([(t, x) for t in every for x in range(self.n_inputs)])
        donors = EditedPrompts(pairs[:, 1:], *[np.zeros(len(pairs), dtype=np.int64)] * 3)
        donor = self.output(every[None], inputs[:, None])  # they are numbered as the answers are
        donor[row, task] = -1
        answers = self.output(every[None], inputs[:, None])
        tokens = np.arange(self.n_answers)[:, None]
        fold = Fold(np.arange(60 * self.n_tasks), row)
        unit = row // 2
        return (
            Counterfactuals(
                split,
                "input",
                prompts,
                row,
                every,
                task,
                task,
                unit,
                answers,
                tokens,
                donors,
                donor,
                (fold,),
                np.zeros_like(every),
            ),
            inputs,
            pairs[:, 1],
        )

    def cell_states(self, asked: Counterfactuals, inputs: Ints, donor_inputs: Ints) -> CellStates:
        """Return the states of the prompts, of the donors, and of 60 instances per task."""
        donor_task = np.repeat(np.arange(self.n_tasks), self.n_inputs)
        fit_task = np.repeat(np.arange(self.n_tasks), 60)
        fit_inputs = self.rng.integers(self.n_inputs, size=len(fit_task))
        return CellStates(
            self.states(asked.own, inputs),
            self.states(donor_task, donor_inputs),
            self.states(fit_task, fit_inputs),
            fit_task,
        )
