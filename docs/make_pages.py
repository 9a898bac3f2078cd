"""Write the pages that are made from the code: `python docs/make_pages.py`."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tasklens.core.settings import SettingsBase
from tasklens.data.instances import SPLIT_NAMES
from tasklens.findings.rules import FINDINGS, RULES
from tasklens.findings.statistics import MIN_CHECKPOINTS, SATURATED
from tasklens.runs.settings import PRESETS, ModelRunSettings, TrainingRunSettings, load_settings

HERE = Path(__file__).parent
MADE = "Made by `python docs/make_pages.py`; a test fails when it drifts."
COMMANDS = (
    *("run", "probe", "compare", "report", "show", "verify", "follow"),
    *("data", "train", "measure", "plot", "sweep", "gather"),
)


def cli_page() -> str:
    """Return the help of every command."""
    page = f"# The command line\n\n{MADE}\n"
    for command in ("", *COMMANDS):
        words = [sys.executable, "-m", "tasklens", *([command] if command else []), "--help"]
        environment = os.environ | {"COLUMNS": "100", "TERM": "dumb"}
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
        text = "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())
        page += f"\n## `tasklens {command}`".rstrip(" `") + f"`\n\n```\n{text}\n```\n"
    return page.replace("python -m tasklens", "tasklens")


def settings_page() -> str:
    """Return a table of every setting, its meaning and its value in each preset."""
    presets = [load_settings(name) for name in PRESETS]
    page = (
        f"# Settings\n\n{MADE} Change one with\n`--set table.key=value`, or write a TOML file with "
        "these tables and run it.\n"
    )
    head = f"\n| key | meaning | {' | '.join(PRESETS)} |\n|---|---|{'---|' * len(PRESETS)}\n"
    page += head
    for field in TrainingRunSettings.model_fields:
        if not isinstance(getattr(presets[0], field), SettingsBase):
            page += _row(TrainingRunSettings, field, presets)
    for field in TrainingRunSettings.model_fields:
        inner = getattr(presets[0], field)
        if isinstance(inner, SettingsBase):
            page += f"\n## [{field}]\n{head}"
            tables = [getattr(preset, field) for preset in presets]
            for key in type(inner).model_fields:
                page += _row(type(inner), key, tables)
    return page


def probe_settings_page() -> str:
    """Return a table of every setting of a probe, its meaning and its value by default."""
    default = ModelRunSettings()
    page = (
        f"# Settings of a probe\n\n{MADE} Change one with\n`tasklens probe ... --set "
        "table.key=value`; the options of the command are short for some of them.\n"
    )
    head = "\n| key | meaning | default |\n|---|---|---|\n"
    page += head
    for field in ModelRunSettings.model_fields:
        if not isinstance(getattr(default, field), SettingsBase):
            page += _row(ModelRunSettings, field, [default])
    for field in ModelRunSettings.model_fields:
        inner = getattr(default, field)
        if isinstance(inner, SettingsBase):
            page += f"\n## [{field}]\n{head}"
            for key in type(inner).model_fields:
                page += _row(type(inner), key, [inner])
    return page


def findings_page() -> str:
    """Return what each finding is held to: statistics, thresholds and their reasons."""
    page = f"""# The findings as checks

{MADE}

`tasklens verify RUN [RUN ...]` holds them against runs that differ in their seed, prints the
verdicts, writes `verdict.json`, and exits with 0 only where all hold.

**A check** is a number of each run, averaged over the runs. It **holds** where its whole interval
is on the right side of the threshold, **fails** where all of it is on the wrong side, and is
**undecided** else, or where the runs lack what it needs. A finding is as its worst check.

**The interval** (95 %) is a percentile bootstrap over runs and instructions. Instructions, not
instances, are drawn anew within each task, because instances of one instruction share all but
their input; copies of an instruction make no pairs with each other, since these would raise any
ARI. Of n runs n - 1 are drawn, with replacement, so that the spread is that of a mean of n. With
three runs it reaches from the worst to the best: a finding holds when it does in the worst. With
one run it speaks of that network only; what another seed, or another rounding of the same one,
would give is not in it.

**Layers** 0 .. L are word + position and the blocks; the upper ones are the blocks above the
middle, the last included. **The best layer** is the one with the highest final ARI on the training
subset, so that validation scores are not the best of several by choice. **Checkpoints** count where
they are about evenly spaced, since those at powers of two crowd into the warm-up; a course needs
{MIN_CHECKPOINTS} of them. A curve is **saturated** from where it has made
{SATURATED:.0%} of its way to its highest value; **the rise** goes from step 0 to
the mean over the last quarter.

Shuffled tasks make findings 1 to 6 fail (`--shuffled` shows it on any run), and a planted table
makes each hold: both are tests.
"""
    numbers = iter(range(1, len(FINDINGS) + 1))
    for finding, sentence in FINDINGS.items():
        number = "3b" if finding.startswith("depth below") else str(next(numbers))
        page += f"\n## {number}. {finding}: {sentence}\n\n"
        page += "| number of a run | should be | on | why there |\n|---|---|---|---|\n"
        for rule in (rule for rule in RULES if rule.finding == finding):
            on = ", ".join(SPLIT_NAMES[split] for split in rule.splits)
            page += f"| {rule.statistic} | {rule.threshold} | {on} | {rule.reason} |\n"
    return page


def _row(kind: object, name: str, values: Sequence[object]) -> str:
    meaning = " ".join(kind.model_fields[name].description.split())  # type: ignore[attr-defined]
    plain = [getattr(value, name) for value in values]
    plain = [list(value) if isinstance(value, tuple) else value for value in plain]
    shown = [str(value).replace("|", "\\|") or '""' for value in plain]
    return f"| `{name}` | {meaning} | {' | '.join(shown)} |\n"


if __name__ == "__main__":
    (HERE / "cli.md").write_text(cli_page())
    (HERE / "settings.md").write_text(settings_page())
    (HERE / "probe-settings.md").write_text(probe_settings_page())
    (HERE / "findings.md").write_text(findings_page())
