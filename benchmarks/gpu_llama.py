"""Part llama of `make gpu`: a Llama of 135M parameters with random weights reads labelled prompts.

The sizes are those of SmolLM-135M. A tokenizer of whole words is made on the spot, so that nothing
is fetched; random weights take as long as trained ones.
"""

import itertools
import json
import runpy
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from gpu_part import Part, main, run_tasklens

from tasklens.data.labelled_prompts import LabelledPrompts, PromptSettings, read_prompts
from tasklens.data.token_prompts import Prompts
from tasklens.data.tokenize import tokenize
from tasklens.models.harvest import harvest
from tasklens.models.hf_loading import load_subject
from tasklens.models.subject import Harvest

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "train_llama.py"
SIZE = {
    **{"hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536},
    **{"num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152},
}
SMOKE = {
    **{"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64},
    **{"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 4096},
}
PROMPTS = "tasks-in-words"
#: Prompts that are read on the CPU, too; prompts in all with the preset smoke.
COMPARED, FEW = 64, 192
#: What measuring is cut down to with the preset smoke.
QUICK = ("clusters.tsne=none", "clusters.n_init=1", "clusters.cluster_seeds=1")
TOKENS = (2**12, 2**14, 2**16, 2**18)


def make_model(part: Part) -> None:
    """Write a model with random weights in bf16, its tokenizer, and the prompts."""
    table = read_prompts(PromptSettings(files=(PROMPTS,)))
    began = time.perf_counter()
    tokenizer = runpy.run_path(str(EXAMPLE))["make_tokenizer"](table.text)
    config = transformers.LlamaConfig(
        **(SMOKE if part.preset == "smoke" else SIZE),
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
    for each in (model, tokenizer):
        each.save_pretrained(part.work / "llama")
    lines = _shipped().read_text().splitlines(keepends=True)
    step = len(lines) // FEW if part.preset == "smoke" else 1
    (part.work / "prompts.jsonl").write_text("".join(lines[::step]))
    part.record(
        parameters=sum(p.numel() for p in model.parameters()),
        make_seconds=round(time.perf_counter() - began, 2),
    )


def _shipped() -> Path:
    import tasklens.data

    (package,) = tasklens.data.__path__
    return Path(package) / "prompt_sets" / f"{PROMPTS}.jsonl"


def _prompts(part: Part) -> LabelledPrompts:
    return read_prompts(PromptSettings(files=(str(part.work / "prompts.jsonl"),)))


def harvests(part: Part) -> None:
    """Time loading and harvesting all states in bf16 and fp32; compare some with the CPU's."""
    table, results = _prompts(part), dict[str, Any]()
    for dtype in ("bfloat16", "float32"):
        began = time.perf_counter()
        subject = load_subject(part.work / "llama", device=part.device, dtype=dtype)
        loaded = time.perf_counter() - began
        prompts = tokenize(table, subject.tokenizer).prompts
        few = Prompts(prompts.ids[:COMPARED], prompts.position[:COMPARED])
        on_device = harvest(subject, few)  # the first pass is slower
        if part.device != "cpu":
            torch.cuda.reset_peak_memory_stats(part.device)
        with part.window(f"harvest in {dtype}"):
            began = time.perf_counter()
            harvest(subject, prompts)
            seconds = time.perf_counter() - began
        on_gpu = part.device != "cpu"
        peak = torch.cuda.max_memory_allocated(part.device) / 2**30 if on_gpu else None
        results[dtype] = {
            "load_seconds": round(loaded, 2),
            "prompts": len(prompts),
            "harvest_seconds": round(seconds, 3),
            "prompts_per_second": len(prompts) / seconds,
            "max_tokens": subject.max_tokens,
            "peak_allocated_gib": peak,
        }
        part.record(harvest=results)
        on_cpu = harvest(load_subject(part.work / "llama", dtype="float32"), few)
        results[dtype]["relative_to_fp32_on_the_cpu"] = _differences(on_device, on_cpu)
        part.record(harvest=results)


def _differences(ours: Harvest, theirs: Harvest) -> dict[str, float]:
    """Return of each state the largest distance as a part of the norm."""
    return {
        name: float((np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)).max())
        for name, a, b in ((n, s, theirs.states[n]) for n, s in ours.states.items())
    }


def probe(part: Part) -> None:
    """Measure the model by the command line, in bf16, and record the seconds of each stage."""
    out = part.work / "probe"
    quick = QUICK if part.preset == "smoke" else ()
    options = ["--device", part.device, "--dtype", "bfloat16", "--out", str(out)]
    options += itertools.chain.from_iterable(("--set", change) for change in quick)
    files = [str(part.work / "llama"), "--prompts", str(part.work / "prompts.jsonl")]
    began = time.perf_counter()
    try:
        with part.window("probe"):
            run_tasklens(part, "probe", *files, *options)
    finally:
        manifest = out / "manifest.json"
        marks = json.loads(manifest.read_text())["stages"] if manifest.exists() else {}
        seconds = {stage: mark["seconds"] for stage, mark in marks.items() if "seconds" in mark}
        wall = round(time.perf_counter() - began, 1)
        part.record(probe={"wall_seconds": wall, "seconds_by_stage": seconds})


def batch_sizes(part: Part) -> None:
    """Time the harvest in bf16 at several sizes of a forward pass, as far as the time goes."""
    table, rates = _prompts(part), dict[str, float]()
    for size in TOKENS if part.device != "cpu" else TOKENS[:1]:
        if part.left < 10:
            return
        subject = load_subject(
            part.work / "llama", device=part.device, dtype="bfloat16", max_tokens=size
        )
        prompts = tokenize(table, subject.tokenizer).prompts
        harvest(subject, prompts, names=("block1",))
        began = time.perf_counter()
        harvest(subject, prompts)
        rates[str(size)] = len(prompts) / (time.perf_counter() - began)
        part.record(prompts_per_second_by_max_tokens=rates)


if __name__ == "__main__":
    main(__doc__, make_model, harvests, probe, batch_sizes)
