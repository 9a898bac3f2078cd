"""Time edits of hidden states, against plain forward hooks on a model of transformers.

(a) All edits and controls of a `default` network at one position: 10 checkpoints, each a network of
another seed, 7 hidden states, 200 instances, and as targets all tasks but their own. (b) A Llama on
tasks-in-words, with random changes. The script with hooks reads one prompt per edit, one at a time
or in padded batches of the fastest of several sizes. It is given what is to be added; ours computes
centroids, patches and random directions as well. Both sides have the same weights, in fp32.
"""

import argparse
import runpy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from common import ROOT, Report, Result, begin, interleaved, medians, parser, settings_of, timed
from reference import with_weights_of
from transformers import LlamaConfig, LlamaForCausalLM

from tasklens.data.counterfactuals import Counterfactuals
from tasklens.data.dataset import Dataset
from tasklens.data.edited_prompts import EditedPrompts, Floats, Ints
from tasklens.data.labelled_prompts import PromptSettings, read_prompts
from tasklens.data.synthetic import make_dataset
from tasklens.data.synthetic_counterfactuals import FITTED, counterfactuals_of_dataset
from tasklens.data.tokenize import tokenize
from tasklens.interventions.cell import CellStates, intervene, planned_edits
from tasklens.interventions.settings import InterventionSettings
from tasklens.models.gpt2 import GPT2, make_model
from tasklens.models.harvest import harvest
from tasklens.models.open_editor import open_editor

#: 6 edits for each of 9 targets, 1 without a target and 20 random ones: 75 runs per instance.
EDITS = ("shift", "swap", "patch", "patch_span", "patch_rest", "shuffled", "erase", "random")
CHECKPOINTS = 10
#: The example whose tokenizer is used, of words and punctuation.
EXAMPLE = runpy.run_path(str(ROOT / "examples" / "train_llama.py"))
BATCH_SIZES = (32, 128, 512)


@dataclass(frozen=True)
class Sample:
    """Some edits of each hidden state, with random changes, and the answers whose odds are read."""

    prompts: EditedPrompts
    tokens: Ints  # (K, 1)
    edits: dict[str, tuple[Ints, Floats, Ints]]  # by state: rows (M,), changes (M, D), (M, 2)

    def __len__(self) -> int:
        return sum(len(row) for row, _, _ in self.edits.values())

    def first(self, n: int) -> "Sample":
        """Return the first n edits of each state."""
        few = {name: (row[:n], x[:n], c[:n]) for name, (row, x, c) in self.edits.items()}
        return Sample(self.prompts, self.tokens, few)


def make_sample(
    prompts: EditedPrompts, tokens: Ints, names: tuple[str, ...], width: int, n: int
) -> Sample:
    """Draw n edits of each hidden state."""
    rng = np.random.default_rng(0)
    edits = {
        name: (
            rng.integers(len(prompts), size=n),
            rng.normal(size=(n, width)).astype(np.float32),
            rng.integers(len(tokens), size=(n, 2)),
        )
        for name in names
    }
    return Sample(prompts, tokens, edits)


class PlainHooks:
    """Edits as a plain script would write them."""

    def __init__(self, model: Any, blocks: Any) -> None:
        self.model, self.blocks = model, blocks

    @torch.inference_mode()
    def run(self, sample: Sample, size: int) -> Floats:
        """Return the log-likelihoods of two answers to each edit, in batches as they come."""
        likelihood = []
        for name, (row, change, candidates) in sample.edits.items():
            for start in range(0, len(row), size):
                part = slice(start, start + size)
                read = torch.from_numpy(sample.prompts.read[row[part]])
                T = int(read.max()) + 1
                ids = torch.from_numpy(sample.prompts.ids[row[part], :T])
                each = torch.arange(len(ids))
                is_read = torch.arange(T) <= read[:, None]
                mask = None if bool(is_read.all()) else is_read.long()
                with self._changed(name, each, read, torch.from_numpy(change[part])):
                    logits = self.model(torch.where(is_read, ids, 0), attention_mask=mask).logits
                wanted = torch.from_numpy(sample.tokens[candidates[part], 0])
                chance = logits[each, read].log_softmax(dim=-1)
                likelihood.append(chance.gather(1, wanted).numpy())
        return np.concatenate(likelihood)

    def _changed(
        self, name: str, each: torch.Tensor, read: torch.Tensor, change: torch.Tensor
    ) -> Any:
        """Return the hook that adds a change to the state at the last token."""

        def change_input(_: Any, args: Any) -> Any:
            args[0][each, read] += change

        def change_output(_: Any, __: Any, output: Any) -> None:
            (output if torch.is_tensor(output) else output[0])[each, read] += change

        if name == "embed":
            return self.blocks[0].register_forward_pre_hook(change_input)
        return self.blocks[int(name.removeprefix("block")) - 1].register_forward_hook(change_output)


def edit_all(model: GPT2, dataset: Dataset, asked: Counterfactuals) -> int:
    """Run all edits of a checkpoint, and return their number."""
    settings = InterventionSettings()
    editor = open_editor(model, asked.prompts, asked.tokens)
    names = edited_names(editor.names)
    states = editor.states(names)
    donors = open_editor(model, asked.donors, asked.tokens).states(names)
    fit = harvest(model, dataset.prompts(FITTED), names=names).states
    n = 0
    for name in names:
        each = CellStates(states[name], donors[name], fit[name], dataset.task(FITTED))
        planned = planned_edits(name, EDITS, (1.0,), len(asked.tasks), settings)
        arrays = intervene(editor, name, {name: each}, asked, planned, seed=0)
        likelihoods = [x for key, x in arrays.items() if key.endswith("likelihood")]
        n += sum(int(np.isfinite(x).any(axis=-1).sum()) for x in likelihoods)
    return n


def edited_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return `embed` and the blocks."""
    return tuple(name for name in names if name == "embed" or name.startswith("block"))


def compare_default(arguments: argparse.Namespace, report: Report) -> None:
    """Add the rows of a `default` network."""
    settings = settings_of("default")
    dataset = make_dataset(settings.tasks, settings.data, seed=settings.seed)
    asked = counterfactuals_of_dataset(dataset, "val_subset", n=200, seed=settings.seed)
    models = [make_model(dataset, settings.model, seed=seed) for seed in range(CHECKPOINTS)]
    n_edits = edit_all(models[0], dataset, asked)
    names = edited_names(open_editor(models[0], asked.prompts, asked.tokens).names)
    seconds = timed(lambda: [edit_all(model, dataset, asked) for model in models])
    report.add(
        Result(
            what="all edits of a default network",
            against="",
            ours=seconds,
            unit="s",
            target="<= 60",
            note=f"{CHECKPOINTS} checkpoints, {len(names)} hidden states, {len(asked.own)} "
            f"instances, {len(asked.tasks)} tasks: {n_edits:,} runs per checkpoint",
        )
    )
    width = settings.model.n_embd
    sample = make_sample(asked.prompts, asked.tokens, names, width, arguments.edits)
    theirs = with_weights_of(models[0], settings, dataset, "sdpa").eval()
    compare(
        "edits of a default network",
        partial(edit_all, models[0], dataset, asked),
        n_edits,
        PlainHooks(theirs, theirs.transformer.h),
        (models[0], sample),
        arguments,
        report,
        target=">= 10",
    )


def compare_llama(arguments: argparse.Namespace, report: Report) -> None:
    """Add the rows of a Llama of six layers."""
    width = 256
    table = read_prompts(PromptSettings())
    tokenizer = EXAMPLE["make_tokenizer"](table.text)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=6,
            num_attention_heads=width // 64,
            max_position_embeddings=256,
        )
    ).eval()
    read = tokenize(table, tokenizer).prompts
    some = np.linspace(0, len(read) - 1, 50).astype(np.int64)
    last = read.position[some]
    prompts = EditedPrompts(read.ids[some], last, last, last)
    tokens = np.arange(8)[:, None]
    names = ("embed", *(f"block{i}" for i in range(1, 7)))
    sample = make_sample(prompts, tokens, names, width, arguments.edits)
    editor = open_editor(model, prompts, tokens)
    many = make_sample(prompts, tokens, names, width, 20 * len(prompts))

    def ours() -> None:
        for name, edits in many.edits.items():
            editor.answer(name, *edits)

    compare(
        f"edits of a Llama of width {width}",
        ours,
        len(many),
        PlainHooks(model, model.model.layers),
        (model, sample),
        arguments,
        report,
        note=f"; 20 per prompt and state, of {int(last.mean()) + 1} tokens on average",
    )


def compare(
    what: str,
    ours: Callable[[], object],
    n_edits: int,
    plain: PlainHooks,
    sampled: tuple[Any, Sample],
    arguments: argparse.Namespace,
    report: Report,
    target: str = "",
    note: str = "",
) -> None:
    """Add two rows: against hooks one by one, and against the fastest batches."""
    model, sample = sampled
    few = sample.first(max(1, arguments.edits // 8))
    editor = open_editor(model, sample.prompts, sample.tokens)
    ours_few = [editor.answer(name, *edits).likelihood for name, edits in few.edits.items()]
    difference = float(np.abs(np.concatenate(ours_few) - plain.run(few, 1)).max())
    sides: dict[str, Callable[[], object]] = {
        "ours": ours,
        "one by one": partial(plain.run, few, 1),
        **{f"{size} a batch": partial(plain.run, sample, size) for size in BATCH_SIZES},
    }
    seconds = medians(interleaved(sides, arguments.rounds))
    best = min((name for name in sides if name.endswith("a batch")), key=lambda name: seconds[name])
    for name, n in (("one by one", len(few)), (best, len(sample))):
        rates = n_edits / seconds["ours"], n / seconds[name]
        report.add(
            Result(
                what=what,
                against=f"forward hooks, {name}",
                ours=rates[0],
                theirs=rates[1],
                unit="edits/s",
                ratio=rates[0] / rates[1],
                target=target,
                note=f"log-likelihoods differ by {difference:.1e} at most{note}",
            )
        )


def main() -> None:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--edits", type=int, default=512, help="of each state, for the script")
    arguments = options.parse_args()
    report = begin(arguments)
    compare_default(arguments, report)
    compare_llama(arguments, report)


if __name__ == "__main__":
    main()
