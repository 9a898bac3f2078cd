"""Describe a path that should be a run directory and is none."""

from pathlib import Path

from tasklens.core.errors import InputError
from tasklens.runs.directory import RunDir
from tasklens.runs.sweep_file import PLAN


def not_a_run(directory: RunDir, error: OSError) -> InputError:
    """Return the error of a directory whose settings cannot be read: what it is, what is right."""
    path, config = directory.path, directory.config
    if config.exists():
        return InputError(f"{config} cannot be read: {error.strerror}")
    if directory.read_manifest()["stages"].keys() - {"interventions"}:
        command = directory.read_manifest().get("command")
        begun = f" (the run was begun by: {command})" if command else ""
        return InputError(
            f"{config}, which has the settings of the run, is gone; restore it, or run again with "
            f"--resume and the same settings{begun}"
        )
    reason, remedy = _kind(path)
    return InputError(f"{path} is not a run directory: {reason}; {remedy}")


def _kind(path: Path) -> tuple[str, str]:
    """Return what is at a path, and what to do instead of naming it as a run."""
    for parent in path.resolve().parents:
        if (parent / "config.toml").is_file() and (parent / "manifest.json").is_file():
            return f"it is in the run directory {parent}", "name that"
    new = "make one with: tasklens run PRESET --out DIR"
    if not path.exists():
        return "there is no such directory", new
    if not path.is_dir():
        return "it is a file", new
    if (path / PLAN).is_file():
        return "it is the directory of a sweep", f"name one of the runs in {path / 'runs'}"
    if (path / "config.json").is_file() or (path / "adapter_config.json").is_file():
        return "it is a model", f"measure it with: tasklens probe {path} --prompts FILE"
    if not any(path.iterdir()):
        return "it is empty", new
    return "it has no config.toml", new
