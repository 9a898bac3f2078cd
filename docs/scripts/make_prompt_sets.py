"""Write the prompt sets: `python docs/scripts/make_prompt_sets.py`.

They are made from docs/data/tasks_in_words.toml.
"""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "docs" / "data" / "tasks_in_words.toml"
PROMPT_SETS = ROOT / "src" / "tasklens" / "data" / "prompt_sets"
SETS = {"tasks-in-words.jsonl": "phrasings", "tasks-in-words-equal.jsonl": "equal"}
EACH = 12  # inputs per group, phrasings per task, inputs per phrasing
TURN = (0, 1, 4)  # differ by 1, 3, 4, so two phrasings share at most one input of a group


def prompt_sets(path: Path = SOURCE) -> dict[str, str]:
    """Return the text of each file by its name."""
    source = tomllib.loads(path.read_text(encoding="utf-8"))
    check(source)
    return {
        name: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(source, kind))
        for name, kind in SETS.items()
    }


def rows(source: dict[str, Any], kind: str) -> Iterator[dict[str, object]]:
    """Yield the rows; each phrasing of a generic task has three inputs of every group."""
    for task, wordings in source["tasks"].items():
        groups = [group for group in source["groups"].values() if task in group["tasks"]]
        turn = range(EACH) if len(groups) == 1 else TURN
        for phrasing, instruction in enumerate(wordings[kind]):
            chosen = sorted((phrasing + i) % EACH for i in turn)
            for group in groups:
                inputs = list(group["inputs"].items())
                for word, answers in (inputs[i] for i in chosen):
                    output = answers[group["tasks"].index(task)]
                    yield {
                        "task": task,
                        "phrasing": phrasing,
                        "instruction": instruction,
                        "input": word,
                        "output": output,
                        "text": f"{instruction} {word} {output}",
                    }


def check(source: dict[str, Any]) -> None:
    """Raise a ValueError with all entries of the source that are wrong."""
    groups, tasks = source["groups"].values(), source["tasks"]
    inputs = [word for group in groups for word in group["inputs"]]
    wrong = [word for word in inputs if inputs.count(word) > 1 or not word.isalpha()]
    for group in groups:
        wrong += [task for task in group["tasks"] if task not in tasks]
        wrong += [] if len(group["inputs"]) == EACH else ["a group's size"]
        for word, answers in group["inputs"].items():
            right = len(answers) == len(group["tasks"]) and all(a.isalpha() for a in answers)
            wrong += [] if right else [word]
    taken = {word.lower() for word in inputs}
    for kind in SETS.values():
        wordings = [wording for task in tasks.values() for wording in task[kind]]
        wrong += [task for task, kinds in tasks.items() if len(kinds[kind]) != EACH]
        wrong += [wording for wording in wordings if wordings.count(wording) > 1]
        wrong += [w for w in wordings if taken & set(re.findall(r"\w+", w.lower()))]
    equal = [wording for task in tasks.values() for wording in task["equal"]]
    wrong += [wording for wording in equal if not re.fullmatch(r"[a-z]+( [a-z]+){5}", wording)]
    if wrong:
        raise ValueError(f"tasks_in_words.toml: {wrong}")


if __name__ == "__main__":
    for name, text in prompt_sets().items():
        (PROMPT_SETS / name).write_text(text, encoding="utf-8", newline="\n")
