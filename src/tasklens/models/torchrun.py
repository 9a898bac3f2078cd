"""Whether torchrun has launched this process; asked before torch is imported."""

import os


def launched_by_torchrun() -> bool:
    """Return whether this is one of several processes that torchrun has launched."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_other_rank() -> bool:
    """Return whether this is one of these processes, and not rank 0, which alone writes."""
    return launched_by_torchrun() and int(os.environ["RANK"]) > 0
