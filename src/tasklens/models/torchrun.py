"""Whether torchrun has started this process beside others; asked before torch is loaded."""

import os


def started() -> bool:
    """Say whether this is one of several processes that torchrun has started."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def follows() -> bool:
    """Say whether it is one of them, and not the first: it trains along, and writes nothing."""
    return started() and int(os.environ["RANK"]) > 0
