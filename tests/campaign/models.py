"""Directories of models that are damaged, incomplete, or have files of other programs beside."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import gguf
import numpy as np
import transformers
from safetensors.numpy import save_file

from campaign.attempt import Judged, Outcome
from campaign.command import run
from campaign.contents import LFS, hostile
from campaign.directories import Directories, results
from campaign.inputs import Attack, drawn
from e2e.damage import CUT, EDIT
from tiny_adapters import make_adapter
from tiny_gguf import write_gguf


def _same(
    work: Path, d: Directories, model: Path, judged: Judged, reference: bool, *more: str | Path
) -> None:
    """Probe a model; if it is not refused, compare with another time, or with the whole model."""
    hashes = []
    for name in ("first",) if reference else ("first", "second"):
        (work / name).mkdir(parents=True)
        ended = run(work / name, d.stock.command(*more, "--out", "one", models=model))
        if judged.failed("probe", ended):
            return
        if ended.status:
            judged.refused(ended, {p.name for p in (work / name).rglob("*")})
            return
        hashes.append(_scores(work / name / "one"))
    if reference:
        hashes.append(_scores(d.cases["one"].path))
    different = sorted(n for n in hashes[0] | hashes[1] if hashes[0].get(n) != hashes[1].get(n))
    if different:
        judged.note(Outcome.DIFFERENT, f"others: {', '.join(different[:4])}")


def _scores(path: Path) -> dict[str, str]:
    return {n: h for n, h in results(path).items() if n.startswith("scores.")}


def _damage(file: Path, how: str, rng: Random, seed: int, number: int) -> str:
    """Damage a file of a model, and return what was done."""
    content, what = file.read_bytes(), how
    if how == "hostile" and file.suffix == ".json":
        content, what = hostile(content, rng)
    elif how == "hostile":  # the header of safetensors, behind its length
        length = int.from_bytes(content[:8], "little")
        header, what = hostile(content[8 : 8 + length], rng)
        content = len(header).to_bytes(8, "little") + header + content[8 + length :]
    elif how in ("edit", "cut"):
        is_edit = how == "edit" and file.suffix == ".json"
        change = drawn(EDIT[".json"] if is_edit else CUT, seed, number)
        content, what = change(content), f"{change}"[:150]
    if how in ("delete", "directory"):
        file.unlink()
        if how == "directory":
            file.mkdir()
    else:
        file.write_bytes({"empty": b"", "LFS": LFS}.get(how, content))
    return what


def model_file(d: Directories, work: Path, seed: int, number: int) -> tuple[Judged, str]:
    """Probe a model, one file of which is damaged."""
    rng = Random(f"{seed} model file {number}")
    model = work / d.stock.checkpoints[200].name
    shutil.copytree(d.stock.checkpoints[200], model)
    names = sorted(p.name for p in model.iterdir() if p.is_file())
    name = rng.choice([*names, "config.json", "model.safetensors", "tokenizer.json"])
    how = rng.choice(["hostile", "edit", "cut", "empty", "delete", "directory", "LFS"])
    what = _damage(model / name, how, rng, seed, number)
    judged = Judged()
    _same(work, d, model, judged, reference=False)
    return judged, f"{name}: {what}"


def _weights(path: Path) -> None:
    save_file({"theirs": np.zeros(3, np.float32)}, path)


def _text(content: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_text(content)

    return write


#: Files of other programs, none of which is the model's.
BESIDE: dict[str, Callable[[Path], None]] = {
    "optimizer.safetensors": _weights,
    "ema.safetensors": _weights,
    "optimizer.bin": _text("no tensors"),
    "scheduler.pt": _text("no tensors"),
    "training_args.bin": _text("no tensors"),
    "rng_state_0.pth": _text("no tensors"),
    "pytorch_model.bin": _text("no tensors"),
    "model.safetensors.lock": _text(""),
    "adapter_model.safetensors": _weights,
    "global_step200/mp_rank_00_model_states.pt": _text("no tensors"),
    "checkpoint-100/optimizer.pt": _text("no tensors"),
    "zero_to_fp32.py": _text("raise SystemExit('must not run')"),
    "modeling_own.py": _text("raise SystemExit('must not run')"),
    "latest": _text("global_step200"),
    "chat_template.jinja": _text("{{ ''.__class__.__mro__[1].__subclasses__() }}"),
    "generation_config.json": _text("{"),
    "README.md": _text("\udcff".encode("utf-8", "surrogateescape").decode("latin-1")),
    "model.onnx": _text("x"),
    "runs/events.out.tfevents.1": _text("x"),
    "notes.json": _text(json.dumps({"model_type": "bert"})),
}


def model_beside(d: Directories, work: Path, seed: int, number: int) -> tuple[Judged, str]:
    """Probe a model that has files of other programs beside: the scores are the same."""
    rng = Random(f"{seed} beside {number}")
    model = work / d.stock.checkpoints[200].name
    shutil.copytree(d.stock.checkpoints[200], model)
    names = rng.sample(sorted(BESIDE), rng.choice([1, 1, 2, 3]))
    for name in names:
        (model / name).parent.mkdir(exist_ok=True)
        BESIDE[name](model / name)
    judged = Judged()
    _same(work, d, model, judged, reference=True)
    return judged, f"{', '.join(names)} beside"


def gguf_file(d: Directories, work: Path, seed: int, number: int) -> tuple[Judged, str]:
    """Probe a model in a GGUF file with a damaged header, or a cut one."""
    rng = Random(f"{seed} gguf {number}")
    model = work / "model-200"
    shutil.copytree(d.stock.checkpoints[200], model)
    kind = rng.choice([gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16])
    transformers.utils.logging.disable_progress_bar()
    whole = transformers.AutoModelForCausalLM.from_pretrained(model)
    file = write_gguf(model / "model.gguf", whole, kind)
    (model / "model.safetensors").unlink()
    content = bytearray(file.read_bytes())
    header = gguf.GGUFReader(file).data_offset
    how = rng.choice(["flip", "flip", "number", "cut", "grow", "LFS", "whole"])
    i = rng.randrange(header)
    if how == "flip":
        content[i] ^= 1 << rng.randrange(8)
    elif how == "number":  # a length, a count or an offset
        content[i : i + 8] = rng.choice([2**63 - 1, 2**64 - 1, 2**32, 0]).to_bytes(8, "little")
    elif how == "cut":
        del content[rng.randrange(len(content)) :]
    elif how == "grow":
        content[i:i] = rng.randbytes(rng.choice([1, 8, 100]))
    file.write_bytes(LFS if how == "LFS" else bytes(content))
    judged = Judged()
    _same(work, d, model if rng.random() < 0.5 else file, judged, reference=False)
    return judged, f"{kind.name}: {how} at {i} of {header}"


def adapter_file(d: Directories, work: Path, seed: int, number: int) -> tuple[Judged, str]:
    """Probe a LoRA adapter, of which a file is damaged or a value of the configuration changed."""
    rng = Random(f"{seed} adapter {number}")
    base, adapter = d.stock.checkpoints[200], work / "checkpoint-200"
    transformers.utils.logging.disable_progress_bar()
    make_adapter(base, adapter, target_modules=["q_proj", "down_proj"])
    file = adapter / rng.choice(["adapter_config.json", "adapter_model.safetensors"])
    how = rng.choice(["hostile", "edit", "edit", "cut", "delete", "LFS"])
    what = _damage(file, how, rng, seed, number)
    judged = Judged()
    _same(work, d, adapter, judged, False, "--base", base)
    return judged, f"{file.name}: {what}"


MODEL_ATTACKS: dict[str, Attack] = {
    "model-file": model_file,
    "model-beside": model_beside,
    "gguf-file": gguf_file,
    "adapter-file": adapter_file,
}
