"""Run attacks, one of each kind in turn, until the time is over; print the table."""

import argparse
import importlib
import itertools
import multiprocessing
import pkgutil
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

import tasklens
from campaign.attacks import ATTACKS
from campaign.attempt import Judged, Outcome
from campaign.directories import Directories
from campaign.table import Tried, table, write_table

#: A process that was forked has all imports.
_FORK = multiprocessing.get_context("fork")


def main() -> int:
    """Run the campaign; the exit status is 1 if an attack came to more than a refusal."""
    parser = argparse.ArgumentParser(prog="python -m campaign", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15, help="how long attacks are begun")
    parser.add_argument("--attacks", type=int, default=10**9, help="how many, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="attacks at a time")
    parser.add_argument(
        "--only", action="append", default=[], metavar="KIND[:NUMBER]", help="with all details"
    )
    parser.add_argument("--write", type=Path, metavar="FILE.md", help="put the table into a page")
    given = parser.parse_args()
    end = time.monotonic() + 60 * given.minutes
    preload()
    tried: list[Tried] = []
    with tempfile.TemporaryDirectory(prefix="campaign-") as root:
        with ProcessPoolExecutor(1, mp_context=_FORK) as pool:  # torch may start threads there
            directories = pool.submit(Directories, Path(root)).result()
        todo = itertools.islice(_numbers(given.only), given.attacks)
        for each in _try_all(directories, todo, given.seed, given.jobs, end):
            tried.append(each)
            if given.only or each.outcome > Outcome.REFUSED:
                print(each.text(given.seed), flush=True)
    tried.sort(key=lambda each: (list(ATTACKS).index(each.kind), each.number))
    print(table(tried))
    if given.write:
        write_table(given.write, tried, given.seed)
    return int(any(each.outcome > Outcome.REFUSED for each in tried))


def preload() -> None:
    """Import all that the commands import, so that a forked process need not."""
    for module in pkgutil.walk_packages(tasklens.__path__, "tasklens."):
        if not module.name.endswith(("__main__", "ray_workers")):
            importlib.import_module(module.name)
    import transformers

    for name in ("LlamaForCausalLM", "AutoModelForCausalLM", "PreTrainedTokenizerFast"):
        getattr(transformers, name)


def _numbers(only: list[str]) -> Iterator[tuple[str, int]]:
    """Yield the attacks, one of each kind in turn without end, or those that are asked for."""
    kinds = [each for each in only if ":" not in each] or ([] if only else list(ATTACKS))
    for each in only:
        kind, _, number = each.partition(":")
        if number:
            yield kind, int(number)
    if kinds:
        yield from ((kind, number) for number in itertools.count() for kind in kinds)


def _try_all(
    directories: Directories, todo: Iterator[tuple[str, int]], seed: int, jobs: int, end: float
) -> Iterator[Tried]:
    """Yield what came of the attacks, as they end; none begins after ``end``."""
    running: set[Future[Tried]] = set()
    with ProcessPoolExecutor(jobs, mp_context=_FORK) as pool:
        while True:
            while len(running) < jobs and time.monotonic() < end and (attack := next(todo, None)):
                running.add(pool.submit(_try, directories, seed, *attack))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


def _try(directories: Directories, seed: int, kind: str, number: int) -> Tried:
    began = time.monotonic()
    work = directories.root / "work" / f"{kind}-{number}"
    judged, what = Judged(), "the campaign itself"
    try:
        judged, what = ATTACKS[kind](directories, work, seed, number)
    except Exception:  # counted, so that the other attacks are tried
        judged.note(Outcome.TRACEBACK, traceback.format_exc())
    shutil.rmtree(work, ignore_errors=True)
    seconds = time.monotonic() - began
    return Tried(kind, number, what, judged.outcome, tuple(judged.notes), seconds)


if __name__ == "__main__":
    sys.exit(main())
