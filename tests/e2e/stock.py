"""Make models and labelled prompts for the tests of model runs, and record what these read."""

import csv
import io
import json
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasklens.data.token_prompts import Prompts
from tasklens.models.harvest import harvest
from tasklens.models.hf_loading import load_subject
from tasklens.models.hf_subject import HuggingFaceSubject

Record = dict[str, Any]

QUICK = ("clusters.tsne=none", "clusters.n_init=1", "clusters.cluster_seeds=1", "workers=1")
#: Steps of the checkpoints, and the hidden states of each.
STEPS = (100, 200)
STATES = ("embed", "block1", "block2", "ln_f")
CONTEXT = 32

INPUTS = ("sea", "sun", "ox", "elk")
INSTRUCTIONS = {
    "plural": ("many of", "more than one of", "a few of"),
    "past": ("it was once", "they did", "long ago it was once"),
    "capital": ("its city is", "the seat", "where the town is of"),
    "colour": ("a hue of", "paint it as", "the shade"),
}
LABELS = tuple(INSTRUCTIONS)
OUTPUTS = tuple(f"{word}{label[0]}" for word in INPUTS for label in LABELS)
SPECIAL = ("[UNK]", "<s>")
VOCABULARY = (
    *SPECIAL,
    *sorted({word for texts in INSTRUCTIONS.values() for text in texts for word in text.split()}),
    *INPUTS,
    *OUTPUTS,
)


def records() -> list[Record]:
    """Return 12 prompts for each of 4 labels: an instruction, an input and an output."""
    return [
        {
            "text": f"{instruction} {word} {word}{label[0]}",
            "label": label,
            "input": word,
            "output": f"{word}{label[0]}",
            "instruction": instruction,
            "phrasing": f"p{i}",
            "verb": [instruction.rindex(" ") + 1, len(instruction)],
        }
        for label, instructions in INSTRUCTIONS.items()
        for i, instruction in enumerate(instructions)
        for word in INPUTS
    ]


def tokens_of(record: Record) -> list[int]:
    """Return a prompt's tokens up to the input: <s>, then one token per word."""
    tokens = f"<s> {record['instruction']} {record['input']}".split()
    return [VOCABULARY.index(token) for token in tokens]


def prompts_of(rows: list[Record]) -> Prompts:
    """Return the prompts with the input as the measured token."""
    lists = [tokens_of(record) for record in rows]
    position = np.array([len(ids) - 1 for ids in lists])
    ids = np.zeros((len(rows), max(map(len, lists))), dtype=np.int64)
    for i, row in enumerate(lists):
        ids[i, : len(row)] = row
    return Prompts(ids, position)


def write_prompts(path: Path, rows: list[Record]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def csv_of(rows: list[Record]) -> bytes:
    """Return prompts as a CSV file, which has no column of spans."""
    file = io.StringIO()
    writer = csv.DictWriter(
        file, dict.fromkeys(name for row in rows for name in row if name != "verb")
    )
    writer.writeheader()
    for row in rows:
        writer.writerow({name: value for name, value in row.items() if name != "verb"})
    return file.getvalue().encode()


def word_level_tokenizer(vocabulary: tuple[str, ...] = VOCABULARY) -> Any:
    import tokenizers
    import transformers

    numbers = {word: i for i, word in enumerate(vocabulary)}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(numbers, unk_token="[UNK]"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    plain.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", numbers["<s>"])]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, unk_token="[UNK]", bos_token="<s>"
    )


def another_tokenizer() -> Any:
    """Return a tokenizer that numbers the words in the opposite order."""
    return word_level_tokenizer((*SPECIAL, *VOCABULARY[: len(SPECIAL) - 1 : -1]))


def save_model(
    path: Path,
    seed: int,
    *,
    tokenizer: Any = None,
    vocabulary: int = 0,
    blocks: int = 2,
    width: int = 16,
) -> Path:
    """Save a random tiny Llama, drawn with a seed."""
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=vocabulary or len(VOCABULARY),
        hidden_size=width,
        num_hidden_layers=blocks,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=32,
        max_position_embeddings=CONTEXT,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.LlamaForCausalLM(config)
    model.save_pretrained(path)
    if tokenizer is not False:
        (tokenizer or word_level_tokenizer()).save_pretrained(path)
    return path


class Stock:
    """Two checkpoints, and prompts with labels, which tests must not change."""

    def __init__(self, path: Path) -> None:
        self.models = path / "models"
        self.checkpoints = {
            step: save_model(self.models / f"checkpoint-{step}", seed=step) for step in STEPS
        }
        self.rows = records()
        # Half of the outputs are what the last checkpoint answers, if that is a word.
        answer = harvest(load_subject(self.checkpoints[200]), prompts_of(self.rows), ()).answer
        for i in range(0, len(self.rows), 2):
            if answer[i] >= len(SPECIAL):
                self.rows[i]["output"] = VOCABULARY[answer[i]]
        for row in self.rows:
            row["text"] = f"{row['instruction']} {row['input']} {row['output']}"
        self.prompts = write_prompts(path / "prompts.jsonl", self.rows)

    def command(self, *more: str | Path, models: str | Path = "") -> tuple[str | Path, ...]:
        """Return a command, with quick settings unless ``more`` has others."""
        given = {str(word).partition("=")[0] for word in more}
        kept = [item for item in QUICK if item.partition("=")[0] not in given]
        quick = [word for item in kept for word in ("--set", item)]
        prompts = () if "--prompts" in more else ("--prompts", self.prompts)
        return ("probe", models or self.models, *prompts, *quick, *more)


@contextmanager
def no_network() -> Iterator[list[Any]]:
    """Refuse every connection; yield the list of the addresses that were asked for."""
    asked: list[Any] = []

    def refuse(*arguments: object, **_: object) -> Any:
        asked.append(arguments)
        raise OSError("no network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield asked


#: A checkpoint's name, and the tokens of a prompt that it reads.
Read = tuple[str, tuple[int, ...]]


@dataclass
class Reading:
    """Prompts that the networks were run on, and the number of batches."""

    prompts: Counter[Read] = field(default_factory=Counter)
    n_batches: int = 0

    @property
    def models(self) -> set[str]:
        """Names of the checkpoints."""
        return {model for model, _ in self.prompts}


@contextmanager
def reading(stop_after: float = float("inf")) -> Iterator[Reading]:
    """Count what each checkpoint reads, and interrupt after some number of batches."""
    read = Reading()
    real = HuggingFaceSubject.batches

    def counted(
        self: HuggingFaceSubject, prompts: Prompts, names: Any, done: Any = None
    ) -> Iterator[Any]:
        model = Path(self.model.name_or_path).name
        for batch in real(self, prompts, names, done):
            if read.n_batches >= stop_after:
                raise KeyboardInterrupt
            read.n_batches += 1
            for i in batch.indices:
                tokens = prompts.ids[i, : prompts.last[i] + 1]
                read.prompts[model, tuple(tokens.tolist())] += 1
            yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HuggingFaceSubject, "batches", counted)
        yield read


def once(rows: list[Record], *steps: int) -> Counter[Read]:
    """Return what `reading` counts if each checkpoint reads each prompt once."""
    return Counter((f"checkpoint-{step}", tuple(tokens_of(row))) for step in steps for row in rows)


def step_of(path: Path, step: int, kind: str = "states") -> Path:
    return path / kind / f"step-{step:08d}"
