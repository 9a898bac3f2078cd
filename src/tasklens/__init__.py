"""tasklens: does a causal language model sort what it reads by task.

The public names stand in ``__init__.pyi``. They are imported on first use, so that ``import
tasklens`` is quick.
"""

from typing import Any

import lazy_loader

from tasklens.core.files import check_system

__version__ = "0.3.0"

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    check_system()
    return _load(name)
