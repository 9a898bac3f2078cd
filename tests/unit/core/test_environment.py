"""The environment of a notebook or of a cluster's job stops nothing, or the line names it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import HANG
from tasklens.core.environment import import_failure


def failure_of(module: str) -> str | None:
    try:
        __import__(module)
    except Exception as error:
        return import_failure(error)
    raise AssertionError(f"{module} was imported")


def test_a_library_that_cannot_be_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "outerlib.py").write_text("import innerlib")
    (tmp_path / "innerlib.py").write_text("int('many')")
    reason = "innerlib cannot be imported: invalid literal for int() with base 10: 'many'; "
    assert failure_of("outerlib") == f"{reason}should be the library itself: {tmp_path}/innerlib.py"
    monkeypatch.setenv("INNERLIB_THREADS", "many")
    assert failure_of("outerlib") == f"{reason}change INNERLIB_THREADS=many in the environment"


def test_an_error_of_no_import_is_none_of_its_kind() -> None:
    with pytest.raises(ValueError, match="many") as error:
        int("many")
    assert import_failure(error.value) is None


@pytest.mark.parametrize(
    ("name", "value", "module", "shown"),
    [
        ("MPLBACKEND", "module://matplotlib_inline.backend_inline", "tasklens.report.style", ""),
        ("MPLBACKEND", "nonsense", "tasklens.report.style", ""),
        (
            *("NUMBA_NUM_THREADS", "many", "tasklens.clustering.numba_compile"),
            "tasklens: warning: Environment variable 'NUMBA_NUM_THREADS' is defined but its "
            "associated value 'many' could not be parsed.\n",
        ),
    ],
)
def test_nonsense_in_the_environment(name: str, value: str, module: str, shown: str) -> None:
    program = f"import os, {module}; assert os.environ[{name!r}] == {value!r}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {name: value},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG,
    )
    assert (done.returncode, done.stderr) == (0, shown)
