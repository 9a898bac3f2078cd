"""The source distribution, the metadata and the README as a package index shows them."""

import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import tasklens

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PREPARE = runpy.run_path(str(ROOT / ".ci" / "prepare_release.py"))
REPOSITORY = "https://example.org/owner/name"
IN_REPOSITORY = pytest.mark.skipif(
    "Repository" in PROJECT["urls"], reason="a release has its addresses already"
)


def test_the_source_distribution_has_every_file_of_the_repository(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("the files are listed by git, in a checkout")
    tracked = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
    program = "import setuptools, sys; setuptools.setup(script_args=sys.argv[1:])"
    options = ["-q", "egg_info", "--egg-base", str(tmp_path)]
    subprocess.run([sys.executable, "-c", program, *options], cwd=ROOT, check=True)
    listed = (tmp_path / "tasklens.egg-info" / "SOURCES.txt").read_text().splitlines()
    missing = {name for name in tracked if (ROOT / name).exists()} - set(listed)
    assert not missing


def test_the_version_is_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    section = re.search(r"^## (\S+) - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert section
    newest, day = section.groups()
    assert tasklens.__version__ == PROJECT["version"] == str(citation["version"]) == newest
    assert citation["date-released"] == day
    citing = (ROOT / "docs" / "reference" / "citing.md").read_text()
    assert f"version = {{{newest}}}" in citing
    assert f"year    = {{{day[:4]}}}" in citing


def test_the_licences_of_what_is_packed_are_packed() -> None:
    for pattern in PROJECT["license-files"]:
        assert list(ROOT.glob(pattern)), pattern
    vendored = ROOT / "src" / "tasklens" / "report" / "page_assets" / "vendor"
    scripts = {path.name.partition(".")[0] for path in vendored.glob("*.js")}
    assert scripts == {path.name.removesuffix(".LICENSE") for path in vendored.glob("*.LICENSE")}


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("[a](docs/b.md#c)", f"[a]({REPOSITORY}/blob/v1/docs/b.md#c)"),
        ("![a](docs/b.png)", f"![a]({REPOSITORY}/raw/v1/docs/b.png)"),
        ("[![a](b.svg)](c.md)", f"[![a]({REPOSITORY}/raw/v1/b.svg)]({REPOSITORY}/blob/v1/c.md)"),
        ('[[1]](./a.md "b")', f'[[1]]({REPOSITORY}/blob/v1/a.md "b")'),
        ("[a](#b)", f"[a]({REPOSITORY}/blob/v1/README.md#b)"),
        ('<img alt="a" src="b.png">', f'<img alt="a" src="{REPOSITORY}/raw/v1/b.png">'),
        ("[a](https://b.org/c.md)", "[a](https://b.org/c.md)"),
        ("`[a](b)`\n```\n[a](b)\n```\n", "`[a](b)`\n```\n[a](b)\n```\n"),
    ],
)
def test_links_become_absolute_outside_code(markdown: str, expected: str) -> None:
    assert PREPARE["absolute_links"](markdown, REPOSITORY, "v1") == expected


@IN_REPOSITORY
def test_every_link_of_the_readme_leads_to_a_file_from_elsewhere() -> None:
    text = PREPARE["absolute_links"]((ROOT / "README.md").read_text(), REPOSITORY, "v1")
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.M | re.S)
    addresses = re.findall(r"\]\(([^)\s]+)|\s(?:src|srcset|href)=\"([^\"]+)", text)
    files = [
        match[2]
        for pair in addresses
        if (match := re.match(rf"{REPOSITORY}/(raw|blob)/v1/([^#]+)", "".join(pair)))
    ]
    assert len(files) > 5
    assert [name for name in files if not (ROOT / name).exists()] == []
    assert [a for pair in addresses if not (a := "".join(pair)).startswith("https://")] == []


@IN_REPOSITORY
def test_a_release_adds_the_addresses_of_its_repository() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    urls = tomllib.loads(PREPARE["with_urls"](text, REPOSITORY, "v1"))["project"]["urls"]
    assert urls == PROJECT["urls"] | {
        "Repository": REPOSITORY,
        "Documentation": f"{REPOSITORY}/tree/v1/docs",
        "Changelog": f"{REPOSITORY}/blob/v1/CHANGELOG.md",
        "Issues": f"{REPOSITORY}/issues",
    }


def test_a_release_is_tagged_with_its_version() -> None:
    variables = {
        "GITHUB_SERVER_URL": "https://example.org",
        "GITHUB_REPOSITORY": "owner/name",
        "GITHUB_REF_NAME": "v1",
    }
    assert PREPARE["release"](variables, "1") == (REPOSITORY, "v1")
    with pytest.raises(ValueError, match="tag v2"):
        PREPARE["release"](variables, "2")


def test_the_workflows_run_what_the_repository_has() -> None:
    workflows = ROOT / ".github" / "workflows"
    ci, release = (yaml.safe_load((workflows / f"{n}.yml").read_text()) for n in ("ci", "release"))
    job = ci["jobs"]["test"]
    assert job["steps"][-1] == {"run": ".ci/run"}
    # the only Python that is tested is the one that the metadata name
    versions = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if "Python :: 3." in c]
    assert versions == ["3.11"]
    assert job["container"].startswith("python:3.11-")
    builds = [step.get("run", "") for step in release["jobs"]["build"]["steps"]]
    assert "python .ci/prepare_release.py" in builds
    assert (ROOT / ".ci" / "prepare_release.py").exists()
