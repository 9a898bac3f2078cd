"""Tokenizers in GGUF files give the tokens of the tokenizer that was written, or are refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import tasklens as tl
import tiny_gguf
import tiny_tokenizers
from models.families import config_of, model_of
from tasklens.core.errors import InputError
from tasklens.models.hf_loading import load_subject, load_tokenizer, tokenizer_directory

TEXTS = (
    *tiny_tokenizers.SENTENCES,
    *tiny_tokenizers.ENDS,
    "it's 12345 red\n\n blue  green",
    " red",
    "<|user|>red<s>",
)


def write(path: Path, tokenizer: Any, family: str = "llama", **stated: Any) -> Path:
    model = model_of(config_of(family, vocab_size=len(tokenizer)))
    return tiny_gguf.write_gguf(path / "m.gguf", model, tokenizer=tokenizer, stated=stated)


def assert_same_tokens(got: Any, expected: Any) -> None:
    for text in TEXTS:
        for special in (True, False):
            mine, theirs = (
                each(text, add_special_tokens=special)["input_ids"] for each in (got, expected)
            )
            assert mine == theirs, text


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2"])
@pytest.mark.parametrize("before", ["<s>", ""])
def test_a_byte_level_tokenizer(tmp_path: Path, family: str, before: str) -> None:
    expected = tiny_tokenizers.byte_level(before)
    path = write(tmp_path, expected, family)
    assert tokenizer_directory(path) == tokenizer_directory(tmp_path) == path
    assert_same_tokens(load_subject(path).tokenizer, expected)
    assert_same_tokens(load_tokenizer(tmp_path), expected)


@pytest.mark.parametrize(
    ("family", "scheme"), [("llama", "first"), ("gemma2", "never")], ids=["llama", "gemma2"]
)
@pytest.mark.parametrize("before", ["<s>", ""])
def test_a_tokenizer_of_pieces(tmp_path: Path, family: str, scheme: str, before: str) -> None:
    expected = tiny_tokenizers.sentence_piece(before, scheme=scheme)
    path = write(tmp_path, expected, family, add_space_prefix=scheme == "first")
    assert_same_tokens(load_tokenizer(path), expected)


def test_llama_3_takes_whole_words_and_begins_with_bos_by_default(tmp_path: Path) -> None:
    """Its own tokenizer gives a word that is a token without joining pairs."""
    expected = tiny_tokenizers.byte_level("<s>")
    inner = json.loads(expected.backend_tokenizer.to_str())
    inner["model"]["vocab"]["zqz"] = number = len(inner["model"]["vocab"])
    inner["model"]["ignore_merges"] = True
    expected._tokenizer = type(expected.backend_tokenizer).from_str(json.dumps(inner))
    assert expected("zqz")["input_ids"] == [expected.bos_token_id, number]
    path = write(tmp_path, expected, pre="llama-bpe", add_bos_token=None)
    assert load_tokenizer(path)("zqz")["input_ids"] == [expected.bos_token_id, number]
    path = write(tmp_path, expected, pre="llama-bpe", add_bos_token=False)
    assert load_tokenizer(path)("zqz")["input_ids"] == [number]
    path = write(tmp_path, expected, pre="gpt-2", add_bos_token=False)
    assert len(load_tokenizer(path)("zqz")["input_ids"]) == 3


def test_smollm_splits_off_each_digit(tmp_path: Path) -> None:
    """Its own tokenizer never joins digits, though its pairs may have them."""
    expected = tiny_tokenizers.byte_level("")
    inner = json.loads(expected.backend_tokenizer.to_str())
    for pair in (["1", "2"], ["Ġ", "1"]):
        inner["model"]["vocab"].setdefault("".join(pair), len(inner["model"]["vocab"]))
        inner["model"]["merges"].append(pair)
    expected._tokenizer = type(expected.backend_tokenizer).from_str(json.dumps(inner))
    joined = expected("red 12 a12")["input_ids"]
    assert_same_tokens(load_tokenizer(write(tmp_path, expected, pre="gpt-2")), expected)
    inner["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, inner["pre_tokenizer"]],
    }
    expected._tokenizer = type(expected.backend_tokenizer).from_str(json.dumps(inner))
    assert len(expected("red 12 a12")["input_ids"]) > len(joined)
    tokenizer = load_tokenizer(write(tmp_path, expected, pre="smollm"))
    assert tokenizer("red 12 a12") == expected("red 12 a12")
    assert_same_tokens(tokenizer, expected)


def test_the_files_of_a_tokenizer_in_the_same_directory_count(tmp_path: Path) -> None:
    """They are the model's own; in the parent they are only a remedy."""
    other = tiny_tokenizers.byte_level("")
    (tmp_path / "one").mkdir()
    path = write(tmp_path / "one", tiny_tokenizers.byte_level("<s>"))
    other.save_pretrained(tmp_path)
    assert tokenizer_directory(path) == path
    bare = tiny_gguf.write_gguf(tmp_path / "one" / "bare.gguf", load_subject(path).model)
    assert tokenizer_directory(bare) == tmp_path
    other.save_pretrained(tmp_path / "one")
    assert tokenizer_directory(path) == tmp_path / "one"
    assert_same_tokens(load_subject(path).tokenizer, other)
    assert_same_tokens(load_subject(bare, tokenizer=tmp_path).tokenizer, other)
    (tmp_path / "away").mkdir()
    bare = Path(shutil.move(bare, tmp_path / "away" / "bare.gguf"))
    assert load_subject(bare, tokenizer=path).tokenizer is not None


def test_a_chat_template_is_kept_and_rendered_for_messages_only(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    harm = f"{{{{ cycler.__init__.__globals__.os.mkdir({str(proof)!r}) }}}}"
    path = write(tmp_path, tiny_tokenizers.byte_level(), **{"tokenizer.chat_template": harm})
    subject = load_subject(path)
    assert subject.tokenizer.chat_template == harm
    records = [{"text": f"red {i}", "label": "ab"[i % 2]} for i in range(4)]
    tl.harvest(subject, records, ["embed"])
    subject.tokenizer.chat_template = "{{ messages[0].content }}"
    chats = [{"messages": [{"role": "user", "content": r["text"]}], **r} for r in records]
    of_chats = tl.harvest(subject, tl.read_prompts(chats, text="messages"), ["embed"])
    of_texts = tl.harvest(subject, records, ["embed"])
    assert (of_chats.states["embed"] == of_texts.states["embed"]).all()
    assert not proof.exists()


def test_a_rule_that_is_not_named_is_that_of_gpt2_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = tiny_tokenizers.byte_level()
    for rule in (None, "default"):
        path = write(tmp_path, expected, pre=rule)
        assert_same_tokens(load_tokenizer(path), expected)
        assert "does not name the rule by which its tokenizer splits" in capsys.readouterr().err
    load_tokenizer(write(tmp_path, expected, "gpt2", pre=None))
    assert capsys.readouterr().err == ""


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown rule": ({"pre": "deepseek-llm"}, "splits a text by the rule 'deepseek-llm'"),
    "a space before": ({"add_space_prefix": True}, "adds a space before a text"),
    "an unknown kind": ({"model": "rwkv"}, "cannot be loaded: Cannot build a tokenizer"),
    "no tokens": ({"tokens": None}, "its tokenizer has no list of tokens"),
    "numbers as tokens": ({"tokens": [1, 2]}, "its tokenizer has no list of tokens"),
    "few types": ({"token_type": [1, 1]}, "a list token_type of another length"),
    "no such token": ({"bos_token_id": 10**9}, "bos_token_id is 1000000000, but it has 3"),
    "a text as number": ({"eos_token_id": "x"}, "eos_token_id is x, but it has 3"),
    "a pair of no tokens": ({"merges": ["☃ ☃"]}, "cannot be loaded: "),
    "a long token": ({"tokens": ["x" * 2000]}, "a token of 2,000 characters"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_tokenizer_that_would_be_another_is_refused_with_a_remedy(
    tmp_path: Path, what: str
) -> None:
    stated, why = REFUSED[what]
    path = write(tmp_path, tiny_tokenizers.byte_level(), **stated)
    with pytest.raises(InputError, match=why) as caught:
        load_tokenizer(path)
    remedy = "; name the directory of the model's own with --set subject.tokenizer=DIR"
    assert str(caught.value).endswith(remedy)
    assert "\n" not in str(caught.value)


def test_pieces_without_a_space_before_are_refused(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizers.sentence_piece(scheme="never")
    with pytest.raises(InputError, match="adds no space before a text"):
        load_tokenizer(write(tmp_path, tokenizer, add_space_prefix=False))
