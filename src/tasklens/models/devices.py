"""Check the devices of this machine, and how much their memory holds."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from tasklens.core.errors import InputError
from tasklens.core.memory import free_memory
from tasklens.core.messages import short

#: Tokens of one forward pass on a CPU: many enough for efficient matrix products, few enough that
#: the memory is small and every core has some passes.
MAX_TOKENS = 2048
#: Tokens of one forward pass on a GPU, which has one thread and needs larger products.
MAX_TOKENS_GPU = 2**16
#: Numbers that a block stores per token, in widths of the residual stream.
WIDTHS_PER_TOKEN = 32


def check_device(device: str, key: str) -> None:
    """Raise InputError, with the name of the setting, if this machine has no such device."""
    if device == "cpu":
        return
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    number = device.partition(":")[2]
    # Of thousands of digits Python makes no number.
    if len(number) > 4 or int(number or 0) >= n_gpus:
        devices = ["cpu", *(f"cuda:{i}" for i in range(n_gpus))]
        raise InputError(
            f"{key} = {short(device)}: PyTorch {torch.__version__} sees {n_gpus} CUDA GPUs on this "
            f"machine: should be {' or '.join(devices)}"
        )


def multiplies_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies bf16 in hardware; False if PyTorch does not report it."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Not on ARM: some builds of PyTorch do not use its bf16 instructions.
    report: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(report.get("avx512_bf16") or report.get("amx_bf16"))


def default_max_tokens(device: torch.device) -> int:
    """Return the number of tokens of one forward pass, if the memory holds them."""
    return MAX_TOKENS if device.type == "cpu" else MAX_TOKENS_GPU


def tokens_that_fit(device: torch.device, width: int) -> int:
    """Return the estimated number of tokens of a forward pass that half of the memory holds."""
    fit = free_bytes(device) // 2 // (4 * WIDTHS_PER_TOKEN * width)
    return max(1, min(default_max_tokens(device), fit))


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a device; a number beyond any memory if it is not known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return free_memory()


def check_memory(n_bytes: int, device: torch.device, what: str) -> None:
    """Raise InputError if something, which the message names, needs more memory than is free."""
    free = free_bytes(device)
    if n_bytes > free:
        raise InputError(
            f"{what} need {n_bytes / 1e9:,.1f} GB of memory, but {free / 1e9:,.1f} GB are free on "
            f"{device}: give --dtype bfloat16, --device auto, or a machine with more"
        )


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generator of one device, and restore it when the block ends.

    `torch.manual_seed` would seed the generators of all GPUs, and `fork_rng` restores only some.
    """
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]
        index = torch.cuda.current_device() if device.index is None else device.index
        generator = torch.cuda.default_generators[index]
    else:
        generator = torch.default_generator
    before = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(before)


def holds_float32(model: Any) -> bool:
    """Return whether half of each device's free memory holds its weights as float32."""
    n_bytes: Counter[torch.device] = Counter()
    for parameter in model.parameters():
        n_bytes[parameter.device] += 4 * parameter.numel()
    return all(
        device.type != "meta" and n <= free_bytes(device) // 2 for device, n in n_bytes.items()
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the memory of a device was exhausted."""
    messages = (
        "out of memory",
        "not enough memory",
        "can't allocate memory",
        "status_alloc_failed",
    )
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        message in str(error).lower() for message in messages
    )
