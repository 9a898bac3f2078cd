"""`make gpu`, on the CPU: every part records what it has, also if another fails or is cut off."""

import json
import os
import re
import subprocess
import sys
import time
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from e2e.processes import wait_for

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "benchmarks"
#: What `make gpu` expects on a machine with a GPU: too large to be carried there.
EXPECTED = {"torch", "numpy", "scipy", "numba", "pandas", "pyarrow", "transformers"}


def run_script(out: Path, *options: str, **variables: str) -> tuple[int, dict[str, Any], str]:
    """Return the exit status, the JSON and the log."""
    command = [sys.executable, str(SCRIPTS / "gpu.py"), "--device", "cpu", "--preset", "smoke"]
    ran = subprocess.run(
        [*command, "--out", str(out), *options],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.returncode, json.loads((out / "gpu.json").read_text()), (out / "gpu.log").read_text()


@pytest.mark.long
def test_every_part_is_measured_though_one_fails(tmp_path: Path) -> None:
    """A pytest that cannot be imported breaks part tests, and no other."""
    (tmp_path / "pytest.py").write_text("raise ImportError('broken on purpose')\n")
    # More than enough, so that a busy machine cuts nothing off.
    options = ("--limit", "3000")
    status, content, log = run_script(tmp_path / "out", *options, PYTHONPATH=str(tmp_path))
    assert status == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["gpu.json", "gpu.log"]
    parts = content["parts"]
    outcomes = {name: part["outcome"] for name, part in parts.items()}
    assert outcomes == dict.fromkeys(parts, "done") | {"tests": "failed"}, log[-3000:]
    assert list(parts) == ["facts", "tests", "steps", "run", "llama"]
    assert "broken on purpose" in log
    assert content["seconds"] < content["limit_seconds"] == 3000
    versions = parts["facts"]["versions"]
    assert versions["pytest"] == "cannot be imported: broken on purpose"
    assert re.match(r"\d+\.\d+", versions["torch"])
    assert set(parts["steps"]["steps"]) == {"fp32", "bf16"}
    assert parts["steps"]["steps"]["fp32"]["steps_per_second"] > 0
    # The device is the CPU, so that its states are those of the CPU.
    compared = parts["steps"]["against_cpu_after_20_steps"]
    assert compared["loss"] == compared["loss_on_cpu"]
    assert all(each["largest"] == 0 for each in compared["states"].values())
    run = parts["run"]
    assert [*run["stages"]] == ["data", "train", "measure", "plot", "verify", "report"]
    assert run["steps_taken"] == run["steps"] == run["projection"]["steps"][0]
    assert run["projection"]["projected"] == (run["steps"] < run["steps_of_the_preset"])
    assert run["projection"]["together"] > 0.9 * sum(
        stage["wall_seconds"] for stage in run["stages"].values()
    )
    llama = parts["llama"]
    assert llama["harvest"]["bfloat16"]["prompts"] == 192
    assert set(llama["probe"]["seconds_by_stage"]) >= {"data", "states", "measure", "plot"}
    near = llama["harvest"]["bfloat16"]["relative_to_fp32_on_the_cpu"]
    assert 0 < near["block1"] < 0.1
    assert all(part["gpu"]["whole"] == "not available on the CPU" for part in parts.values())


@pytest.mark.long
def test_a_part_that_hangs_is_cut_off_and_the_next_begins(tmp_path: Path) -> None:
    """Part facts imports Matplotlib late; what it has recorded before is kept."""
    (tmp_path / "matplotlib.py").write_text("import time\ntime.sleep(600)\n")
    options = ("--parts", "facts", "tests", "--limit", "210")
    status, content, log = run_script(tmp_path / "out", *options, PYTHONPATH=str(tmp_path))
    assert status == 1
    facts, tests = content["parts"]["facts"], content["parts"]["tests"]
    assert facts["outcome"] == "cut off"
    assert facts["limit_seconds"] - 6 < facts["seconds"] < 600
    assert facts["processor"]
    assert tests["outcome"] == "done", log[-3000:]
    assert tests["counts"]["passed"] > 10
    assert tests["counts"]["failed"] == tests["counts"]["skipped"] == 0


def write_wheel(folder: Path, name: str, tags: str = "py3-none-any", requires: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.2-{tags}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        lines = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n"
        lines += f"Requires-Dist: {requires}\n" if requires else ""
        lines += "Requires-Dist: never-used>=3; extra == 'all'\n"
        archive.writestr(f"{name}-1.2.dist-info/METADATA", lines)
        archive.writestr(f"{name}.py", "")
    return path


def test_wheels_of_missing_packages_are_unpacked_with_what_they_require(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from gpu_wheels import install_missing

    pyproject, wheels, site = tmp_path / "p.toml", tmp_path / "wheels", tmp_path / "site"
    needed = ["not_there_a", "not-there-b>=2", "not-there-c", "pytest>=8", "numpy>=999"]
    pyproject.write_text(
        f"[project]\ndependencies = {needed}\n[project.optional-dependencies]\nhf = []\n"
    )
    write_wheel(wheels, "not_there_a", requires="Not.There_D<3,>=1")
    write_wheel(wheels, "not_there_d")
    write_wheel(wheels, "never_used")
    write_wheel(wheels, "pytest")
    write_wheel(wheels, "not_there_b", "cp399-cp399-manylinux_2_28_x86_64")
    result = install_missing(pyproject, wheels, site)
    assert result["unpacked"] == [
        "not_there_a-1.2-py3-none-any.whl",
        "not_there_d-1.2-py3-none-any.whl",
    ]
    assert (site / "not_there_a.py").exists()
    assert (site / "not_there_d.py").exists()
    numpy, b, c = sorted(result["missing"], key=lambda line: line.partition("-")[2])
    this = f"3.{sys.version_info.minor}"
    assert f"for another Python than {this}: make gpu-wheels GPU_PYTHON={this}" in b
    assert c == f"not-there-c (not installed; no wheel of it in {wheels})"
    assert re.match(r"numpy \(\S+ is older than 999; no wheel", numpy)


@pytest.mark.parametrize(
    ("tags", "fits"),
    [
        ("py3-none-any", True),
        ("py2.py3-none-any", True),
        ("cp3{minor}-cp3{minor}-manylinux2014_{machine}.manylinux_2_17_{machine}", True),
        ("cp39-abi3-manylinux_2_17_{machine}", True),
        ("cp39-cp39-manylinux_2_17_{machine}", False),
        ("cp399-abi3-manylinux_2_17_{machine}", False),
        ("cp3{minor}-cp3{minor}-manylinux_2_28_z80", False),
    ],
)
def test_a_wheel_fits_by_its_tags(monkeypatch: pytest.MonkeyPatch, tags: str, fits: bool) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from gpu_wheels import why_unfit

    tags = tags.format(minor=sys.version_info.minor, machine=os.uname().machine)
    assert (why_unfit(f"name-1.2-{tags}.whl") == "") == fits


def test_the_use_of_a_gpu_is_that_between_two_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from gpu_usage import Usage

    program = tmp_path / "nvidia-smi"
    lines = "40, 1000, 100.5, 1400\n60, 3000, [N/A], 1600\n"
    program.write_text(f"#!/bin/sh\necho '{lines}'\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    began = time.time()
    with Usage("cuda:1") as usage:
        wait_for(lambda: len(usage.samples) >= 2)
    use = usage.between(began, time.time())
    assert use["utilisation_percent"] == {"mean": 50, "max": 60}
    assert use["memory_mib"] == {"mean": 2000, "max": 3000}
    assert use["power_watt"] == {"mean": 100.5, "max": 100.5}
    assert usage.between(began - 9, began - 1) == {"samples": 0}
    assert Usage("cpu").between(0, 1) == "not available on the CPU"


def test_each_package_is_fetched_or_expected_on_the_machine() -> None:
    """So is what each of them requires, and all versions are pinned."""

    def normal(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = project["dependencies"] + project["optional-dependencies"]["hf"] + ["pytest"]
    names = {normal(line.partition(">=")[0]) for line in needed}
    lines = (SCRIPTS / "gpu-wheels.txt").read_text().splitlines()
    fetched = {normal(line) for line in lines if not line.startswith("#")}
    assert names <= fetched | EXPECTED
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    assert fetched <= {normal(line.partition("==")[0]) for line in pinned}
    required = {
        normal(re.split(r"[^\w.-]", requirement)[0])
        for name in fetched
        for requirement in metadata.requires(name) or []
        if ";" not in requirement
    }
    assert required <= fetched | EXPECTED | {"huggingface-hub", "tokenizers"}
