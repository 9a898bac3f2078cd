"""Prompts and limits on memory for models of Hugging Face's transformers."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from models.families import family_model, made_prompts, word_level_tokenizer
from tasklens.data.token_prompts import Prompts

Limit = Callable[..., list[tuple[int, int]]]


@pytest.fixture
def prompts() -> Prompts:
    """Return prompts of many lengths, some equal, some of one token; do not change them."""
    return made_prompts()


@pytest.fixture
def alike() -> Prompts:
    """Return prompts with common prefixes, which can be read as trees; do not change them."""
    return made_prompts(alike=True)


@pytest.fixture
def limit() -> Iterator[Limit]:
    """Make a model fail on passes that do not fit; return the shapes of its passes."""

    def limited(
        model: Any, fits: Callable[[int, int], bool] = lambda *_: True, error: Any = MemoryError
    ) -> list[tuple[int, int]]:
        shapes: list[tuple[int, int]] = []

        def check(_: object, args: tuple[torch.Tensor], kwargs: dict[str, torch.Tensor]) -> None:
            rows, length = (args[0] if args else kwargs["input_ids"]).shape
            shapes.append((rows, length))
            if not fits(rows, length):
                raise error()

        hooks.enter_context(model.base_model.register_forward_pre_hook(check, with_kwargs=True))
        return shapes

    with ExitStack() as hooks:
        yield limited


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Refuse every connection; return the list of the addresses that were asked for."""
    asked: list[Any] = []

    def refuse(*arguments: object, **_: object) -> Any:
        asked.append(arguments)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save the Llama of the families and a tokenizer; return the directory."""
    path = tmp_path_factory.mktemp("models") / "llama"
    family_model("llama").save_pretrained(path)
    word_level_tokenizer().save_pretrained(path)
    return path
