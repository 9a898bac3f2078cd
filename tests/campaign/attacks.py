"""The attacks by kind: each is a function of its number and of the campaign's seed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

from campaign.arguments import ARGUMENT_ATTACKS
from campaign.attempt import PRODUCTS, Attempt, Judged, Outcome
from campaign.command import Stop, run
from campaign.damage import DAMAGES, Damage, Target
from campaign.directories import Case, Directories
from campaign.inputs import INPUTS, Attack
from campaign.models import MODEL_ATTACKS
from campaign.surroundings import SURROUNDING_ATTACKS
from campaign.trees import damage_tree, edit_manifest, falsify, replace_lock

#: A number of attacks of a kind goes through the files in steps of this, a prime.
STRIDE = 7919
#: Attacks with files of others in the directory: one in so many.
FOREIGN = 3
SIGNALS = ("SIGKILL", "SIGKILL", "SIGINT", "SIGTERM", "full")


def damage(kind: str, change: Damage, names: Callable[[Case], list[str]]) -> Attack:
    """Return the attack that damages a file of a copy, reads it, and finishes it."""

    def attack(directories: Directories, work: Path, seed: int, number: int) -> tuple[Judged, str]:
        targets = [(case, name) for case in directories.attacked for name in names(case)]
        Random(f"{seed} {kind}").shuffle(targets)
        rng, n = Random(f"{seed} {kind} {number}"), len(targets)
        # Some damage cannot be done to each file: the next one is tried.
        for i in range(number * STRIDE, number * STRIDE + n):
            case, name = targets[i % n]
            shutil.rmtree(work, ignore_errors=True)
            attempt = Attempt(directories, case, work)
            if _is_foreign(number):
                attempt.plant()
            done = change(Target(attempt.path, name, case, directories, attempt.beside, rng))
            if done is not None:
                break
        attempt.watch()
        for reader in rng.sample(sorted(case.readers), min(2, len(case.readers))):
            attempt.read(reader)
        attempt.finish()
        return attempt, f"{case.name}: {name or 'as a whole'}: {done}"

    return attack


def forge(directories: Directories, work: Path, seed: int, number: int) -> tuple[Judged, str]:
    """Change a value of a manifest, with the right hash of it: nothing but one line may follow.

    A person who does this can also forge results, so that these are not compared.
    """
    rng = Random(f"{seed} manifest {number}")
    case = rng.choice(directories.attacked)
    attempt = Attempt(directories, case, work)
    name = rng.choice([file for file in case.files if file.endswith("manifest.json")])
    done = edit_manifest(Target(attempt.path, name, case, directories, attempt.beside, rng))
    commands = [case.readers[reader] for reader in rng.sample(sorted(case.readers), 3)]
    for command in (*commands, case.command):
        ended = run(attempt.above, command)
        if not attempt.failed(str(command[0]), ended) and ended.status == 2:
            attempt.note(Outcome.REFUSED, ended.err.strip()[:500])
    return attempt, f"{case.name}: {name}: {done}"


def kill(part: str) -> Attack:
    """Return the attack that stops a command once or twice at a file operation."""

    def attack(directories: Directories, work: Path, seed: int, number: int) -> tuple[Judged, str]:
        rng = Random(f"{seed} kill {part} {number}")
        reader = part if part in PRODUCTS else ""
        if reader:
            case = directories.cases[rng.choice(["run", "probe", "one"])]
            attempt = Attempt(directories, case, work)
            attempt.make_due(part)
            most = 80
        else:
            kind = rng.choice(["probe", "one"]) if part == "probe" else part
            begun = [case for case in directories.attacked if case.kind == kind]
            case = rng.choice([directories.cases[kind], *begun[1:]])
            attempt = Attempt(directories, case, work, empty=case is begun[0])
            most = directories.cases[kind].operations[""]
        if _is_foreign(number):
            attempt.plant()
        attempt.watch()
        stops = [Stop(rng.randint(1, most), rng.choice(SIGNALS)) for _ in range(rng.choice([1, 2]))]
        for stop in stops:
            attempt.stop(stop, reader)
            if _is_foreign(number):  # before, there may be no directory
                attempt.plant()
        attempt.finish()
        return attempt, f"{case.name}: {', '.join(f'{s.how} at {s.at}' for s in stops)}"

    return attack


def _is_foreign(number: int) -> bool:
    return number % FOREIGN == FOREIGN - 1


def _files(case: Case) -> list[str]:
    return case.files


ATTACKS: dict[str, Attack] = {
    **{f"kill-{part}": kill(part) for part in ("run", "probe", "sweep", *PRODUCTS)},
    **{kind: damage(kind, change, _files) for kind, change in DAMAGES.items()},
    "tree": damage("tree", damage_tree, lambda case: case.directories),
    "lock": damage("lock", replace_lock, lambda case: [".lock"]),
    "manifest": forge,
    "marks": damage("marks", falsify, lambda case: [""]),
    **INPUTS,
    **ARGUMENT_ATTACKS,
    **MODEL_ATTACKS,
    **SURROUNDING_ATTACKS,
}
