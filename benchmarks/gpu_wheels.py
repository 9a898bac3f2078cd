"""Unpack the wheels of packages that a machine lacks. Standard library alone; pip is not needed."""

import platform
import re
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

#: The extra whose packages the parts use, and others that they use.
EXTRA, BESIDES = "hf", ("pytest",)


class Wheel(NamedTuple):
    """A wheel in the folder, and the packages that it requires."""

    path: Path
    name: str
    requires: tuple[str, ...]


def install_missing(pyproject: Path, wheels: Path, site: Path) -> dict[str, list[str]]:
    """Unpack the wheels of packages that are missing here, or too old, into a folder.

    A wheel comes with those of the packages that it requires. Return the names of the files that
    were unpacked, and of each package that neither the machine nor the folder has.
    """
    needed = {name: why for name, least in requirements(pyproject) if (why := lack(name, least))}
    wheel_of = {wheel.name: wheel for wheel in map(read_wheel, sorted(wheels.glob("*.whl")))}
    unpacked: dict[str, str] = {}
    missing: list[str] = []
    waiting = list(needed)
    while waiting:
        name = waiting.pop()
        if name in unpacked:
            continue
        if name not in wheel_of:
            if name in needed:
                missing.append(f"{name} ({needed[name]}; no wheel of it in {wheels})")
            continue
        wheel = wheel_of[name]
        unfit = why_unfit(wheel.path.name)
        if unfit:
            missing.append(f"{name} ({needed.get(name, 'required by a wheel')}; {unfit})")
            continue
        with zipfile.ZipFile(wheel.path) as archive:
            archive.extractall(site)
        unpacked[name] = wheel.path.name
        waiting += wheel.requires
    return {"unpacked": sorted(unpacked.values()), "missing": sorted(missing)}


def requirements(pyproject: Path) -> list[tuple[str, str]]:
    """Return the packages that tasklens needs, each with its least version."""
    import tomllib

    project = tomllib.loads(pyproject.read_text())["project"]
    lines = project["dependencies"] + project["optional-dependencies"][EXTRA] + list(BESIDES)
    return [(normal(name), least) for name, _, least in (line.partition(">=") for line in lines)]


def lack(name: str, least: str) -> str:
    """Return why a package that is here does not do; empty if it does."""
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
    return f"{version} is older than {least}" if numbers(version) < numbers(least) else ""


def numbers(version: str) -> list[int]:
    """Return the leading numbers of a version."""
    return [int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:3]]


def normal(name: str) -> str:
    """Return the name of a package as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower().strip()


def read_wheel(path: Path) -> Wheel:
    """Read the name of a wheel and what it requires, without its extras."""
    with zipfile.ZipFile(path) as archive:
        (description,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = archive.read(description).decode().splitlines()
    required = [line.partition(":")[2] for line in lines if line.startswith("Requires-Dist:")]
    names = [re.match(r"\s*([\w.-]+)", line) for line in required if "extra ==" not in line]
    return Wheel(path, normal(path.name.split("-")[0]), tuple(normal(n[1]) for n in names if n))


def why_unfit(file: str) -> str:
    """Return why a wheel is for another Python or machine; empty if it is for this one.

    Its name ends in the tags for Python, for the binary interface, and for the platform, each
    perhaps several with dots between.
    """
    pythons, interfaces, platforms = (
        tag.split(".") for tag in file[: -len(".whl")].split("-")[-3:]
    )
    minor = sys.version_info.minor
    older = [int(tag[3:]) <= minor for tag in pythons if re.fullmatch(r"cp3\d+", tag)]
    if not {"py3", f"cp3{minor}"}.intersection(pythons) and not (
        "abi3" in interfaces and any(older)
    ):
        this = f"3.{minor}"
        return f"{file} is for another Python than {this}: make gpu-wheels GPU_PYTHON={this}"
    if "any" not in platforms and not any(p.endswith(platform.machine()) for p in platforms):
        return f"{file} is for another processor than {platform.machine()}"
    return ""
