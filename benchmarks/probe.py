"""Time the harvest of a Hugging Face model on tasks-in-words, against a plain script.

Both sides have the same weights and prompts, in fp32. The script asks for `output_hidden_states`
and keeps those at the measured position: (a) one prompt at a time, (b) in padded batches of the
fastest of several sizes.
"""

import argparse
import runpy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from common import ROOT, Report, Result, begin, interleaved, medians, parser
from numpy.typing import NDArray
from transformers import LlamaConfig, LlamaForCausalLM

from tasklens.data.labelled_prompts import LabelledPrompts, PromptSettings, read_prompts
from tasklens.data.token_prompts import Prompts
from tasklens.data.tokenize import tokenize
from tasklens.models.harvest import harvest
from tasklens.models.hf_subject import HuggingFaceSubject

#: The example whose tokenizer is used, of words and punctuation.
EXAMPLE = runpy.run_path(str(ROOT / "examples" / "train_llama.py"))
BATCH_SIZES = (32, 128, 512)
STATES = {"embed": 0, "block1": 1, "block5": 5, "ln_f": -1}


class Script:
    """Harvest as a plain script would write it."""

    def __init__(self, model: Any, prompts: Prompts) -> None:
        self.model, self.prompts = model, prompts

    @torch.inference_mode()
    def one_by_one(self, n: int) -> list[NDArray[Any]]:
        """Return every state of the first n prompts, (layers, D) each."""
        rows = []
        for ids, position in zip(self.prompts.ids[:n], self.prompts.position[:n], strict=True):
            row = torch.from_numpy(ids[: position + 1])[None]
            states = self.model(row, output_hidden_states=True).hidden_states
            rows.append(np.stack([state[0, -1].numpy() for state in states]))
        return rows

    @torch.inference_mode()
    def padded(self, size: int) -> list[NDArray[Any]]:
        """Return every state of all prompts, in batches as they come, (layers, D) each."""
        rows = []
        for start in range(0, len(self.prompts), size):
            ids = torch.from_numpy(self.prompts.ids[start : start + size])
            position = torch.from_numpy(self.prompts.position[start : start + size])
            mask = (torch.arange(ids.shape[1]) <= position[:, None]).long()
            states = self.model(ids, attention_mask=mask, output_hidden_states=True).hidden_states
            row = torch.arange(len(ids))
            rows += list(np.stack([state[row, position].numpy() for state in states], axis=1))
        return rows


def main() -> None:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--widths", type=int, nargs="+", default=[256])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--alone", type=int, default=200, help="prompts of the one-by-one script")
    arguments = options.parse_args()
    report = begin(arguments)
    table = read_prompts(PromptSettings())
    for width in arguments.widths:
        compare(table, width, arguments, report)


def compare(
    table: LabelledPrompts, width: int, arguments: argparse.Namespace, report: Report
) -> None:
    """Add the rows of a Llama of six layers."""
    tokenizer = EXAMPLE["make_tokenizer"](table.text)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=6,
            num_attention_heads=max(1, width // 64),
            max_position_embeddings=256,
        )
    ).eval()
    prompts = tokenize(table, tokenizer).prompts
    subject, script = HuggingFaceSubject(model), Script(model, prompts)
    ours = harvest(subject, prompts).states
    theirs = script.one_by_one(arguments.alone)
    difference = max(
        float(np.abs(ours[name][i] - states[index]).max())
        for name, index in STATES.items()
        for i, states in enumerate(theirs)
    )
    sides: dict[str, Callable[[], object]] = {
        "ours": partial(harvest, subject, prompts),
        "one by one": partial(script.one_by_one, arguments.alone),
        **{f"{n} a batch": partial(script.padded, n) for n in BATCH_SIZES},
    }
    seconds = medians(interleaved(sides, arguments.rounds))
    best = min((name for name in sides if name.endswith("a batch")), key=lambda n: seconds[n])
    for name, n in (("one by one", arguments.alone), (best, len(prompts))):
        rates = len(prompts) / seconds["ours"], n / seconds[name]
        report.add(
            Result(
                what=f"probe: harvest of tasks-in-words, Llama of width {width}",
                against=f"output_hidden_states, {name}",
                ours=rates[0],
                theirs=rates[1],
                unit="prompts/s",
                ratio=rates[0] / rates[1],
                note=f"states differ by {difference:.1e} at most",
            )
        )


if __name__ == "__main__":
    main()
