"""The compiled kernels give the same bytes wherever their arrays lie, on every processor."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core.registry import CPUDispatcher
from numpy.typing import NDArray

from tasklens.clustering import kmeans_kernels, numba_compile, tsne_affinities, tsne_kernels
from tasklens.clustering.tsne_affinities import affinities
from tasklens.core.seeds import stream

Kernel = Callable[..., Any]
Arrays = list[NDArray[Any]]


def kernels() -> dict[str, Any]:
    modules = (numba_compile, tsne_affinities, tsne_kernels, kmeans_kernels)
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, CPUDispatcher)
    }


def test_no_kernel_may_reorder_or_fuse_operations() -> None:
    assert {"joint", "conditional", "descend", "lloyd", "plusplus", "total"} <= set(kernels())
    for name, kernel in kernels().items():
        assert not kernel.targetoptions.get("fastmath"), name


def repeated_rows(n: int, d: int = 16) -> NDArray[np.float32]:
    """Return rows of which each is there twice, as in a layer that reads the input alone."""
    rows = stream(0, "rows", n).normal(size=(n // 2, d)).astype(np.float32)
    return np.concatenate([rows, rows])


@pytest.mark.parametrize("kernel", [tsne_affinities.joint, tsne_affinities.conditional])
@pytest.mark.parametrize("n", [8, 12, 24, 40])
def test_affinities_do_not_depend_on_other_blocks_in_memory(n: int, kernel: Kernel) -> None:
    """With sums in any order, arrays side by side changed last bits: at N = 8 in 167 of 500."""
    x, random = repeated_rows(n), stream(0, "gaps")
    expected, blocks = results(kernel, [x], (n - 1, 2.0)), []
    for _ in range(500):
        for size in random.choice([64, 4 * n, 4 * n * n], size=4) + random.integers(200, size=4):
            blocks.append(np.empty(size, np.uint8))
            if random.random() < 0.3:
                blocks.pop(int(random.integers(len(blocks))))
        assert results(kernel, [x], (n - 1, 2.0)) == expected


def placed(arrays: Arrays, offset: int) -> Arrays:
    """Return copies of the arrays, side by side in one block, the first at this byte."""
    block = np.zeros(sum(array.nbytes + 8 for array in arrays) + offset, dtype=np.uint8)
    copies = []
    for array in arrays:
        start = offset + -offset % array.itemsize  # compiled code needs aligned numbers
        copy = block[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        copy[...] = array
        copies.append(copy)
        offset = start + array.nbytes
    return copies


def calls() -> Iterator[tuple[Kernel, Arrays, tuple[Any, ...]]]:
    """Yield each kernel that Python calls, the arrays that it reads and writes, and the rest."""
    random = stream(0, "calls")
    for n in (7, 24, 70):
        x = np.concatenate([repeated_rows(n - n % 2), np.zeros((n % 2, 16), np.float32)])
        y = random.normal(size=(2, n)).astype(np.float32)
        ones, weights = np.ones_like(y), random.integers(1, 4, n).astype(np.float32)
        distances = x @ x.T
        kmeans_kernels.to_distances(distances, x)
        centres = np.arange(3, dtype=np.int32)
        labels = random.integers(3, size=n).astype(np.int32)
        for dense in (0, 1):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(tsne_affinities, "DENSE", dense)
                p = affinities(x, 5, 2.0)
            yield tsne_kernels.descend, [*p, y, 0 * y, ones], (30, 12.0, 0.5, 50.0)
            yield tsne_kernels.forces, [*p, y, 0 * y, 0 * y], ()
            yield tsne_kernels.cross_entropy, [*p, y], (3.0,)
        for k in (5, n - 1):
            yield tsne_affinities.joint, [x], (k, 2.0)
            yield tsne_affinities.conditional, [x], (k, 2.0)
        yield kmeans_kernels.to_distances, [x @ x.T, x], ()
        yield kmeans_kernels.plusplus, [distances, weights, random.random((3, 4))], ()
        for few in (2, 16):
            columns = np.ascontiguousarray(x.T[:few])
            yield kmeans_kernels.lloyd, [distances, columns, weights, centres], (300, 1e-9)
        yield kmeans_kernels.sum_of_squares, [x, weights, labels], (3,)


def results(kernel: Kernel, arrays: Arrays, rest: tuple[Any, ...]) -> list[bytes]:
    """Return the bytes of all that a kernel returns or writes."""
    value = kernel(*arrays, *rest)
    values = value if isinstance(value, tuple) else (value,)
    return [np.asarray(v).tobytes() for v in (*values, *arrays) if v is not None]


def test_kernels_do_not_depend_on_where_their_arrays_lie() -> None:
    for kernel, arrays, rest in calls():
        expected = results(kernel, [array.copy() for array in arrays], rest)
        for offset in range(0, 64, 4):
            assert results(kernel, placed(arrays, offset), rest) == expected, (kernel, offset)


PROGRAM = """
import hashlib
from test_kernel_bytes import calls, results
digest = hashlib.sha256()
for kernel, arrays, rest in calls():
    for content in results(kernel, arrays, rest):
        digest.update(content)
print(digest.hexdigest())
"""


@pytest.mark.long
def test_kernels_do_not_depend_on_the_processor_the_compiler_or_the_cache(tmp_path: Path) -> None:
    """Code for the oldest processor, without vectors, and from the cache round equally."""
    cached = {"NUMBA_CACHE_DIR": str(tmp_path / "native")}
    others = [
        {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
        {"NUMBA_LOOP_VECTORIZE": "0"},
    ]
    digests = []
    for i, variables in enumerate([cached, cached, *others]):
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / str(i))} | variables
        command = [sys.executable, "-c", PROGRAM]
        directory = Path(__file__).parent
        output = subprocess.check_output(command, env=environment, cwd=directory, text=True)
        digests.append(output.strip())
    assert list((tmp_path / "native").rglob("*.nbi")), "the first has compiled, and kept it"
    assert digests == [digests[0]] * 4
