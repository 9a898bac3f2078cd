"""The one way through the house: what may import what."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tasklens

SOURCE = Path(tasklens.__file__).parent

#: A module imports only what stands in a line above its own.
ORDER = (
    # imports none of ours but errors
    ("errors",),
    ("randomness", "settings", "schedule", "parallel", "rundir", "tables", "torchrun"),
    ("ray_workers", "distributed"),
    ("engines",),
    # data
    ("prompts",),
    ("regex",),
    ("grammar",),
    ("tasks",),
    ("rows",),
    ("trees",),
    ("dataset",),
    ("dataset_files",),
    # model
    ("gpt2",),
    ("checkpoints",),
    ("training",),
    ("states",),
    ("hooks", "state_files"),
    ("huggingface",),
    ("loading",),
    ("series",),
    # measuring
    ("clustering.compiling", "clustering.fallback"),
    ("clustering.kmeans_kernels", "clustering.tsne_kernels"),
    ("clustering.kmeans", "clustering.tsne"),
    ("clustering.frames",),
    ("clustering.tsne_torch",),
    ("clustering",),
    ("agreement", "spread"),
    ("scores",),
    ("resampling",),
    ("curves",),
    ("probes", "following", "claim_statistics"),
    ("timing",),
    ("claims",),
    ("points",),
    ("figures",),
    ("phase", "contents"),
    ("packing", "view"),
    ("pictures",),
    ("picture_tables", "picture_verdict"),
    ("page_data",),
    ("page_html",),
    # prompts of anybody's, as a model reads them and as they are measured
    ("tokens",),
    ("probe_settings",),
    ("probe_cells",),
    # what sees everything
    ("config",),
    ("plan",),
    ("keeper",),
    ("measuring",),
    ("experiment",),
    ("probe_dir",),
    ("harvesting",),
    ("sharding",),
    ("probing",),
    ("verifying", "sweep"),
    ("sweeping",),
    ("sources",),
    ("viewing",),
    ("report",),
    ("cli_shared",),
    ("cli_probe", "cli_report", "cli_sweep"),
    ("cli",),
    ("__main__",),
)
NAMES = tuple(name for names in ORDER for name in names)
RANK = {f"tasklens.{name}": i for i, names in enumerate(ORDER) for name in names}
#: These know nothing of what the package is about, so anything may use them.
BASE = {f"tasklens.{name}" for names in ORDER[:2] for name in names}
#: Only these may see both the making of the states and the measuring of them.
EVERYTHING = {
    f"tasklens.{name}"
    for name in (
        *("config", "plan", "keeper", "measuring", "experiment", "verifying"),
        *("probe_dir", "harvesting", "sharding", "probing", "sources", "viewing", "report"),
        *("sweep", "sweeping", "cli_shared", "cli_probe", "cli_report", "cli_sweep"),
        *("cli", "__main__"),
    )
}
MAKING = {
    f"tasklens.{name}"
    for name in (
        *("gpt2", "distributed", "checkpoints", "training", "states", "dataset_files"),
        *("hooks", "huggingface", "loading", "series"),
    )
}
MEASURING = {
    f"tasklens.{name}"
    for name in (
        *(name for name in NAMES if name.startswith("clustering")),
        *("agreement", "spread", "scores", "resampling", "curves", "probes", "following", "timing"),
        *("claim_statistics", "claims"),
        *("points", "figures", "phase", "contents", "view"),
        *("packing", "pictures", "picture_tables", "picture_verdict", "page_data", "page_html"),
        *("tokens", "probe_settings", "probe_cells"),
    )
}


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(SOURCE.rglob("*.py"))}


def imports(text: str, name: str, package: str) -> set[str]:
    """Return the modules of ours that a module's source imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]).strip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in MODULES else base)
    return {module for module in found if module.split(".")[0] == "tasklens"} - {name}


def imports_of(name: str) -> set[str]:
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return imports(path.read_text(), name, package)


def upward(name: str, imported: set[str]) -> list[str]:
    """Return those of the imports that do not run downward."""
    return sorted(
        other
        for other in imported
        if RANK.get(other, len(ORDER)) >= RANK[name]
        or (name in BASE and other != "tasklens.errors")
        or (name in MEASURING and other in MAKING)
        or (name in MAKING and other in MEASURING)
    )


def test_every_module_has_its_place() -> None:
    assert set(MODULES) - set(RANK) == {"tasklens"}, "give the new module its place in ORDER"
    assert set(RANK) <= set(MODULES), "take what is gone out of ORDER"


@pytest.mark.parametrize("name", sorted(RANK))
def test_imports_run_downward(name: str) -> None:
    if name in MODULES:
        assert upward(name, imports_of(name)) == []


def test_what_sees_everything_is_seen_by_nothing_else() -> None:
    for name in set(RANK) & set(MODULES) - EVERYTHING:
        assert imports_of(name).isdisjoint(EVERYTHING), name


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        ("from tasklens.gpt2 import GPT2", "tasklens.rows", "tasklens.gpt2"),
        ("import tasklens.scores", "tasklens.training", "tasklens.scores"),
        ("def f():\n    from tasklens import cli", "tasklens.figures", "tasklens.cli"),
        ("from . import gpt2", "tasklens.scores", "tasklens.gpt2"),
        ("from .scores import score", "tasklens.scores_", "tasklens.scores"),
        ("from tasklens.settings import CONFIG", "tasklens.schedule", "tasklens.settings"),
        ("from tasklens import train", "tasklens.figures", "tasklens"),
    ],
)
def test_an_upward_import_would_be_found(text: str, name: str, found: str) -> None:
    imported = imports(text, name, "tasklens")
    assert imported == {found}
    if name in RANK:
        assert upward(name, imported) == [found]


def loaded_after(*modules: str) -> set[str]:
    """Return the top-level modules of a fresh interpreter that imported these."""
    program = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in done.stdout.split()}


def test_measuring_and_judging_load_neither_torch_nor_transformers() -> None:
    loaded = loaded_after(
        *("tasklens.claims", "tasklens.clustering", "tasklens.engines", "tasklens.figures")
    )
    assert "sklearn" in loaded
    assert loaded.isdisjoint({"torch", "transformers", "ray"})


def test_the_command_line_loads_nothing_heavy() -> None:
    loaded = loaded_after("tasklens", "tasklens.cli")
    assert "typer" in loaded
    heavy = {
        "torch",
        "transformers",
        "matplotlib",
        "sklearn",
        "scipy",
        "pyarrow",
        "datasets",
        "ray",
    }
    assert loaded.isdisjoint(heavy)


def test_every_public_name_is_where_it_says() -> None:
    for name in tasklens.__all__:
        assert getattr(tasklens, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = tasklens.nonsense
