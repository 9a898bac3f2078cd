"""t-SNE to the plane, by scikit-learn's Barnes-Hut implementation."""

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE


def tsne(
    x: npt.NDArray[np.float32], *, perplexity: float, max_iter: int, pca: int, seed: int
) -> npt.NDArray[np.float32]:
    """Embed the rows of `x` in the plane.

    Only who is near whom carries meaning: sizes and distances of the clusters do not, and there
    is no map for further points.

    Parameters
    ----------
    x : (N, D) float32 array
        Finite points; equal rows are allowed.
    perplexity : float
        Less than N.
    max_iter : int
        At least 250.
    pca : int
        Principal components kept beforehand; 0 keeps `x` as it is.
    seed : int
        Not negative; the lower 32 bits count.

    Returns
    -------
    (N, 2) float32 array
        Zeros where all rows of `x` are equal, which leaves nothing to embed.

    References
    ----------
    van der Maaten, "Accelerating t-SNE using tree-based algorithms", JMLR 15, 2014.
    """
    if (x == x[0]).all():
        # The PCA start would be divided by its deviation, 0.
        return np.zeros((len(x), 2), dtype=np.float32)
    if 0 < pca < min(x.shape):
        x = PCA(n_components=pca, svd_solver="full").fit_transform(x)
        x = np.ascontiguousarray(x)  # (N, pca): sums over another layout would round differently
    if x.shape[1] == 1:
        x = np.pad(x, ((0, 0), (0, 1)))  # (N, 2): the PCA start needs two columns
    model = TSNE(
        n_components=2,
        perplexity=perplexity,
        max_iter=max_iter,
        init="pca",
        learning_rate="auto",
        method="barnes_hut",
        random_state=seed % 2**32,
        n_jobs=1,
    )
    embedding: npt.NDArray[np.float32] = model.fit_transform(x).astype(np.float32, copy=False)
    return embedding
