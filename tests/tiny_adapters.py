"""Small LoRA adapters with random weights."""

import warnings
from pathlib import Path
from typing import Any

import torch


def make_adapter(base: Path, path: Path, seed: int = 0, **settings: Any) -> Path:
    """Save a LoRA adapter with random weights, and the merged model in PATH-merged."""
    import peft
    import transformers

    settings = {"task_type": "CAUSAL_LM", "r": 3, "lora_alpha": 5, **settings}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = transformers.AutoModelForCausalLM.from_pretrained(base)
        adapted = peft.get_peft_model(model, peft.LoraConfig(**settings))
        generator = torch.Generator().manual_seed(seed)
        for name, weight in adapted.named_parameters():
            if weight.requires_grad:
                noise = 0.3 * torch.randn(weight.shape, generator=generator)
                weight.data = weight.data + noise if "magnitude" in name else noise
        adapted.save_pretrained(path)
        adapted.merge_and_unload().save_pretrained(path.parent / f"{path.name}-merged")
    return path
