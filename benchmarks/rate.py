"""Measure the share of the machine's matrix-product rate that a training step reaches.

The shapes and types of the products of the step's linear maps are recorded: forward, gradient of
the input, gradient of the weights. Then each product is timed alone, in its fastest layout, in turn
with whole steps. The share is the time of the products alone over that of the step. A profile of a
few more steps shows the rest.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import islice, product
from typing import Any, NamedTuple

import torch
from common import Report, Result, begin, interleaved, medians, parser, sized, timed
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from tasklens.data.synthetic import make_dataset
from tasklens.models.gpt2 import make_model
from tasklens.models.training import Trainer

TARGETS = {128: ">= 0.5"}
#: Groups of the profile, each with parts of the operations' names; the first match counts.
GROUPS = {
    "products of the linear maps": ("aten::mm", "aten::addmm", "linear"),
    "products within attention": ("bmm", "scaled_dot_product", "flash"),
    "cross-entropy": ("nll_loss", "cross_entropy", "log_softmax", "argmax"),
    "softmax": ("softmax",),
    "GELU": ("gelu",),
    "layer norm": ("layer_norm",),
    "embedding, choice of targets": ("embedding", "index", "gather"),
    "optimiser, clipping": ("adam", "foreach", "Optimizer", "vector_norm"),
    "casts and copies": ("copy", "clone", "aten::cat", "aten::to", "repeat", "_pad", "contiguous"),
    "elementwise": ("aten::add", "aten::mul", "aten::sum", "fill", "aten::div", "zero", "where"),
}


class Product(NamedTuple):
    """Shape and type of a matrix product (m, k) @ (k, n)."""

    m: int
    k: int
    n: int
    dtype: torch.dtype

    @property
    def flops(self) -> int:
        """Number of floating-point operations."""
        return 2 * self.m * self.k * self.n


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counter of the matrix products that run in its context, forward and backward."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[Product] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Count a product and run it."""
        name = function.overloadpacket.__name__
        if name in ("mm", "addmm"):
            a, b = args[-2:]
            self.counts[Product(a.shape[0], a.shape[1], b.shape[1], a.dtype)] += 1
        elif name in ("linear", "_linear_pointwise", "mkldnn_linear"):
            a, b = args[:2]
            n, k = b.shape
            self.counts[Product(a.numel() // k, k, n, a.dtype)] += 1
        return function(*args, **(kwargs or {}))


def layouts(shape: Product) -> list[Callable[[], Tensor]]:
    """Return the product in each layout of its factors, by rows or by columns."""
    a, b = (
        torch.randn(shape.m, shape.k).to(shape.dtype),
        torch.randn(shape.k, shape.n).to(shape.dtype),
    )
    by_rows_or_columns = [(x, x.t().contiguous().t()) for x in (a, b)]
    return [partial(torch.mm, x, y) for x, y in product(*by_rows_or_columns)]


def fastest(shape: Product) -> Callable[[], Tensor]:
    """Return the product in its fastest layout."""
    return min(layouts(shape), key=lambda run: min(timed(run) for _ in range(4)))


def compare(width: int, rounds: int, report: Report) -> None:
    """Add the row of one width and print its breakdown."""
    settings = sized(width)
    dataset = make_dataset(settings.tasks, settings.data, seed=settings.seed)
    model = make_model(dataset, settings.model, seed=settings.seed)
    trainer = Trainer(model, dataset, settings.train, settings.seed)
    batch = next(trainer.batches())  # the same in every round, because the shapes depend on it
    with Products() as products:
        trainer.take_step(batch)
    counts = products.counts
    alone = {shape: fastest(shape) for shape in counts}

    def all_products() -> None:
        for shape, run in alone.items():
            for _ in range(counts[shape]):
                run()

    seconds = medians(
        interleaved({"step": lambda: trainer.take_step(batch), "products": all_products}, rounds)
    )
    flops = sum(shape.flops * count for shape, count in counts.items())
    share = seconds["products"] / seconds["step"]
    types = ", ".join(sorted({str(shape.dtype).removeprefix("torch.") for shape in counts}))
    report.add(
        Result(
            what=f"rate of a training step, width {width}",
            against=f"its {sum(counts.values())} products alone ({types})",
            ours=flops / seconds["step"] / 1e9,
            theirs=flops / seconds["products"] / 1e9,
            unit="GFLOP/s",
            ratio=share,
            target=TARGETS.get(width, ""),
            note=f"{flops / 1e9:.4g} GFLOP; step {seconds['step']:.3g} s, products "
            f"{seconds['products']:.3g} s",
        )
    )
    print_breakdown(trainer, width)


def print_breakdown(trainer: Trainer, width: int, steps: int = 3) -> None:
    """Print the time of a step by groups of operations."""
    some = list(islice(trainer.batches(), steps))
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for batch in some:
            trainer.take_step(batch)
    spent: Counter[str] = Counter()
    unnamed: Counter[str] = Counter()
    for event in profiled.key_averages():
        group = group_of(event.key)
        spent[group] += event.self_cpu_time_total
        if group == "other":
            unnamed[event.key] += event.self_cpu_time_total
    total = sum(spent.values())
    milliseconds = total / steps / 1e3
    print(f"  where a step of width {width} ({trainer.precision}) goes, of {milliseconds:.0f} ms:")
    for group, microseconds in spent.most_common():
        print(f"  {group:<30}{microseconds / total:>7.1%}{microseconds / steps / 1e3:>9.1f} ms")
    most = ", ".join(f"{key} {value / total:.1%}" for key, value in unnamed.most_common(4))
    print(f"  (most of other: {most})", flush=True)


def group_of(operation: str) -> str:
    """Return the group of an operation's name."""
    for group, parts in GROUPS.items():
        if any(part in operation for part in parts):
            return group
    return "other"


def main() -> None:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--widths", type=int, nargs="+", default=[128])
    options.add_argument("--rounds", type=int, default=7)
    arguments = options.parse_args()
    report = begin(arguments)
    for width in arguments.widths:
        compare(width, arguments.rounds, report)


if __name__ == "__main__":
    main()
