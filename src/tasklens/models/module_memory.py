"""Undo what the modules of a network remember of what they have read."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

#: Attributes that every module has, such as its mode and its hooks.
_COMMON = frozenset(nn.Module().__dict__)
_PLAIN = (bool, int, float, str, type(None), Tensor)


class ModuleMemory:
    """The buffers and plain attributes of a network's modules, as they are when this is made.

    Some networks change them as they read. Dynamic RoPE, for instance, keeps the frequencies of
    the longest row that it has read. The states of the next row then depend on that row.
    """

    def __init__(self, network: nn.Module) -> None:
        self._kept: list[_Kept] = []
        for module in network.modules():
            self._kept += [_Kept(module._buffers, name) for name in module._buffers]
            self._kept += [
                _Kept(module.__dict__, name)
                for name, value in module.__dict__.items()
                if name not in _COMMON and isinstance(value, _PLAIN)
            ]

    @contextmanager
    def fresh(self) -> Iterator[None]:
        """Restore what the modules remember, and again when the block ends."""
        self._restore()
        try:
            yield
        finally:
            self._restore()

    @torch.inference_mode()
    def _restore(self) -> None:
        for kept in self._kept:
            kept.restore()


class _Kept:
    """One value in a dictionary."""

    def __init__(self, holder: dict[str, Any], name: str) -> None:
        self.holder, self.name, self.value = holder, name, holder[name]
        if isinstance(self.value, Tensor):
            self.copy = self.value.detach().clone()
            self.version = _version(self.value)

    def restore(self) -> None:
        value, now = self.value, self.holder.get(self.name)
        if isinstance(value, Tensor) and not value.is_meta:
            if isinstance(now, Tensor) and (now.device, now.dtype) != (value.device, value.dtype):
                if now.is_meta:
                    return  # accelerate loads it when it is needed
                # The caller has moved the network.
                self.value, self.copy = (tensor.to(now).clone() for tensor in (value, self.copy))
                self.version, value = _version(self.value), self.value
            version = _version(value)
            if version is None or version != self.version:
                value.copy_(self.copy)
                self.version = _version(value)
        if now is not value:
            self.holder[self.name] = value


def _version(tensor: Tensor) -> int | None:
    """Return how often a tensor was changed in place; None if torch does not count it."""
    return None if tensor.is_inference() else tensor._version
