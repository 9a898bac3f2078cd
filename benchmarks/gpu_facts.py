"""Part facts of `make gpu`: what the machine, its driver and its packages are."""

import importlib
import os
import platform
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from gpu_part import Part, main

#: The modules that the parts import, with the packages that they come in.
MODULES = {
    **{name: name for name in ("torch", "numpy", "scipy", "numba", "pandas", "pyarrow")},
    **{name: name for name in ("pydantic", "pydantic_core", "tomlkit", "typer", "tqdm", "pytest")},
    **{name: name for name in ("safetensors", "threadpoolctl", "filelock", "lazy_loader")},
    **{name: name for name in ("matplotlib", "transformers", "tokenizers", "accelerate")},
    "sklearn": "scikit-learn",
}
QUERY = ("name", "driver_version", "memory.total", "power.limit", "clocks.max.sm")


def machine(part: Part) -> None:
    """Record Python, the processor and the disk."""
    cpuinfo, meminfo = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = meminfo.read_text().splitlines()[0].split()[1] if meminfo.exists() else "0"
    part.record(
        python=sys.version.split()[0],
        executable=sys.executable,
        system=platform.platform(),
        processor=models[0] if models else platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        memory_gib=round(int(memory) / 2**20, 1),
        disk_free_gib=round(shutil.disk_usage(part.work).free / 2**30, 1),
    )


def driver(part: Part) -> None:
    """Record the GPU as nvidia-smi describes it."""
    if part.device == "cpu" or not shutil.which("nvidia-smi"):
        part.record(nvidia_smi="not available")
        return
    command = ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader"]
    out = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout
    gpus = [
        dict(zip(QUERY, map(str.strip, line.split(",")), strict=False)) for line in out.split("\n")
    ]
    part.record(nvidia_smi=[gpu for gpu in gpus if len(gpu) == len(QUERY)])


def packages(part: Part) -> None:
    """Record the version of each package, or why it cannot be imported."""
    versions = {}
    for module, package in MODULES.items():
        try:
            importlib.import_module(module)
            versions[package] = metadata.version(package)
        except Exception as error:  # numba refuses a numpy in its own way
            versions[package] = f"cannot be imported: {str(error)[:200]}"
        part.record(versions=versions)
    import tasklens

    part.record(tasklens=[tasklens.__version__, *tasklens.__path__])


def device(part: Part) -> None:
    """Record what torch sees of the device, and its rate for products of matrices."""
    import torch

    facts: dict[str, Any] = {"torch": torch.__version__, "cuda": torch.version.cuda}
    if part.device != "cpu":
        facts["available"] = torch.cuda.is_available()
        properties = torch.cuda.get_device_properties(part.device)
        facts["name"] = properties.name
        facts["capability"] = f"{properties.major}.{properties.minor}"
        facts["memory_gib"] = round(properties.total_memory / 2**30, 1)
        facts["multiprocessors"] = properties.multi_processor_count
        facts["cudnn"] = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        facts["bf16"] = torch.cuda.is_bf16_supported()
        facts["tf32_in_matmul"] = torch.backends.cuda.matmul.allow_tf32
    part.record(device=facts)
    size = 512 if part.device == "cpu" else 8192
    rates = {}
    for name in ("float32", "bfloat16"):
        x = torch.randn(size, size, device=part.device, dtype=getattr(torch, name))
        rates[name] = round(2 * size**3 / 1e12 / _seconds(lambda x=x: x @ x, part.device), 2)
    part.record(product_tflops={"size": size, **rates})


def _seconds(product: Any, device: str) -> float:
    """Return the seconds of a product, the mean of ten after two that are not timed."""
    import torch

    def wait() -> None:
        if device != "cpu":
            torch.cuda.synchronize(device)

    for _ in range(2):
        product()
    wait()
    began = time.perf_counter()
    for _ in range(10):
        product()
    wait()
    return (time.perf_counter() - began) / 10


if __name__ == "__main__":
    main(__doc__, machine, driver, device, packages)
