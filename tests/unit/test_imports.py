"""Test what an import loads. import-linter checks which package may import which."""

import operator
import subprocess
import sys

import pytest

import tasklens


def loaded_after(*modules: str) -> set[str]:
    """Return the top-level modules of a fresh interpreter that imported these."""
    program = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in done.stdout.split()}


def test_measuring_and_judging_load_neither_torch_nor_transformers() -> None:
    loaded = loaded_after(
        *("tasklens.findings.verdict", "tasklens.clustering.cluster"),
        *("tasklens.core.workers", "tasklens.report.figure1"),
    )
    assert "sklearn" in loaded
    assert loaded.isdisjoint({"torch", "transformers", "ray"})


def test_the_command_line_loads_nothing_heavy() -> None:
    loaded = loaded_after("tasklens", "tasklens.cli.main")
    assert "typer" in loaded
    heavy = {"torch", "transformers", "matplotlib", "sklearn", "scipy", "pandas", "pyarrow", "ray"}
    assert loaded.isdisjoint({*heavy, "datasets"})


def test_the_page_is_written_without_matplotlib() -> None:
    assert "matplotlib" not in loaded_after("tasklens.report.page")


def test_every_public_name_comes_from_its_module() -> None:
    for name in tasklens.__all__:
        assert getattr(tasklens, name) is not None
    with pytest.raises(AttributeError, match="No tasklens attribute nonsense"):
        operator.attrgetter("nonsense")(tasklens)
