"""Find out, without importing torch, whether torchrun has launched this process."""

import os


def launched_by_torchrun() -> bool:
    """Return whether torchrun has launched several processes, and this is one of them."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_other_rank() -> bool:
    """Return True on ranks above 0, which train but write no files."""
    return launched_by_torchrun() and int(os.environ["RANK"]) > 0
