import json
import tomllib
from collections.abc import Mapping
from typing import Annotated, ClassVar, Self

import pytest
from pydantic import Field, model_validator

from tasklens.core.errors import InputError
from tasklens.core.settings import Affects, Device, SettingsBase


class Net(SettingsBase, affects="train"):
    layers: int = Field(6, ge=1)
    """Number of blocks."""
    width: int = Field(32, ge=1)
    """Width of a hidden state, a multiple of the layers. The docstring is long, so that it takes a
    second line in the file."""
    rate: float = Field(1e-3, gt=0)
    """Step size."""
    device: Annotated[Device, Affects("nothing")] = "cpu"
    """Device of the model."""
    precision: Annotated[str, Affects("train", rounding=True)] = "fp32"
    """Type of the numbers."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.width % self.layers and self.width != 32:
            raise ValueError(f"width = {self.width} is not a multiple of layers = {self.layers}")
        return self


class Alphabet(SettingsBase, affects="data"):
    symbols: str = "ab"
    """The alphabet."""
    regexes: tuple[str, ...] = ()
    """Instructions; none: drawn."""


class Figure(SettingsBase, affects="plot"):
    layer: str = "best"
    """Layer that is drawn."""


class Settings(SettingsBase):
    seed: Annotated[int, Affects("data", replicate=True)] = Field(0, ge=0)
    """The root seed."""
    net: Net = Net()
    alphabet: Alphabet = Alphabet()
    figure: Figure = Figure()

    removed: ClassVar[Mapping[str, str]] = {"net.fsdp": "one process per GPU trains with DDP"}


def refusal(*changes: str, toml: str = "", source: str = "") -> str:
    with pytest.raises(InputError) as error:
        Settings.from_toml(toml.encode(), source, changes)
    assert "\n" not in str(error.value)
    return str(error.value)


def changed(*changes: str) -> Settings:
    return Settings.from_table({}, changes)


def test_settings_come_back_from_their_toml() -> None:
    regexes = tuple(f"\"{i}\\.\\\\[x-z]+#é'{i}" for i in range(50))
    settings = Settings(seed=3, alphabet=Alphabet(regexes=regexes, symbols="\"'\\#é="))
    again = Settings.from_toml(settings.toml().encode(), "mine.toml")
    assert again == settings
    assert again.toml() == settings.toml()
    assert tomllib.loads(settings.toml()) == json.loads(json.dumps(settings.model_dump()))
    assert Settings.from_toml(b"[net]\nlayers = 2\n", "mine.toml") == Settings(net=Net(layers=2))


def test_every_key_stands_under_its_meaning() -> None:
    text = Settings().toml()
    lines = text.splitlines()
    table, seen = "", []
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("["):
            table = line.strip("[]") + "."
        elif line and not line.startswith("#"):
            assert before.startswith("# ")
            seen.append(table + line.partition(" =")[0])
    assert seen == ["seed", *(k for t in ("alphabet", "net", "figure") for k in Settings.declared()
                              if k.startswith(t))]  # fmt: skip
    assert "# Width of a hidden state, a multiple" in text
    assert all(len(line) <= 100 for line in lines)


NEAREST = {
    **{"net.layer": "figure.layer", "net.rat": "net.rate", "nte.rate": "net.rate"},
    **{"width": "net.width", "net.seed": "seed", "sed": "seed"},
}


@pytest.mark.parametrize(("key", "nearest"), NEAREST.items())
def test_an_unknown_key_names_the_nearest(key: str, nearest: str) -> None:
    assert refusal(f"{key}=1") == f"--set: no setting {key!r}; the nearest is {nearest!r}"
    table, _, last = key.rpartition(".")
    toml = f"[{table}]\n{last} = 1\n" if table else f"{last} = 1\n"
    message = f"mine.toml: no setting {key!r}; the nearest is {nearest!r}"
    assert refusal(toml=toml, source="mine.toml") == message


def test_an_unknown_table_and_a_setting_that_is_gone_are_refused() -> None:
    assert refusal(toml="[nte]\n", source="mine.toml").startswith("mine.toml: no setting 'nte'; ")
    assert refusal("net=1").startswith("--set: no setting 'net'; the nearest is ")
    message = "the setting net.fsdp was removed: one process per GPU trains with DDP"
    assert refusal("net.fsdp=true") == f"--set: {message}"
    assert refusal(toml="[net]\nfsdp = 1", source="mine.toml") == f"mine.toml: {message}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("net.layers=0", "net.layers = 0: should be at least 1"),
        ("net.layers=1.5", "net.layers = 1.5: should be a whole number"),
        ("net.layers=many", "net.layers = 'many': should be a whole number"),
        ("net.rate=0", "net.rate = 0: should be more than 0"),
        ("net.device=gpu", "net.device = 'gpu': should be cpu, cuda or cuda:N"),
        ("net.width=7", "net: width = 7 is not a multiple of layers = 6"),
        ("seed=-1", "seed = -1: should be at least 0"),
        ("alphabet.symbols=7", "alphabet.symbols = 7: should be text"),
        ("alphabet.regexes=abc", "alphabet.regexes = 'abc': should be a list"),
        ("seed", "--set seed: should be key=value, e.g. train.steps=100"),
    ],
)
def test_a_value_out_of_range_is_named(change: str, message: str) -> None:
    assert refusal(change).startswith(message)


def test_a_value_out_of_range_names_the_file_if_it_is_the_file_s() -> None:
    toml = "[net]\nlayers = 0\n"
    assert refusal(toml=toml, source="mine.toml").startswith("mine.toml: net.layers = 0: ")
    toml = "[net]\nlayers = 1\n"
    assert refusal("seed=-1", toml=toml, source="mine.toml").startswith("seed = -1: ")


@pytest.mark.parametrize("content", [b"seed = ", b"[net", b"seed = 1\nseed = 2", b"\xff\xfe"])
def test_what_is_not_toml_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match=r"^mine\.toml is not TOML: "):
        Settings.from_toml(content, "mine.toml")


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("seed=7", 7),
        ("net.layers = 1_000", 1000),
        ("net.rate=1e-4", 1e-4),
        ("alphabet.symbols=xyz", "xyz"),
        ('alphabet.symbols="123"', "123"),
        ("alphabet.symbols=a=b.json", "a=b.json"),
        ("alphabet.symbols=", ""),
        ("alphabet.regexes=[" + '"a+",' * 5 + '"b"]', ("a+",) * 5 + ("b",)),
    ],
)
def test_set_reads_values_as_toml_and_bare_words_as_strings(change: str, value: object) -> None:
    key = change.partition("=")[0].strip()
    assert changed(change).flat() == Settings().flat() | {key: value}


def test_changes_are_checked_together() -> None:
    settings = changed("net.layers=3", "net.width=33", "seed=2")
    assert (settings.net.layers, settings.net.width, settings.seed) == (3, 33, 2)
    assert Settings().changed(seed=2) == Settings(seed=2)
    with pytest.raises(ValueError, match="should be at least 0"):
        Settings().changed(seed=-1)


def test_what_a_setting_affects_is_declared_once() -> None:
    declared = Settings.declared()
    assert {key: affects.stage for key, affects in declared.items()} == {
        "seed": "data",
        **dict.fromkeys(("net.layers", "net.width", "net.rate", "net.precision"), "train"),
        "net.device": "nothing",
        **dict.fromkeys(("alphabet.symbols", "alphabet.regexes"), "data"),
        "figure.layer": "plot",
    }
    assert set(Settings().affecting("data")) == {"seed", "alphabet.symbols", "alphabet.regexes"}
    assert changed("net.rate=1").affecting("train", "plot")["net.rate"] == 1
    assert changed("seed=1").replicate != Settings().replicate
    assert changed("net.rate=1").replicate == Settings().replicate


@pytest.mark.parametrize(
    ("change", "difference", "of_replicates"),
    [
        ("net.rate=1", "net.rate", "net.rate"),
        ("seed=1", "seed", None),
        ("net.precision=bf16", "net.precision", None),
        ("figure.layer=block1", "figure.layer", None),
        ("net.device=cuda", None, None),
    ],
)
def test_runs_differ_in_what_their_results_depend_on(
    change: str, difference: str | None, of_replicates: str | None
) -> None:
    assert Settings().first_difference(changed(change)) == difference
    assert Settings().first_difference(changed(change), of_replicates=True) == of_replicates
