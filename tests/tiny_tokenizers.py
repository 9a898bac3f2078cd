"""Train small tokenizers of transformers, like those of families of models."""

from collections.abc import Iterable, Sequence
from typing import Any

SENTENCES = (
    "answer: red blue green", "the city of red is blue", "paint it in green as red", "answer: blue",
    "a red house, a blue lamp and a green dog", "red blue green red blue green",
)  # fmt: skip
COLOURS = ("red", "blue", "green")
CHAT = ("<|user|>", "<|assistant|>")
#: Ends of a prompt, and what may stand between it and the output, the likely one first.
ENDS = {
    "answer:": (" ", ""),
    "red is": (" ",),
    "answer: ": ("",),
    "answer:\n": ("",),
    "answer:\n\n": ("",),
    "answer: \n ": ("",),
    "<|assistant|>": ("", " "),
    "<|user|>\nred\n<|assistant|>": ("", " "),
    "<|assistant|>\n": ("",),
    "<|start_header|>assistant<|end_header|>": ("", " "),  # plain characters here
    "<|start_header|>assistant<|end_header|>\n\n": ("",),
    "### answer:\n": ("",),
    "[/INST]": (" ", ""),
    'paint it ("': ("", " "),
    "paint it (": ("", " "),
    'the city is "': ("", " "),
    'the city is "red"': (" ", ""),
    "2+2=": ("", " "),
    "2 + 2 =": (" ", ""),
    "answer :": (" ", ""),
    "the city of red,": (" ", ""),
    "答案：": ("", " "),
    "首都是": ("", " "),
    "คำตอบ": ("", " "),
}


def byte_level(before: str = "<s>", after: str = "", added: Sequence[str] = CHAT) -> Any:
    """Return a tokenizer like GPT-2's or Llama 3's, which adds special tokens around a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<|begin_of_text|>", *added]
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator([*SENTENCES, *(f"\n{word}" for word in COLOURS)] * 5, trainer)
    inner.post_processor = _around(inner, before, after)
    return _fast(inner)


def sentence_piece(before: str = "<s>", after: str = "", scheme: str = "first") -> Any:
    """Return a tokenizer like Llama 2's: a space is ▁, and unknown characters are bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    inner = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    inner.decoder = decoders.Metaspace(prepend_scheme=scheme)
    special = ["<unk>", "<pad>", "<s>", "</s>", *CHAT, *(f"<0x{i:02X}>" for i in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        min_frequency=15,
        special_tokens=special,
        initial_alphabet=[*"0123456789"],
        show_progress=False,
    )
    # A word is a token with a space before it and without, but none with a digit before it.
    digits = [f"{digit}{word}" for digit in range(10) for word in COLOURS]
    inner.train_from_iterator([*" ".join(SENTENCES).split() * 5, *digits * 3], trainer)
    inner.post_processor = _around(inner, before, after)
    return _fast(inner)


def word_level(known: Iterable[str], chat_template: str | None = None) -> Any:
    """Return a tokenizer that reads each word and each run of signs as a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = ["[UNK]", *sorted(set(known))]
    inner = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="[UNK]", chat_template=chat_template
    )


def _around(inner: Any, before: str, after: str) -> Any:
    from tokenizers import processors

    single = f"{before} $A {after}".strip()
    special = [(token, inner.token_to_id(token)) for token in single.split() if token != "$A"]
    return processors.TemplateProcessing(single=single, special_tokens=special)


def _fast(inner: Any) -> Any:
    import transformers

    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, **names)
