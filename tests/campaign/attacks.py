"""The attacks by kind: each is a function of its number and of the campaign's seed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

from campaign.attempt import Attempt
from campaign.command import Stop
from campaign.damage import DAMAGES, Target
from campaign.directories import Directories

#: Attacks with files of others in the directory: one in so many.
FOREIGN = 3
SIGNALS = ("SIGKILL", "SIGKILL", "SIGINT", "SIGTERM", "full")

Attack = Callable[[Directories, Path, int, int], tuple[Attempt, str]]


def damage(kind: str) -> Attack:
    """Return the attack that damages a file of a copy, reads it, and finishes it."""

    def attack(directories: Directories, work: Path, seed: int, number: int) -> tuple[Attempt, str]:
        files = [(case, name) for case in directories.attacked for name in case.files]
        Random(f"{seed} {kind}").shuffle(files)
        rng = Random(f"{seed} {kind} {number}")
        # A number of its own for each try: some damage cannot be done to each file.
        for i in range(len(files)):
            case, name = files[(number + i * 7919) % len(files)]
            shutil.rmtree(work, ignore_errors=True)
            attempt = Attempt(directories, case, work, rng, foreign=number % FOREIGN == FOREIGN - 1)
            target = Target(attempt.path / name, name, case, directories, attempt.beside, rng)
            done = DAMAGES[kind](target)
            if done is not None:
                break
        for reader in rng.sample(sorted(case.readers), min(2, len(case.readers))):
            attempt.read(reader)
        attempt.finish()
        return attempt, f"{case.name}: {name}: {done}"

    return attack


#: What is gone before a part is made again, in which the process is stopped.
GONE = {
    "report": ("frames.safetensors", "report.html"),
    "measure": ("measured", "scores.parquet"),
    "verify": ("verdict.json",),
    "plot": ("figures",),
}


def kill(part: str) -> Attack:
    """Return the attack that stops a command once or twice at a file operation."""

    def attack(directories: Directories, work: Path, seed: int, number: int) -> tuple[Attempt, str]:
        rng = Random(f"{seed} kill {part} {number}")
        foreign = number % FOREIGN == FOREIGN - 1
        reader = part if part in GONE else ""
        if reader:
            case = directories.cases[rng.choice(["run", "probe", "one"])]
            attempt = Attempt(directories, case, work, rng, foreign=foreign)
            for name in GONE[part]:
                path = attempt.path / name
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            most = 80
        else:
            kind = rng.choice(["probe", "one"]) if part == "probe" else part
            begun = [case for case in directories.attacked if case.kind == kind]
            case = rng.choice([directories.cases[kind], *begun[1:]])
            attempt = Attempt(directories, case, work, rng, empty=case is begun[0], foreign=foreign)
            most = directories.cases[kind].operations[""]
        stops = [Stop(rng.randint(1, most), rng.choice(SIGNALS)) for _ in range(rng.choice([1, 2]))]
        for i, stop in enumerate(stops):
            attempt.stop(stop, reader)
            if case.name == case.kind and i == 0 and not reader:
                attempt.plant()
        attempt.finish()
        return attempt, f"{case.name}: {', '.join(f'{s.how} at {s.at}' for s in stops)}"

    return attack


ATTACKS: dict[str, Attack] = {
    **{f"kill-{part}": kill(part) for part in ("run", "probe", "sweep", *GONE)},
    **{name: damage(name) for name in DAMAGES},
}
