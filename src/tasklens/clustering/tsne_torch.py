"""The exact t-SNE of `tsne.py` for many cells at once, in torch, for a GPU.

Affinities and start are made on the CPU by the same code, so numba has to be there. Torch rounds in
another order than the compiled loops do, which the descent amplifies: an embedding is as good as
the other, not the same.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from tasklens.clustering import tsne_kernels as kernels
from tasklens.clustering.numba_compile import one_thread
from tasklens.clustering.tsne import CHECK, Progress, learning_rate, pca_start, prepared

Floats = npt.NDArray[np.float32]

#: (N, N) float32 arrays that a cell needs at most: its affinities and three in the making.
ARRAYS = 4
#: Bytes for those of all cells of a batch, where the device is no GPU.
CPU_BYTES = 2**30


def tsne_batch(
    x: Sequence[Floats],
    *,
    perplexity: float,
    max_iter: int,
    pca: int,
    seeds: Sequence[int],
    device: torch.device | str,
) -> list[Floats]:
    """Embed the rows of each cell in the plane, as `tsne.tsne` does.

    Parameters
    ----------
    x : sequence of (N, D) float32 arrays
        Cells of one N. As many of them as fit into memory share a batch.
    perplexity, max_iter, pca
        As in `tsne.tsne`.
    seeds : sequence of int
        One for each cell.
    device : torch.device or str
        Where the descent runs.

    Returns
    -------
    list of (N, 2) float32 arrays
        In the order of the cells; zeros where all rows of a cell are equal.

    References
    ----------
    van der Maaten and Hinton, "Visualizing data using t-SNE", JMLR 9, 2008.
    """
    device = torch.device(device)
    embeddings = [np.zeros((len(cell), 2), dtype=np.float32) for cell in x]
    left = [i for i, cell in enumerate(x) if (cell != cell[0]).any()]
    if not left:
        return embeddings
    together = batch_size(len(x[0]), device)
    for first in range(0, len(left), together):
        batch = left[first : first + together]
        with one_thread():  # as in `tsne.tsne`: the same start
            points = [prepared(x[i], pca) for i in batch]
            starts = np.stack([pca_start(x, seeds[i]) for x, i in zip(points, batch, strict=True)])
            start = torch.from_numpy(starts).to(device)  # (B, N, 2)
            n = len(points[0])
            p = torch.empty((len(batch), n, n), device=device)  # (B, N, N)
            for row, cell in zip(p, points, strict=True):
                row.copy_(torch.from_numpy(kernels.affinities(cell, float(perplexity))))
        for i, y in zip(batch, descent(p, start, max_iter), strict=True):
            embeddings[i] = y.cpu().numpy()
    return embeddings


def batch_size(n: int, device: torch.device) -> int:
    """Return how many cells of `n` points fit into the memory of the device, at least one."""
    free = CPU_BYTES if device.type != "cuda" else torch.cuda.mem_get_info(device)[0] * 3 // 4
    return max(1, free // (ARRAYS * 4 * n * n))


def descent(p: torch.Tensor, start: torch.Tensor, max_iter: int) -> torch.Tensor:
    """Return the embeddings, (B, N, 2), that gradient descent reaches from `start`, (B, N, 2).

    `p` is (B, N, N). Each of the B cells has a schedule of its own, as in `tsne.descent`, and rests
    when it is done.
    """
    cells, n, _ = start.shape
    y = start.clone()  # (B, N, 2)
    update, gains = torch.zeros_like(y), torch.ones_like(y)
    progress = [Progress(max_iter) for _ in range(cells)]
    pace = learning_rate(n)
    iteration = 0
    while not all(cell.finished for cell in progress):
        exaggeration, momentum, moves = (
            torch.tensor(values, dtype=torch.float32, device=p.device)[:, None, None]  # (B, 1, 1)
            for values in (
                [cell.exaggeration for cell in progress],
                [cell.momentum for cell in progress],
                [float(not cell.finished) for cell in progress],
            )
        )
        steps = min(CHECK, max_iter - iteration)
        for step in range(steps):
            w = similarities(y)  # (B, N, N)
            z = w.sum(dim=2, keepdim=True).double().sum(dim=1, keepdim=True)  # (B, 1, 1)
            if step == steps - 1:
                losses = cross_entropy(p, w, z)  # (B,)
            gradient = gradient_of(p, w, z, y, exaggeration)
            gains = torch.where(update * gradient < 0, gains + 0.2, (gains * 0.8).clamp(min=0.01))
            gradient *= gains
            update = momentum * update - pace * gradient
            y += moves * update
        norms = gradient.double().square().sum(dim=(1, 2)).sqrt()  # (B,)
        iteration += steps
        for i, (loss, norm) in enumerate(zip(losses.tolist(), norms.tolist(), strict=True)):
            if not progress[i].finished and progress[i].look(iteration, loss, norm):
                update[i], gains[i] = 0, 1
    return y


def similarities(y: torch.Tensor) -> torch.Tensor:
    """Return 1 / (1 + |yi - yj|^2) for the pairs of points of (B, N, 2): (B, N, N), 0 for i = j."""
    # By differences: sums of norms and products would cancel for points near each other.
    w = (y[:, :, None, 0] - y[:, None, :, 0]).square_()
    other = y[:, :, None, 1] - y[:, None, :, 1]
    w.addcmul_(other, other).add_(1).reciprocal_().diagonal(dim1=1, dim2=2).zero_()
    return w


def cross_entropy(p: torch.Tensor, w: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Return - sum p log q for each cell, (B,)."""
    return z.flatten().log() - torch.xlogy(p, w).sum(dim=2).double().sum(dim=1)


def gradient_of(
    p: torch.Tensor, w: torch.Tensor, z: torch.Tensor, y: torch.Tensor, exaggeration: torch.Tensor
) -> torch.Tensor:
    """Return the gradient of the KL divergence, (B, N, 2), with p exaggerated."""
    forces = (exaggeration * p).addcmul_(w, (-1 / z).float()).mul_(w)  # (B, N, N)
    return 4 * (forces.sum(dim=2, keepdim=True) * y - forces @ y)
