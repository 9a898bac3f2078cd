"""`tasklens probe`: models of anybody's on prompts of anybody's, through the command line."""

import errno
import functools
import json
import os
import re
import shutil
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from e2e.conftest import (
    Command,
    Finished,
    Result,
    assert_refused,
    assert_same,
    changes,
    contents,
)
from tasklens.data.token_prompts import Prompts
from tasklens.models.hf_loading import load_subject
from tasklens.models.hf_subject import HuggingFaceSubject
from tasklens.models.subject import harvest
from tasklens.runs.settings import TrainingRunSettings, read_settings

Ints = npt.NDArray[np.int64]
Record = dict[str, Any]

QUICK = ("clusters.tsne=none", "clusters.n_init=1", "clusters.cluster_seeds=1", "workers=1")
NAMES = ("embed", "block1", "block2", "ln_f")
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
WORDS = (
    *SPECIAL,
    *sorted({word for its in INSTRUCTIONS.values() for one in its for word in one.split()}),
    *INPUTS,
    *OUTPUTS,
)


def records() -> list[Record]:
    """Return 4 labels' 12 prompts each: an instruction, an input and an output."""
    rows = []
    for label, instructions in INSTRUCTIONS.items():
        for i, instruction in enumerate(instructions):
            for word in INPUTS:
                output = f"{word}{label[0]}"
                begin = instruction.rindex(" ") + 1
                rows.append(
                    {
                        "text": f"{instruction} {word} {output}",
                        "label": label,
                        "input": word,
                        "output": output,
                        "instruction": instruction,
                        "phrasing": f"p{i}",
                        "verb": [begin, len(instruction)],
                        "nth": 1 + i,
                    }
                )
    return rows


def tokens_of(record: Record) -> list[int]:
    """Return a prompt's tokens up to its input: each word is one, and <s> stands before them."""
    words = f"<s> {record['instruction']} {record['input']}".split()
    return [WORDS.index(word) for word in words]


def prompts_of(rows: list[Record], shift: int = 0) -> Prompts:
    """Return the prompts with the token that stands so far before the input as the measured one."""
    lists = [tokens_of(record) for record in rows]
    position = np.array([len(ids) - 1 - shift for ids in lists])
    ids = np.zeros((len(rows), max(map(len, lists)) - shift), dtype=np.int64)
    for i, row in enumerate(lists):
        ids[i, : position[i] + 1] = row[: position[i] + 1]
    return Prompts(ids, position)


def write_prompts(path: Path, rows: list[Record]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def word_level_tokenizer(words: tuple[str, ...] = WORDS) -> Any:
    import tokenizers
    import transformers

    numbers = {word: i for i, word in enumerate(words)}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(numbers, unk_token="[UNK]"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    plain.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", numbers["<s>"])]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, unk_token="[UNK]", bos_token="<s>"
    )


def save_model(path: Path, seed: int, *, tokenizer: Any = None, vocabulary: int = 0) -> Path:
    """Save a random tiny Llama; another seed is another model."""
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=vocabulary or len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
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
    """What the tests start from: two checkpoints, and prompts with labels. Not to be changed."""

    def __init__(self, path: Path) -> None:
        self.models = path / "models"
        self.checkpoints = {
            step: save_model(self.models / f"checkpoint-{step}", seed=step) for step in (100, 200)
        }
        self.rows = records()
        # Half of the outputs are what the last checkpoint answers, where that is a word.
        answer = harvest(load_subject(self.checkpoints[200]), prompts_of(self.rows), ()).answer
        for i in range(0, len(self.rows), 2):
            if answer[i] >= len(SPECIAL):
                self.rows[i]["output"] = WORDS[answer[i]]
        for row in self.rows:
            row["text"] = f"{row['instruction']} {row['input']} {row['output']}"
        self.prompts = write_prompts(path / "prompts.jsonl", self.rows)

    def words(self, *more: str | Path, models: str | Path = "") -> tuple[str | Path, ...]:
        """Return the words of the command, with quick settings unless it has others."""
        said = [word for item in QUICK for word in ("--set", item)]
        prompts = () if "--prompts" in more else ("--prompts", self.prompts)
        return ("probe", models or self.models, *prompts, *said, *more)


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    return Stock(tmp_path_factory.mktemp("stock"))


@contextmanager
def no_network() -> Iterator[list[Any]]:
    """Refuse every connection; gives whom the network was asked for."""
    asked: list[Any] = []

    def refuse(*arguments: object, **_: object) -> Any:
        asked.append(arguments)
        raise OSError("no network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield asked


@dataclass(frozen=True)
class Probed(Finished):
    """A finished probe, and whom it asked on the network."""

    asked: list[Any] = field(default_factory=list)


@pytest.fixture(scope="session")
def probed(command: Command, stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> Probed:
    """A finished probe of both checkpoints. Not to be changed."""
    path = tmp_path_factory.mktemp("first") / "probe"
    with no_network() as asked:
        result = command(*stock.words("--out", path))
    assert result.status == 0, result.err
    return Probed(path, result, asked)


@pytest.fixture
def copy(probed: Probed, tmp_path: Path) -> Path:
    """A copy of the finished probe, of the same name, for the test to change."""
    return Path(shutil.copytree(probed.path, tmp_path / "copied" / probed.path.name))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Draw nothing, which takes longest; gives the scores and the settings of each first figure.

    What is drawn is held to the same bytes by the tests that do without this.
    """
    from tasklens.runs import probing

    drawn: list[Any] = []
    monkeypatch.setattr(probing, "figure1", lambda *what: drawn.append(what))
    monkeypatch.setattr(probing, "figure2", lambda *_: None)
    monkeypatch.setattr(probing, "render", lambda *_: b"")
    return drawn


#: A checkpoint's name, and the tokens of a prompt that it reads.
Read = tuple[str, tuple[int, ...]]


@dataclass
class Reading:
    """What the networks were run on, and how often."""

    prompts: Counter[Read] = field(default_factory=Counter)
    n_batches: int = 0

    @property
    def models(self) -> set[str]:
        """Names of the checkpoints."""
        return {model for model, _ in self.prompts}


@contextmanager
def reading(stop_after: float = float("inf")) -> Iterator[Reading]:
    """Count what each checkpoint reads; Ctrl-C after so many batches."""
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
                tokens = prompts.ids[i, : prompts.position[i] + 1]
                read.prompts[model, tuple(tokens.tolist())] += 1
            yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HuggingFaceSubject, "batches", counted)
        yield read


def once(rows: list[Record], *steps: int) -> Counter[Read]:
    """Return what `reading` counts where each checkpoint reads each prompt once."""
    return Counter((f"checkpoint-{step}", tuple(tokens_of(row))) for step in steps for row in rows)


def files(path: Path) -> list[str]:
    """Return the files of a directory, but for those that hold times and the lock."""
    left = ("manifest.json", "report.html", ".lock")
    found = (file for file in path.rglob("*") if file.is_file() and file.name not in left)
    return sorted(file.relative_to(path).as_posix() for file in found)


def step_of(path: Path, step: int, kind: str = "states") -> Path:
    return path / kind / f"step-{step:08d}"


def rows_of(path: Path, **wanted: object) -> list[Record]:
    """Return the rows of a probe's scores that have the wanted values."""
    rows: list[Record] = pq.read_table(path / "scores.parquet").to_pylist()
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def without(text: str, *beginnings: str) -> str:
    lines = text.splitlines()
    return "\n".join(line for line in lines if not line.startswith(beginnings))


@pytest.fixture(scope="module")
def home(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A measured run of our own, with several prompts of each task. Not to be changed."""
    path = tmp_path_factory.mktemp("home") / "run"
    settings = changes(
        train__steps=4,
        train__warmup_steps=1,
        checkpoints__every=2,
        data__measured_instances=30,
        data__val_instruction_fraction=0.25,
        tasks__variants_per_task=30,
    )
    result = command("data", "smoke", *settings, "--out", path)
    for stage in ("train", "measure"):
        assert result.status == 0, result.err
        result = command(stage, path)
    assert result.status == 0, result.err
    return path


# --- One probe ---


def test_a_probe_ends_with_the_table_the_findings_and_the_figure(
    probed: Probed, stock: Stock
) -> None:
    lines = probed.result.out.splitlines()
    assert lines[0] == (
        "ARI against the task at step 200: mean (min to max over seeds), then the mean at step 100"
    )
    assert lines[1].split() == ["layer", "space", "all"]
    controls = [f"control:{what}" for what in ("length", "symbols", "input")]
    assert [line.split()[0] for line in lines[2:9]] == [*NAMES, *controls]
    for line in lines[2:9]:
        layer, _, *numbers = line.split()
        steps = (200, 100) if layer in NAMES else (None,)
        scores = [rows_of(probed.path, layer=layer, step=s, metric="ari") for s in steps]
        assert numbers == [f"{row['value']:.2f}" for (row,) in scores]
    right = knows(stock, 200)
    assert 1 / 4 < sum(right) / len(right) < 1
    assert lines[9] == f"accuracy at step 200: all {sum(right) / len(right):.3f}"
    assert lines[10] == lines[-3] == ""
    found = lines[11:-3]
    assert len(found) == 9
    assert all(re.match(r"(holds|fails|undecided) +\S.*: ", line) for line in found[:-1])
    assert found[-1].startswith("8 findings: ")
    assert lines[-2:] == [
        str(probed.path / "report.html"),
        str(probed.path / "figures" / "figure1.png"),
    ]


@torch.inference_mode()
def knows(stock: Stock, step: int) -> list[bool]:
    """Say which prompts' outputs are what a checkpoint goes on with, run on each alone."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(stock.checkpoints[step])
    answers = [int(model(torch.tensor([tokens_of(r)])).logits[0, -1].argmax()) for r in stock.rows]
    return [WORDS[i] == row["output"] for i, row in zip(answers, stock.rows, strict=True)]


def test_a_probe_shows_on_its_way_what_is_measured_and_no_more(
    probed: Probed, stock: Stock
) -> None:
    first, *shown = probed.result.err.splitlines()
    assert first == "tasklens: measured is what stands in [[ ]]:"
    n = len(stock.rows)
    for line, row in zip(shown, (stock.rows[i] for i in (0, (n - 1) // 2, n - 1)), strict=True):
        assert line == (
            f"  {row['label']}: <s> {row['instruction']} [[{row['input']}]]  -> {row['output']}"
        )


OF_STATES = ("about.json", "tokens.safetensors", "words.json", "inputs")


def test_a_probe_leaves_these_files(probed: Probed) -> None:
    of_states = (*NAMES, "answer")
    expected = {
        *("config.toml", "scores.csv", "scores.parquet", "verdict.json", "data/prompts.parquet"),
        "frames.safetensors",
        *(f"figures/figure{n}.{suffix}" for n in (1, 2) for suffix in ("png", "pdf")),
    }
    for step in (100, 200):
        within = step_of(Path(), step).as_posix()
        expected |= {f"{within}/{name}.npy" for name in of_states}
        expected |= {f"{within}/{name}" for name in OF_STATES}
        within = step_of(Path(), step, "measured").as_posix()
        measured = ("clusters.safetensors", "scores.parquet", "inputs")
        expected |= {f"{within}/{name}" for name in measured}
    assert set(files(probed.path)) == expected
    assert (probed.path / "figures/figure1.png").read_bytes().startswith(b"\x89PNG")
    noted = json.loads((probed.path / "manifest.json").read_text())
    assert set(noted["files"]) == {*expected, "report.html"}
    assert set(noted["stages"]) == {"data", "states", "measure", "plot", "frames"}
    assert noted["stages"]["states"]["warnings"] == []


def test_nothing_was_asked_of_the_network(probed: Probed) -> None:
    assert probed.asked == []


def test_states_on_the_disk_are_those_in_memory(probed: Probed, stock: Stock) -> None:
    prompts = prompts_of(stock.rows)
    for step, checkpoint in stock.checkpoints.items():
        expected = harvest(load_subject(checkpoint), prompts)
        assert tuple(expected.states) == NAMES
        directory = step_of(probed.path, step)
        for name, states in expected.states.items():
            kept = np.load(directory / f"{name}.npy", mmap_mode="r")
            assert kept.dtype == np.float32
            assert np.array_equal(kept, states), (step, name)
        assert np.array_equal(np.load(directory / "answer.npy"), expected.answer)


def test_prompts_and_scores_are_tables_that_others_read(probed: Probed, stock: Stock) -> None:
    prompts = pq.read_table(probed.path / "data/prompts.parquet").to_pylist()
    for i, (kept, row) in enumerate(zip(prompts, stock.rows, strict=True)):
        assert {key: kept[key] for key in ("text", "label", "input", "output")} == {
            key: row[key] for key in ("text", "label", "input", "output")
        }
        assert json.loads(kept["columns"]) == row
        assert (kept["split"], kept["where"]) == ("all", f"{stock.prompts} line {i + 1}")
    table = pq.read_table(probed.path / "scores.parquet")
    as_text = pyarrow.csv.read_csv(
        probed.path / "scores.csv",
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=table.schema, strings_can_be_null=False
        ),
    )
    assert as_text.equals(table)
    assert set(table["run"].to_pylist()) == {"probe"}


def test_scores_are_those_of_the_clusters_that_were_kept(probed: Probed, stock: Stock) -> None:
    """ARI, AMI and the silhouette as scikit-learn has them."""
    from sklearn import metrics

    labels = [row["label"] for row in stock.rows]
    for step in stock.checkpoints:
        file = step_of(probed.path, step, "measured") / "clusters.safetensors"
        clusters = safetensors.numpy.load_file(file)
        for name in NAMES:
            x = np.load(step_of(probed.path, step) / f"{name}.npy")
            (found,) = clusters[f"all/{name}/raw/labels"]
            assert 1 < len(np.unique(found)) <= len(LABELS)
            expected = {
                "ari": metrics.adjusted_rand_score(labels, found),
                "ami": metrics.adjusted_mutual_info_score(labels, found),
                "silhouette": metrics.silhouette_score(x.astype(np.float64), found),
            }
            for metric, value in expected.items():
                (row,) = rows_of(probed.path, step=step, layer=name, metric=metric)
                assert row["value"] == pytest.approx(value, abs=1e-9)
                assert row["k"] == len(LABELS)


def test_other_commands_go_on_with_it_and_do_not_read_the_models_again(
    probed: Probed,
    copy: Path,
    command: Command,
    undrawn: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr("tasklens.runs.harvesting.load_subject", refuse)
    table, _, _ = probed.result.out.partition("\n\n")
    assert command("show", copy).out == f"{table}\n"
    verified = command("verify", copy)
    assert (verified.status, verified.err) == (1, "")
    assert_same(copy, probed.path)  # the verdict among them
    drawn = command("plot", copy, "--set", "figure.metric=ami")
    assert drawn == Result(0, f"{copy / 'figures/figure1.png'}\n", "")
    ((_, settings),) = undrawn
    assert settings.metric == "ami"
    assert contents(copy, "figures").keys() == contents(probed.path, "figures").keys()
    assert_same(copy, probed.path, "data", "states", "measured", "scores.csv")
    measured = command("measure", copy, "--set", "measure.center=true")
    assert measured == Result(0, f"{copy / 'scores.csv'}\n", "")
    assert_same(copy, probed.path, "data", "states")
    assert contents(copy, "measured") != contents(probed.path, "measured")
    for row in rows_of(probed.path, metric="ari"):  # KMeans does not mind where zero is
        close = {**row, "value": pytest.approx(row["value"], abs=1e-9)}
        assert len(rows_of(copy, **close)) == 1, row
    assert "center = true" in (copy / "config.toml").read_text()
    for stage in ("measure", "plot"):
        other = command(stage, copy, "--set", "subject.dtype=bfloat16")
        assert_refused(other, "--set subject.dtype=bfloat16: only ", "can change here")


def test_the_same_command_elsewhere_makes_the_same_bytes(
    probed: Probed,
    stock: Stock,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tasklens.report.style import render

    def drawn(figure: Any, suffix: Any) -> bytes:
        """Leave out the PDF, which takes longest and is drawn from what the PNG is drawn from."""
        return render(figure, suffix) if suffix == "png" else b""

    monkeypatch.setattr("tasklens.runs.probing.render", drawn)
    path = tmp_path / "elsewhere" / probed.path.name
    result = command(*stock.words("--out", path))
    assert result.status == 0, result.err
    assert result.err == probed.result.err
    assert without(result.out, str(path)) == without(probed.result.out, str(probed.path))
    assert_same(path, probed.path)


def test_a_directory_that_holds_it_is_gone_on_with_where_it_is_said_alone(
    probed: Probed, copy: Path, stock: Stock, command: Command
) -> None:
    assert_refused(command(*stock.words("--out", copy)), f"{copy} already holds", "--resume")
    other = command(*stock.words("--states", "embed", "--out", copy, "--resume"))
    assert_refused(other, f"{copy} holds another run (its subject.states differs)", "--out")
    assert_same(copy, probed.path)
    made = [f for f in copy.rglob("*") if f.is_file() and f.parent != copy]
    before = {file: file.stat().st_mtime_ns for file in made}
    assert len(before) > 20
    with reading() as read:
        result = command(*stock.words("--out", copy, "--resume"))
    assert (result.status, result.err) == (0, "")
    assert read.n_batches == 0
    assert without(result.out, str(copy)) == without(probed.result.out, str(probed.path))
    assert {file: file.stat().st_mtime_ns for file in made} == before
    assert_same(copy, probed.path)


def test_a_run_and_a_probe_do_not_share_a_directory(
    probed: Probed, copy: Path, stock: Stock, home: Path, command: Command, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(home, tmp_path / "run"))
    for more in ([], ["--resume"]):
        probe_there = command(*stock.words("--out", run, *more))
        assert_refused(probe_there, f"{run} holds another run (its kind differs)", "--out")
        run_there = command("run", "smoke", "--out", copy, *more)
        assert_refused(run_there, f"{copy} holds another run (its kind differs)", "--out")
    assert_same(run, home)
    assert_same(copy, probed.path)


def test_probes_that_differ_in_more_than_their_seed_are_not_judged_together(
    probed: Probed, copy: Path, command: Command, tmp_path: Path
) -> None:
    again = copy.rename(copy.with_name("again"))
    out = ("--out", tmp_path / "verdict.json")
    assert_refused(command("verify", probed.path, again, *out), "seed 0")
    config = again / "config.toml"
    text = config.read_text()
    assert text.count("\nseed = 0\n") == text.count('over = "last"') == 1
    config.write_text(
        text.replace("seed = 0", "seed = 1").replace('over = "last"', 'over = "mean"')
    )
    assert_refused(command("verify", probed.path, again, *out), "(its position.over differs)")
    assert not (tmp_path / "verdict.json").exists()


# --- Interrupted ---

SMALL = ("--set", "subject.max_tokens=40")
#: TrainingRunSettings under which prompts are read one by one, though they begin alike.
PLAINLY = (*SMALL, "--set", "position.over=mean")


def long_rows() -> list[Record]:
    """Return prompts that begin alike for most of their length, too many tokens for one batch."""
    rows = records()
    for i, row in enumerate(rows):
        more = " ".join(WORDS[len(SPECIAL) + (i // len(INPUTS) + j) % 20] for j in range(20))
        row["instruction"] = f"{more} {row['instruction']}"
        row["text"] = f"{row['instruction']} {row['input']} {row['output']}"
    return rows


@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.usefixtures("undrawn")
def test_interrupted_while_reading_it_ends_in_the_same_bytes(
    stock: Stock, command: Command, tmp_path: Path, alike: bool
) -> None:
    rows = long_rows() if alike else stock.rows
    file = write_prompts(tmp_path / "mine.jsonl", rows)
    asked = ("--prompts", file, "--states", "embed,block2", *(SMALL if alike else PLAINLY))
    whole, path = tmp_path / "whole" / "probe", tmp_path / "broken" / "probe"
    with reading() as uninterrupted:
        assert command(*stock.words(*asked, "--out", whole)).status == 0
    assert uninterrupted.prompts == once(rows, 100, 200)
    of_each = uninterrupted.n_batches // 2
    assert of_each > 2
    words = stock.words(*asked, "--out", path)
    together: Counter[Read] = Counter()
    # before the first checkpoint's last batch, before anything more is read, and in the second
    for more, n_batches in (((), of_each - 1), (("--resume",), 0), (("--resume",), 2)):
        with reading(stop_after=n_batches) as read:
            result = command(*words, *more)
        assert result.status == 130
        assert result.out == ""
        assert result.err.endswith("tasklens: interrupted; go on with --resume\n")
        assert "Traceback" not in result.err
        assert read.n_batches == n_batches
        together += read.prompts
        assert not (path / "scores.parquet").exists()
    assert read.models == {"checkpoint-100", "checkpoint-200"}
    with reading() as read:
        result = command(*words, "--resume")
    assert result.status == 0, result.err
    assert read.models == {"checkpoint-200"}
    assert together + read.prompts == once(rows, 100, 200), "nothing is read twice"
    assert_same(path, whole)


@pytest.mark.usefixtures("undrawn")
def test_what_was_read_of_a_model_that_changed_since_is_not_gone_on_with(
    stock: Stock, command: Command, tmp_path: Path
) -> None:
    models, path = tmp_path / "models", tmp_path / "probe"
    save_model(models / "checkpoint-100", seed=100)
    words = stock.words(*PLAINLY, "--out", path, models=models)
    with reading(stop_after=3):
        assert command(*words).status == 130
    save_model(models / "checkpoint-100", seed=7)
    with reading() as read:
        assert command(*words, "--resume").status == 0
    assert read.prompts == once(stock.rows, 100)
    expected = harvest(load_subject(models / "checkpoint-100"), prompts_of(stock.rows)).states
    for name in NAMES:
        kept = np.load(step_of(path, 100) / f"{name}.npy")
        np.testing.assert_allclose(kept, expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("undrawn")
def test_a_series_that_grew_is_read_where_it_is_new(
    copy: Path, stock: Stock, command: Command
) -> None:
    models = Path(shutil.copytree(stock.models, copy.parent / "models"))
    path = copy.parent / "grows"
    words = stock.words("--states", "embed,block1", "--out", path, models=models)
    assert command(*words).status == 0
    save_model(models / "checkpoint-300", seed=300)
    save_model(models / "checkpoint-200", seed=201)
    with reading() as read:
        result = command(*words, "--resume")
    assert result.status == 0, result.err
    assert read.models == {"checkpoint-200", "checkpoint-300"}
    assert "at step 300" in result.out
    assert {row["step"] for row in rows_of(path)} == {None, 100, 200, 300}
    for step in (100, 200, 300):
        subject = load_subject(models / f"checkpoint-{step}")
        expected = harvest(subject, prompts_of(stock.rows), ["block1"]).states["block1"]
        assert np.array_equal(np.load(step_of(path, step) / "block1.npy"), expected)


@pytest.mark.usefixtures("undrawn")
def test_a_file_of_prompts_that_went_or_changed(
    copy: Path, probed: Probed, stock: Stock, command: Command, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.jsonl"
    path = tmp_path / "probe"
    shutil.copy(stock.prompts, mine)
    words = stock.words("--prompts", mine, "--states", "embed,block1", "--out", path)
    assert command(*words).status == 0
    before = contents(path)
    write_prompts(mine, stock.rows[::-1])
    changed = command(*words, "--resume")
    assert_refused(changed, f"{path} holds another probe: {mine} changed since", "--out")
    assert contents(path) == before
    mine.unlink()
    assert_refused(command(*words, "--resume"), f"{mine} cannot be read: No such file")
    assert contents(path) == before
    assert command("measure", path).status == 0, "which needs no more than the directory"


# --- Our own run as anybody's model ---


@pytest.mark.usefixtures("undrawn")
def test_our_own_run_scores_as_a_stranger_as_it_did_at_home(
    home: Path, command: Command, tmp_path: Path
) -> None:
    path = tmp_path / "stranger"
    clusters = read_settings(home / "config.toml", TrainingRunSettings).model_dump()["clusters"]
    said = [w for key, value in clusters.items() for w in ("--set", f"clusters.{key}={value}")]
    splits = ("train_subset", "val_subset", "val_instruction_subset")
    prompts = [w for s in splits for w in ("--prompts", home / "data" / f"{s}.parquet")]
    result = command("probe", home, *prompts, *said, "--set", "workers=1", "--out", path)
    assert result.status == 0, result.err

    def by_place(run: Path) -> dict[tuple[object, ...], float]:
        rows = [row for row in rows_of(run) if row["split"] in splits]
        keys = [key for key in rows[0] if key not in ("run", "value")]
        found = {tuple(row[key] for key in keys): float(row["value"]) for row in rows}
        assert len(found) == len(rows)
        return found

    mine, theirs = by_place(home), by_place(path)
    assert {place[-1] for place in theirs.keys() - mine.keys()} == {"silhouette"}
    assert mine.keys() <= theirs.keys()
    assert {place[1] for place in mine} == {None, 0, 1, 2, 4}
    assert {place[3] for place in mine} >= {"wte", "embed", "block1", "ln_f", "model"}
    exactly = {place for place in mine if place[1] is None or place[3] == "model"}
    assert len(exactly) > 3 * 4
    for place, value in mine.items():
        if place in exactly:
            assert theirs[place] == value, place
        else:
            assert theirs[place] == pytest.approx(value, abs=1e-4, rel=1e-4), place


# --- Series ---


@pytest.mark.usefixtures("undrawn")
def test_what_is_odd_in_a_series_is_said_and_noted(
    stock: Stock, command: Command, tmp_path: Path
) -> None:
    models, path = tmp_path / "models", tmp_path / "probe"
    other = word_level_tokenizer((*SPECIAL, *WORDS[: len(SPECIAL) - 1 : -1]))
    for step, seed in ((1, 1), (2, 2), (3, 1), (5, 5)):
        save_model(models / f"checkpoint-{step}", seed, tokenizer=other if step == 5 else None)
    result = command(*stock.words("--states", "embed", "--out", path, models=models))
    assert result.status == 0, result.err
    name = f"{models}/checkpoint-"
    expected = [
        f"{name}3 has the same weights as {name}1",
        f"{name}5 has another tokenizer than {name}3",
        "steps are missing in the series: 4",
    ]
    warnings = [line for line in result.err.splitlines() if "warning" in line]
    assert warnings == [f"tasklens: warning: {line}" for line in expected]
    noted = json.loads((path / "manifest.json").read_text())["stages"]["states"]
    assert noted["warnings"] == expected
    # the other tokenizer is the one that was used
    subject = load_subject(models / "checkpoint-5")
    ids = [subject.tokenizer(row["text"])["input_ids"] for row in stock.rows]
    kept = safetensors.numpy.load_file(step_of(path, 5) / "tokens.safetensors")
    for row, mine, position in zip(ids, kept["ids"], kept["position"], strict=True):
        assert row[: position + 1] == mine[: position + 1].tolist()


@pytest.mark.usefixtures("undrawn")
def test_an_untrained_network_is_measured_as_step_0(
    probed: Probed, stock: Stock, command: Command, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    shutil.copytree(stock.checkpoints[200], models / "checkpoint-200")
    states = {}
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        path = tmp_path / name
        asked = ("--untrained", "--states", "embed,block1", "--set", f"seed={seed}")
        result = command(*stock.words(*asked, "--out", path, models=models))
        assert result.status == 0, result.err
        assert "then the mean at step 0\n" in result.out
        assert {row["step"] for row in rows_of(path)} == {None, 0, 200}
        states[name] = np.load(step_of(path, 0) / "block1.npy")
        kept = (step_of(path, 200) / "block1.npy").read_bytes()
        assert kept == (step_of(probed.path, 200) / "block1.npy").read_bytes()
    assert np.array_equal(states["one"], states["again"])
    trained = np.load(step_of(probed.path, 200) / "block1.npy")
    for one, other in (("one", states["other"]), ("one", trained), ("other", trained)):
        assert float(np.abs(states[one] - other).max()) > 0.01
    shown = command(*stock.words("--untrained", "--dry-run", models=models)).out.splitlines()
    where = models / "checkpoint-200"
    assert shown[1:3] == [f"  step 0: {where}, untrained", f"  step 200: {where}"]


# --- What is asked for ---


@pytest.mark.usefixtures("undrawn")
def test_what_is_held_out_is_a_split_of_its_own(
    stock: Stock, command: Command, tmp_path: Path
) -> None:
    path = tmp_path / "probe"
    asked = ("--hold-out", "phrasing", "--states", "embed,block1,block2")
    result = command(*stock.words(*asked, "--out", path))
    assert result.status == 0, result.err
    lines = result.out.splitlines()
    assert lines[1].split() == ["layer", "space", "kept", "held_out_phrasing"]
    assert all(len(line.split()) == 2 + 2 * 2 for line in lines[2:5])
    assert "accuracy at step 200: kept 0." in result.out
    assert ", held_out_phrasing 0." in result.out
    verdict = json.loads((path / "verdict.json").read_text())
    splits = {check["split"] for finding in verdict["findings"] for check in finding["checks"]}
    assert splits == {"kept", "held_out_phrasing"}
    prompts = pq.read_table(path / "data/prompts.parquet").to_pylist()
    places: dict[str, set[tuple[str, str]]] = {}
    for row in prompts:
        place = (row["label"], json.loads(row["columns"])["phrasing"])
        places.setdefault(row["split"], set()).add(place)
    assert len(places["kept"]) == 2 * len(LABELS)
    assert len(places["held_out_phrasing"]) == len(LABELS)
    assert not places["kept"] & places["held_out_phrasing"]
    assert {row["split"] for row in rows_of(path)} == {"kept", "held_out_phrasing"}
    for split in places:
        learnt = rows_of(path, split=split, layer="block2", step=200, metric="probe_task")
        assert len(learnt) == (split != "kept"), "learnt on those that are kept"


def test_a_single_model_is_judged_by_what_needs_no_course(
    stock: Stock, command: Command, tmp_path: Path
) -> None:
    """With its figures, and with a split in which its accuracy is known."""
    path = tmp_path / "probe"
    words = ("--hold-out", "phrasing", "--out", path)
    result = command(*stock.words(*words, models=stock.checkpoints[200]))
    assert result.status == 0, result.err
    assert result.out.endswith("figures/figure1.png\n")
    verdict = json.loads((path / "verdict.json").read_text())
    assert verdict["half way"] == []
    checks = {
        (finding["finding"], check["statistic"].partition(",")[0], check["split"]): check
        for finding in verdict["findings"]
        for check in finding["checks"]
    }
    for split in ("kept", "held_out_phrasing"):
        rise = checks["emergence", "rise of the upper blocks' mean ARI", split]
        assert rise["verdict"] == "undecided"
        assert rise["note"] == "a single checkpoint says nothing of a rise"
        best = checks["saturation", "final ARI of the best layer", split]
        assert best["low"] <= best["high"] <= 1


def test_several_numbers_of_clusters_make_a_table_of_their_own(
    stock: Stock, command: Command, tmp_path: Path, undrawn: list[Any]
) -> None:
    from sklearn import metrics

    path = tmp_path / "probe"
    model = stock.checkpoints[200]
    result = command(*stock.words("--k", "6,4,8", "--out", path, models=model))
    assert result.status == 0, result.err
    _, _, below = result.out.partition("\nall, by the number of clusters:")
    title, *lines = below.partition("\n\n")[0].splitlines()
    assert title.split() == ["ARI", "AMI", "silhouette"]
    clusters = safetensors.numpy.load_file(step_of(path, 200, "measured") / "clusters.safetensors")
    labels = [row["label"] for row in stock.rows]
    places = [(name, k) for name in NAMES for k in (6, 4, 8)]
    for line, (name, k) in zip(lines, places, strict=True):
        said = re.fullmatch(r"(\S+) +k = (\d+) +(\S+) +(\S+) +(\S+)", line)
        assert said is not None
        assert said.group(1, 2) == (name, str(k))
        which = "labels" if k == 6 else f"k={k}/labels"
        (found,) = clusters[f"all/{name}/raw/{which}"]
        # of layer 0, which is the same wherever a word stands, there are but as many as words
        assert len(np.unique(found)) == (len(INPUTS) if name == "embed" else k)
        numbers = [
            metrics.adjusted_rand_score(labels, found),
            metrics.adjusted_mutual_info_score(labels, found),
            metrics.silhouette_score(np.load(step_of(path, 200) / f"{name}.npy"), found),
        ]
        assert [float(number) for number in said.group(3, 4, 5)] == pytest.approx(
            numbers, abs=0.00501
        )
    ((scores, _),) = undrawn
    of_states = [row for row in scores.to_pylist() if row["layer"] in NAMES]
    assert {row["k"] for row in of_states if row["k"] is not None} == {6}
    table = re.split(r"\n\n(?=holds|fails|undecided)", result.out)[0]
    assert command("show", path).out == f"{table}\n"


@pytest.mark.usefixtures("undrawn")
def test_some_states_are_as_those_of_all(
    probed: Probed, stock: Stock, command: Command, tmp_path: Path
) -> None:
    path = tmp_path / "probe"
    result = command(*stock.words("--states", "block1,embed", "--out", path))
    assert result.status == 0, result.err
    for step in stock.checkpoints:
        kept = {file.name for file in step_of(path, step).glob("*.npy")}
        assert kept == {"embed.npy", "block1.npy", "answer.npy"}
        for name in kept:
            expected = (step_of(probed.path, step) / name).read_bytes()
            assert (step_of(path, step) / name).read_bytes() == expected
    assert [line.split()[0] for line in result.out.splitlines()[2:4]] == ["embed", "block1"]
    whole = rows_of(probed.path, layer="block1")
    assert rows_of(path, layer="block1") == whole
    alone = command(*stock.words("--states", "ln_f", "--out", tmp_path / "one"))
    assert alone.status == 0, alone.err
    assert "no findings: they need the states embed and at least one block\n" in alone.out
    assert not (tmp_path / "one" / "verdict.json").exists()


@pytest.mark.usefixtures("undrawn")
def test_a_mean_over_the_instruction_is_that_of_its_tokens(
    stock: Stock, command: Command, tmp_path: Path
) -> None:
    path = tmp_path / "probe"
    model = stock.checkpoints[200]
    asked = ("--position", "instruction", "--set", "position.over=mean")
    result = command(*stock.words(*asked, "--out", path, models=model))
    assert result.status == 0, result.err
    assert "  plural: <s> [[many]] [[of]]\n" in result.err
    subject = load_subject(model)
    for i, row in enumerate(stock.rows):
        n = len(row["instruction"].split())
        ids = np.array([tokens_of(row)] * n)
        each = harvest(subject, Prompts(ids, np.arange(1, n + 1))).states
        for name in NAMES:
            kept = np.load(step_of(path, 200) / f"{name}.npy", mmap_mode="r")
            np.testing.assert_allclose(kept[i], each[name].mean(axis=0), rtol=1e-4, atol=1e-5)


# --- What would be measured ---

#: What --position says: what is then measured of the first prompt, and what should follow it.
POSITIONS = {
    "nothing": ((), "<s> many of [[sea]]  -> {output}"),
    "a column of texts": (("instruction",), "<s> many [[of]]"),
    "a column of pairs": (("verb",), "<s> many [[of]]"),
    "a column of numbers": (("nth",), "<s> [[many]]"),
    "a number": (("0",), "[[<s>]]"),
    "a number from the end": (("-2",), "<s> many of [[sea]]"),
    "characters": (("1:4",), "<s> [[many]]"),
    "characters of two tokens": (("0:7",), "<s> many [[of]]"),
    "their mean": (("0:7", "--set", "position.over=mean"), "<s> [[many]] [[of]]"),
}


@pytest.mark.parametrize(("asked", "expected"), POSITIONS.values(), ids=POSITIONS)
def test_a_dry_run_shows_what_is_measured_and_makes_nothing(
    stock: Stock, command: Command, tmp_path: Path, asked: tuple[str, ...], expected: str
) -> None:
    path = tmp_path / "probe"
    position = ("--position", *asked) if asked else ()
    result = command(*stock.words(*position, "--dry-run", "--out", path))
    assert (result.status, result.err) == (0, "")
    assert list(tmp_path.iterdir()) == []
    lines = result.out.splitlines()
    assert lines[:3] == [
        "models:",
        *(f"  step {step}: {where}" for step, where in stock.checkpoints.items()),
    ]
    assert lines[3:5] == [f"prompts: {len(stock.rows)}, with 4 labels", f"  all: {len(stock.rows)}"]
    first = stock.rows[0]
    assert f"  plural: {expected.format(output=first['output'])}" in lines
    if not asked:
        lengths = [len(tokens_of(row)) for row in stock.rows]
        assert lines[5] == (
            f"tokens up to the measured one: {min(lengths)} to {max(lengths)}, "
            f"{sum(lengths) / len(lengths):.1f} on average"
        )
        assert "the first token of the output follows it in 48 prompts" in lines


def test_a_text_that_stands_in_every_prompt_is_measured_where_it_stands_last(
    stock: Stock, command: Command, tmp_path: Path
) -> None:
    rows = [{"text": f"of all of {row['text']}", "label": row["label"]} for row in stock.rows]
    file = write_prompts(tmp_path / "mine.jsonl", rows)
    asked = ("--prompts", file, "--position", "of all of", "--dry-run")
    result = command(*stock.words(*asked))
    assert (result.status, result.err) == (0, "")
    assert "  plural: <s> of [UNK] [[of]]\n" in result.out


@pytest.mark.parametrize("has_output", [True, False])
def test_an_output_follows_the_last_token_where_it_is_not_that_token(
    stock: Stock, command: Command, tmp_path: Path, has_output: bool
) -> None:
    rows = [dict(row) for row in stock.rows]
    for row in rows:
        row["text"] = row["text"] if has_output else f"{row['instruction']} {row['input']}"
    file = write_prompts(tmp_path / "mine.jsonl", rows)
    asked = ("--prompts", file, "--position", "last", "--dry-run")
    result = command(*stock.words(*asked))
    assert (result.status, result.err) == (0, "")
    known = 0 if has_output else len(rows)
    assert f"the first token of the output follows it in {known} prompts\n" in result.out
    output = rows[0]["output"]
    shown = f"sea [[{output}]]" if has_output else f"of [[sea]]  -> {output}"
    assert re.search(rf"^  plural: <s> many.* {re.escape(shown)}$", result.out, re.MULTILINE)


# --- What is refused ---


@dataclass(frozen=True)
class Case:
    """Words that are refused, and words that the one line has."""

    words: tuple[str | Path, ...]
    said: tuple[str, ...]
    models: Path | str = ""


def case(name: str, stock: Stock, path: Path) -> Case:
    """Make what a case needs in a directory, and return the case."""
    rows = [dict(row) for row in stock.rows]
    file = path / "mine.jsonl"
    mine: tuple[str | Path, ...] = ("--prompts", file)
    said: tuple[str, ...]
    if name == "not causal":
        import transformers

        config = transformers.BertConfig(
            vocab_size=len(WORDS),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
        )
        transformers.BertForMaskedLM(config).save_pretrained(path / "bert")
        word_level_tokenizer().save_pretrained(path / "bert")
        return Case((), ("BertLMHeadModel is no causal language model",), path / "bert")
    if name == "a label of one value":
        write_prompts(file, [row for row in rows if row["label"] == "past"])
        return Case(mine, (f"{file} line 1: 'label' has the one value 'past' in split all",))
    if name == "a label of one prompt":
        rows[13]["label"] = "alone"
        write_prompts(file, rows)
        return Case(mine, (f"{file} line 14: 'label' = 'alone' has this one prompt in split all",))
    if name == "no such label":
        return Case(("--label", "kind"), ("line 1: no 'kind'; its columns are text, label, input",))
    if name == "a text that is not there":
        said = (f"{stock.prompts} line 1: 'zzz' is not in the text 'many of sea ",)
        return Case(("--position", "zzz"), (*said, "nor is it one of text, label, input"))
    if name == "a token that is not there":
        return Case(("--position", "5"), (f"{stock.prompts} line 1: has no token 5: there are 5",))
    if name == "characters that are not there":
        said = (f"{stock.prompts} line 1: characters 3 to 99 are not in the text",)
        return Case(("--position", "3:99"), said)
    if name == "too long":
        rows[6]["text"] = f"{'of ' * CONTEXT}{rows[6]['text']}"
        write_prompts(file, rows)
        said = (f"{file} line 7: ", f"but the model reads {CONTEXT}; shorten the text")
        return Case(mine, said)
    if name == "longer than the model reads":
        rows[6]["text"] = f"{'of ' * CONTEXT}{rows[6]['text']}"
        write_prompts(file, rows)
        said = (f"{file} line 7: {CONTEXT + 6} tokens up to the measured one, but the model reads",)
        return Case((*mine, "--set", "position.max_length=99"), said)
    if name == "no JSON":
        text = stock.prompts.read_text().splitlines()
        file.write_text("\n".join([*text[:4], text[4][:-2], *text[5:]]))
        return Case(mine, (f"{file} line 5: is not JSON: ",))
    if name == "no such file":
        return Case(mine, (f"{file} cannot be read: No such file or directory",))
    if name == "an empty file":
        file.touch()
        return Case(mine, (f"{file}: holds no prompt",))
    if name == "no tokenizer":
        save_model(path / "bare", 1, tokenizer=False)
        said = (f"{path}/bare: no tokenizer there", "--set subject.tokenizer=DIR")
        return Case((), said, path / "bare")
    if name == "the tokenizer of another model":
        save_model(path / "small", 1, vocabulary=9)
        said = ("is not in the vocabulary, which has 9: is this the model's tokenizer?",)
        return Case((), said, path / "small")
    if name == "a state that it does not have":
        said = (f"{stock.checkpoints[100]}: no state 'block3'; it has {', '.join(NAMES)}",)
        return Case(("--states", "embed,block3"), said)
    if name == "a state that nothing has":
        said = ("no state 'hidden'; should be all, wte, embed, block1, ... or ln_f",)
        return Case(("--states", "hidden"), said)
    if name == "no such model":
        return Case((), (f"{path}/gone: there is no such directory",), path / "gone")
    if name == "a directory without a model":
        (path / "empty").mkdir()
        said = (f"{path}/empty holds neither a model (config.json) nor checkpoint-N directories",)
        return Case((), said, path / "empty")
    if name == "a checkpoint that is not whole":
        shutil.copytree(stock.models, path / "models")
        (path / "models/checkpoint-200/config.json").unlink()
        said = (f"{path}/models/checkpoint-200: no config.json",)
        return Case((), said, path / "models")
    if name == "damaged weights":
        shutil.copytree(stock.models, path / "models")
        weights = path / "models/checkpoint-100/model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-9])
        return Case((), (f"{path}/models/checkpoint-100 cannot be loaded: ",), path / "models")
    if name == "revisions of a directory":
        said = (f"--revision: {stock.models} is a directory; only the hub has revisions",)
        return Case(("--revision", "main"), said)
    if name == "more clusters than prompts":
        return Case(("--k", "49"), ("split all has 48 prompts: too few for the k asked for",))
    if name == "one cluster":
        return Case(("--k", "4,1"), ("measure.k",))
    if name == "no number of clusters":
        return Case(("--k", "4,many"), ("measure.k", "many"))
    if name == "too few for t-SNE":
        more = ("--set", "clusters.tsne=last", "--set", "clusters.perplexity=48")
        return Case(more, ("split all has 48 prompts, but clusters.perplexity = 48 must be less",))
    if name == "nothing to hold out":
        said = (f"{stock.prompts}: label 'plural' has one value of 'label'",)
        return Case(("--hold-out", "label"), (*said, "hold out by another column"))
    if name == "an unknown setting":
        return Case(("--set", "subject.dtypes=x"), ("the nearest is 'subject.dtype'",))
    if name == "no GPU":
        return Case(("--device", "cuda:99"), ("subject.device = 'cuda:99': PyTorch", "CUDA GPUs"))
    raise AssertionError(name)


REFUSED = (
    "not causal",
    "a label of one value",
    "a label of one prompt",
    "no such label",
    "a text that is not there",
    "a token that is not there",
    "characters that are not there",
    "too long",
    "longer than the model reads",
    "no JSON",
    "no such file",
    "an empty file",
    "no tokenizer",
    "the tokenizer of another model",
    "a state that it does not have",
    "a state that nothing has",
    "no such model",
    "a directory without a model",
    "a checkpoint that is not whole",
    "damaged weights",
    "revisions of a directory",
    "more clusters than prompts",
    "one cluster",
    "no number of clusters",
    "too few for t-SNE",
    "nothing to hold out",
    "an unknown setting",
    "no GPU",
)


class Attempt(NamedTuple):
    """What became of a case."""

    case: Case
    result: Result
    left: list[str]


@pytest.fixture(scope="module")
def attempt(
    stock: Stock, command: Command, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Attempt]:
    """Return what became of a case, which is tried once."""

    @functools.cache
    def tried(name: str) -> Attempt:
        path = tmp_path_factory.mktemp("case")
        it = case(name, stock, path)
        out = path / "probe"
        result = command(*stock.words(*it.words, "--out", out, models=it.models))
        return Attempt(it, result, files(out))

    return tried


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_one_line(attempt: Callable[[str], Attempt], name: str) -> None:
    tried = attempt(name)
    assert_refused(no_examples(tried.result), *tried.case.said)


def no_examples(result: Result) -> Result:
    """Return a result without the examples of what is measured, which stand before the error."""
    lines = [x for x in result.err.splitlines() if not x.startswith(("  ", "tasklens: measured"))]
    return Result(result.status, result.out, "\n".join(lines))


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_leaves_nothing_behind(attempt: Callable[[str], Attempt], name: str) -> None:
    assert attempt(name).left == []


def test_a_label_of_one_prompt_in_one_of_several_files_is_not_what_holding_out_left(
    stock: Stock, command: Command, tmp_path: Path
) -> None:
    rows = [*stock.rows[:13], *stock.rows[24:]]
    file = write_prompts(tmp_path / "mine.jsonl", rows)
    both = ("--prompts", stock.prompts, "--prompts", file)
    line = assert_refused(command(*stock.words(*both, "--dry-run")))
    assert line == (
        f"tasklens: error: {file} line 13: 'label' = 'past' has this one prompt in split mine: "
        "should have two or more"
    )


def test_a_dry_run_refuses_what_it_can_see(stock: Stock, command: Command, tmp_path: Path) -> None:
    for name in ("a text that is not there", "no tokenizer", "a label of one prompt", "no JSON"):
        it = case(name, stock, tmp_path)
        result = command(*stock.words(*it.words, "--dry-run", models=it.models))
        assert_refused(result, *it.said)


@pytest.mark.usefixtures("undrawn")
def test_words_put_right_go_into_the_same_directory(
    stock: Stock, command: Command, tmp_path: Path
) -> None:
    path = tmp_path / "probe"
    wrong = command(*stock.words("--states", "embed,block3", "--out", path))
    assert_refused(no_examples(wrong), "no state 'block3'")
    result = command(*stock.words("--states", "embed,block2", "--out", path))
    assert result.status == 0, result.err


@pytest.mark.usefixtures("undrawn")
def test_a_tokenizer_from_elsewhere(stock: Stock, command: Command, tmp_path: Path) -> None:
    bare = save_model(tmp_path / "bare", 100, tokenizer=False)
    elsewhere = tmp_path / "elsewhere"
    word_level_tokenizer().save_pretrained(elsewhere)
    path = tmp_path / "probe"
    asked = ("--states", "embed,block1", "--set", f"subject.tokenizer={elsewhere}")
    result = command(*stock.words(*asked, "--out", path, models=bare))
    assert result.status == 0, result.err
    expected = harvest(load_subject(bare), prompts_of(stock.rows), ["block1"]).states["block1"]
    (kept,) = path.rglob("block1.npy")
    assert np.array_equal(np.load(kept), expected)


@pytest.mark.usefixtures("undrawn")
def test_a_tokenizer_from_elsewhere_that_changed_makes_other_states(
    stock: Stock, command: Command, tmp_path: Path
) -> None:
    bare = save_model(tmp_path / "models" / "bare", 100, tokenizer=False)
    other = word_level_tokenizer((*SPECIAL, *WORDS[: len(SPECIAL) - 1 : -1]))
    for place, said in ((tmp_path / "named", True), (tmp_path / "models", False)):
        word_level_tokenizer().save_pretrained(place)
        path = tmp_path / f"probe-{place.name}"
        asked = ("--set", f"subject.tokenizer={place}") if said else ()
        words = stock.words("--states", "embed", *asked, "--out", path, models=bare)
        assert command(*words).status == 0
        other.save_pretrained(place)
        with reading() as read:
            assert command(*words, "--resume").status == 0
        assert len(read.prompts) == len(stock.rows), f"{place} changed"


@pytest.mark.usefixtures("undrawn")
def test_a_tokenizer_that_does_not_say_where_its_tokens_stand(
    stock: Stock, command: Command, tmp_path: Path
) -> None:
    """ByT5's is not a fast one; its tokens are the bytes, and then the end of the text."""
    import transformers

    slow = transformers.ByT5Tokenizer()
    model = save_model(tmp_path / "model", 1, tokenizer=slow, vocabulary=len(slow))
    short = [{"text": row["text"][-9:], "label": row["label"]} for row in stock.rows]
    file, path = write_prompts(tmp_path / "mine.jsonl", short), tmp_path / "probe"
    words = stock.words("--prompts", file, "--states", "embed", "--out", path, models=model)
    for position in ("0:2", " "):
        refused = command(*words, "--position", position, "--dry-run")
        assert_refused(refused, "ByT5Tokenizer is no fast tokenizer", "take --position last")
    result = command(*words, "--position", "last")
    assert result.status == 0, result.err
    kept = safetensors.numpy.load_file(next(path.rglob("tokens.safetensors")))
    for ids, position, row in zip(kept["ids"], kept["position"], short, strict=True):
        assert bytes(int(i) - 3 for i in ids[: position + 1]).decode() == row["text"]
    assert (kept["target"] == -1).all()
    assert "accuracy" not in result.out


@pytest.mark.usefixtures("undrawn")
def test_a_full_disk_is_one_line_and_nothing_is_lost(
    stock: Stock, command: Command, tmp_path: Path
) -> None:
    path = tmp_path / "broken" / "probe"
    words = stock.words("--states", "embed")
    calls = 0
    real = os.posix_fallocate

    def full(*arguments: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 2 + 1:  # of a state and the answers of each checkpoint
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        result = command(*words, "--out", path)
    said = f"no space left on the device while writing {path}/states/"
    assert_refused(no_examples(result), said, "run again with --resume")
    with reading() as read:
        assert command(*words, "--out", path, "--resume").status == 0
    assert read.models == {"checkpoint-200"}
    whole = tmp_path / "whole" / "probe"
    assert command(*words, "--out", whole).status == 0
    assert_same(path, whole)


def test_a_disk_that_is_too_small_is_seen_before_anything_is_read(
    stock: Stock, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    path = tmp_path / "probe"
    with reading() as read:
        result = command(*stock.words("--out", path))
    assert_refused(no_examples(result), f"{path}: the run takes about ", "ask for fewer --states")
    assert read.n_batches == 0


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_without_transformers_it_says_what_to_install(
    stock: Stock, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: Any
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    result = command(*stock.words("--out", tmp_path / "probe", *more))
    line = assert_refused(result, "this needs transformers, which is not installed")
    assert line.endswith("pip install 'tasklens[hf]'")
    assert files(tmp_path / "probe") == []


def test_a_name_on_the_hub_that_the_network_does_not_give_is_one_line(
    stock: Stock, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with no_network() as asked:
        result = command(*stock.words("--dry-run", models="nobody/nothing"))
    assert_refused(result, "nobody/nothing: no such directory here, and the hub does not give it: ")
    assert asked


def test_a_slip_of_the_pen_asks_nobody(
    stock: Stock, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(stock.models.parent)
    with no_network() as asked:
        for name in ("models/checkpoint-1000", "./checkpoint", "~/none", "/none/of/this", "a b"):
            result = command(*stock.words("--dry-run", models=name))
            assert_refused(result, f"{name}: there is no such directory")
    assert asked == []
