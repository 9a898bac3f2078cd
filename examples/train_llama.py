"""Train a small Llama on tasks-in-words with the Trainer of transformers, and save checkpoints.

    python examples/train_llama.py runs/llama
    tasklens probe runs/llama --prompts tasks-in-words --hold-out phrasing --hold-out input

The first command does not train on what the second holds out: both draw it with seed 0. With a
second directory (`python examples/train_llama.py runs/llama runs/watched`), the first command also
measures each checkpoint as it is saved. Then the second command is not needed.
"""

import shutil
import sys
from pathlib import Path

import tokenizers
import torch
import transformers
from tokenizers import models, pre_tokenizers

import tasklens as tl

STEPS, EVERY = 1000, 50


def main(out: Path, watched: Path | None = None, steps: int = STEPS, every: int = EVERY) -> None:
    """Train, and save checkpoint-0, checkpoint-50, ... in a directory; measure them in another."""
    prompts = tl.read_prompts(
        tl.PromptSettings(files=("tasks-in-words",), hold_out=("phrasing", "input")), seed=0
    )
    transformers.set_seed(0)
    transformers.utils.logging.disable_progress_bar()
    tokenizer = make_tokenizer(prompts.text)
    kept = prompts.text[prompts.splits["kept"]]
    rows = [{"input_ids": tokenizer(text + " <end>")["input_ids"]} for text in kept]
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=6,
            num_attention_heads=4,
            max_position_embeddings=64,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    shutil.rmtree(out, ignore_errors=True)
    for files in (model, tokenizer):
        files.save_pretrained(out / "checkpoint-0")
    trainer = transformers.Trainer(
        model,
        transformers.TrainingArguments(
            output_dir=str(out),
            max_steps=steps,
            save_steps=every,
            save_only_model=True,
            per_device_train_batch_size=64,
            learning_rate=1e-3,
            lr_scheduler_type="cosine",
            warmup_steps=50,
            weight_decay=0.1,
            logging_steps=every,
            report_to="none",
            dataloader_pin_memory=False,
            disable_tqdm=True,
            seed=0,
        ),
        data_collator=transformers.DataCollatorForLanguageModeling(tokenizer, mlm=False),
        train_dataset=Rows(rows),
        processing_class=tokenizer,
    )
    if watched is not None:
        trainer.add_callback(tl.ClusterCallback(trainer, prompts, watched))
    trainer.train()


class Rows(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Token rows in the form that the Trainer takes."""

    def __init__(self, rows: list[dict[str, list[int]]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, list[int]]:
        return self.rows[i]


def make_tokenizer(texts: tuple[str, ...]) -> transformers.PreTrainedTokenizerFast:
    """Return a tokenizer of whole words and punctuation."""
    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(tokenizers.Regex(r"[.,:;?]"), "isolated"),
        ]
    )
    known = {word for text in texts for word, _ in split.pre_tokenize_str(text)}
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<end>", "<unk>", *sorted(known)])}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = split
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")


if __name__ == "__main__":
    out, *watched = map(Path, sys.argv[1:])
    main(out, watched[0] if watched else None)
