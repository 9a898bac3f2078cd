"""Write the pages that are made from the code: `python docs/scripts/make_pages.py`."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from rates.section import errors_section

from tasklens.cli.main import app
from tasklens.core.settings import SettingsBase
from tasklens.data.instances import JUDGED
from tasklens.findings.headline import IN_PART, SORTED
from tasklens.findings.one_model import MODEL_FINDINGS, MODEL_RULES
from tasklens.findings.rules import FINDINGS, RULES, Rule
from tasklens.findings.statistics import MIN_CHECKPOINTS, SATURATED
from tasklens.findings.use import USE, USE_RULES
from tasklens.runs.settings import PRESETS, ModelRunSettings, TrainingRunSettings, load_settings

DIRECTORY = Path(__file__).parents[1] / "reference"
NOTICE = "Made by `python docs/scripts/make_pages.py`; a test fails when it drifts."
COMMANDS = [c.name or getattr(c.callback, "__name__", "") for c in app.registered_commands]


#: The keys of the JSON document of each command, and what they hold.
JSON_KEYS = {
    "show": {
        "run": "path",
        "kind": "`run` or `probe`",
        "seed": "root seed",
        "steps": "steps of the checkpoints",
        "step names": "names of the steps that are no training steps, by step",
        "scores": "records of the last step, or of each stage of one model: `metric`, `split`, "
        "`layer` (a hidden state, a control, or `model`), `space`, `position`, `k`, `step`; "
        "`mean`, `low` and `high` over `n` seeds, `low` and `high` of `ari` also over near-best "
        "starts; `first`, the mean at the first step",
    },
    "run, probe": {
        "run, kind, seed, steps, scores": "as for `show`",
        "verdict": "as for `verify`, without `file`; null without the hidden states it needs",
        "differences": "of stages of one model only: as for `compare` of a single run",
        "report": "path of the page",
        "figure": "path of Figure 1",
    },
    "verify": {
        "headline": "the result in one sentence",
        "title": "the result in some words",
        "holds": "whether all findings hold",
        "doubt": "why the scores mean nothing; otherwise empty",
        "runs": "`run` and `seed` of each",
        "confidence": "of the intervals",
        "intervals over": "`runs`, the units (`instructions`, `prompts`, or others), "
        "`near-best starts`, as far as known",
        "where": "of one model: the best `layer`, the split it was `chosen on`, `best in`: the "
        "`share` of resampled copies by `layer`, the layers that are `not distinguishable`, and "
        "`measurements`, as below; null for a series",
        "not judged": "splits of unseen kinds, on which no finding is judged",
        "stages": "the verdict on each stage of one model, by name; otherwise empty",
        "findings": "`finding`, `sentence`, `verdict`, and `checks` with `statistic`, `split`, "
        "`verdict`, `each` run's number, `value`, `low`, `high`, thresholds `above` and `below`, "
        "`reason`, `note`",
        "half way": "`what`, `split`, `each`, `step`, `low`, `high`",
        "unseen data": "measurements on each unseen split, as below",
        "use": "`untested`, the reason if it was not tested; `layers`, the best layer of each run; "
        "`edited`: `split`, its `pairs`, those that the model is `able` to do, and `errors`; "
        "`findings`, as above; `measurements` with `what`, `split`, `each`, `value`, `low`, `high`",
        "file": "path of the verdict",
    },
    "follow": {
        "run": "path",
        "layer": "the hidden state",
        "split": "the split",
        "space": "`raw` or `tsne`",
        "position": "the measured position",
        "steps": "steps of the checkpoints",
        "tasks": "`task`, the step at which it `formed` or null, its `overlap` at each step",
        "splits": "clusters that split on the way to each step but the first",
        "merges": "clusters that merged on the way to each step but the first",
    },
    "compare": {
        "runs": "both paths",
        "settings": "both values of each setting that differs, by key",
        "ari": "`split`, `layer` (a hidden state, or `best`), `space`, `first`, `second`, "
        "`difference`, `low`, `high`",
        "decoded": "the same of the linear classifier",
        "accuracy": "the same of the models",
        "best": "`layer` and `space` of each run's best hidden state",
        "best_layers": "the layer that `best` is of, in each run",
        "verdicts": "that of each run, as for `verify`",
    },
    "compare, of a single run": {
        "run": "path",
        "differences": "for each pair: `first`, `second`, their `steps`, and `ari`, `decoded`, "
        "`accuracy`, `best`, `best_layers` as above",
    },
    "run --dry-run": {
        "parameters": "of the model",
        "training instances": "their number",
        "checkpoints": "their steps",
        "checkpoints with weights": "their steps",
        "seconds": "`low` and `high` by stage",
        "bytes": "by kind of file",
        "busy": "why the seconds are not those of an idle machine; otherwise empty",
    },
    "probe --dry-run": {
        "models": "`step` and `name` of each, and `stage`, the name of a stage",
        "prompts": "their number",
        "labels": "their names",
        "splits": "prompts by split",
        "special tokens": "which of the tokenizer's special tokens are added, and to how many",
        "rendered": "the first text, if a chat template has written it, or null",
        "positions": "of each `position`: `tokens`, with `min`, `max` and `mean` number of tokens "
        "up to the measured one; `known outputs`, the prompts whose output is known, or null; "
        "`over`, `last` or `mean`; `examples`, some prompts, what is measured in brackets",
    },
    "series": {
        "series": "the name on the hub, or the directory",
        "revisions": "`revision`, `step` and `tokens` by its name, or null; `commit`; `bytes` and "
        "`sha256` of the weights, null on the disk if their sizes differ; what is `odd`",
        "odd": "what is odd about the series, as sentences",
    },
    "prompts": {
        "kind": "`icl`, `chat` or `plain`",
        "seed": "seed of what was drawn",
        "shots": "examples before the input",
        "forms": "their names",
        "first tokens differ": "true if a tokenizer has checked it, otherwise null",
        "families": "of each `family`: its `tasks`, the number of `inputs` and `contexts`, of "
        "`known inputs`, and of those `left out` by reason",
        "splits": "prompts by split",
        "example": "`text` or `messages`, `output` and `label` of a prompt",
        "file": "path of the prompts",
    },
    "sweep --dry-run": {"runs": "`run`, `seed`, `settings` that vary, whether it is `done`"},
    "sweep": {
        "files": "paths of tables and figures",
        "runs": "as for `sweep --dry-run`",
        "failed": "reasons by run",
    },
    "sweep --shard": {
        "shard": "as it was given",
        "runs": "their number",
        "failed": "reasons by run",
    },
    "gather": {
        "files": "paths of tables and figures",
        "runs": "as for `sweep --dry-run`",
        "missing": "runs that are not done",
    },
}


def cli_page() -> str:
    """Return the help of every command."""
    page = f"# The command line\n\n{NOTICE}\n"
    for command in ("", *COMMANDS):
        arguments = [sys.executable, "-m", "tasklens", *([command] if command else []), "--help"]
        environment = os.environ | {"COLUMNS": "100", "TERM": "dumb"}
        done = subprocess.run(
            arguments, capture_output=True, text=True, check=True, env=environment
        )
        text = "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())
        page += f"\n## `tasklens {command}`".rstrip(" `") + f"`\n\n```\n{text}\n```\n"
    return page.replace("python -m tasklens", "tasklens") + _output_section()


def _output_section() -> str:
    """Return what goes to which stream, and the keys of the JSON documents."""
    section = """
## Output

Results go to standard output. Progress, notes, warnings and errors go to standard error: a bar on a
terminal, otherwise a line as a stage begins and ends and one per 30 seconds meanwhile. `run` and
`probe` end with the seconds of each stage ([The run directory](run-directory.md)). Verdicts are
coloured on a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`. Text from files and paths is
shown and not obeyed: an escape sequence is written out (`\\x1b`), also in a pipe. `--json` has the
text itself. The exit status is 0, or

- 1 if a finding does not hold, or a run or a cell failed; the group use counts only with
  `verify --require use`;
- 2 for an error in what was asked for, which is one line;
- 130 after Ctrl-C, 141 if the reader of standard output has left.

Hidden states can be written as `block5`, `5` or `layer 5`, `embed` also as `0`; splits as
`val_subset`, `val` or `validation`. Tables, figures and pages use the first form.

## JSON

With `--json` a command prints one document. Numbers have all their digits; one that JSON does not
have, such as NaN, is null.

| command | key | content |
|---|---|---|
"""
    for command, keys in JSON_KEYS.items():
        for key, content in keys.items():
            section += f"| `{command}` | `{key}` | {content} |\n"
    return section


def settings_page() -> str:
    """Return a table of every setting, its meaning and its value in each preset."""
    presets = [load_settings(name) for name in PRESETS]
    page = (
        f"# Settings\n\n{NOTICE} Change one with\n`--set table.key=value`, or write a TOML file "
        "with these tables and run it.\n"
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
        f"# Settings of a probe\n\n{NOTICE} Change one with\n`tasklens probe ... --set "
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
    """Return the rules of each finding: statistics, thresholds and their reasons."""
    page = f"""# The findings as checks

{NOTICE}

`tasklens verify RUN [RUN ...]` tests them on runs that differ in their seed. It prints the verdicts
and writes `verdict.json`. The exit status is 0 only if all findings hold. [One model](#one-model)
has other findings than a training.

**A check** is a number of each run, averaged over the runs. It **holds** if its whole interval is
on the right side of the threshold, and **fails** if all of it is on the wrong side. Otherwise, or
if data are missing, it is **undecided**. A finding takes the verdict of its worst check.

**A model that has not learned its tasks** has no clusters to judge. `tasklens run` does not test
the findings on it. That is so if its accuracy on train_subset has made less than a tenth of the way
from chance to 1; chance is the share of the commonest output. `tasklens verify` tests all runs.

**The interval** (95 %) is a percentile bootstrap over runs and instructions. Instructions are drawn
with replacement within each task. Instances are not drawn, because the instances of an instruction
differ only in their input. Copies of an instruction make no pairs with each other, which would
raise any ARI. Of labelled prompts, the units of `prompts.group` are drawn. Of two kinds, such as
contexts and inputs, both are, and a prompt counts as often as the product of the two counts
([intervals](../how-to/own-prompts.md#intervals)). Of n runs, n - 1 are drawn with
replacement, so that the variance is that of a mean of n. With one run the interval is that of this
network only. It does not contain the effect of another seed, or of rounding.

**Student's t.** Draws of few runs cannot reach beyond the worst and the best of them. The interval
of a check therefore also contains that of Student's t of the runs' numbers, with n - 1 degrees of
freedom. It may reach beyond what is possible, such as an ARI above 1. Numbers that are measured
beside and not judged, figures and tables of effects have the bootstrap only. [How often the checks
are wrong](#how-often-the-checks-are-wrong) stands below.

**The choice among near-best starts** is in the interval, too. KMeans' own criterion hardly tells
partitions apart whose inertia is within 1 % of the least of all starts. Their ARI may differ.
Each number is computed again with other partitions in all cells: those with the lowest ARI, those
with the highest, and one of both that is drawn for each cell and copy. The last is for numbers that
compare cells, such as a gap between splits. The interval contains all of theirs. The best layer is
that of the kept clusters. Tables of scores from before have no near-best starts.

**Layers** are `embed` (number 0), which is word + position, and the blocks (1 to L). The upper
layers are the blocks above the middle, with the last block. **The best layer** has the highest
final ARI on `train_subset`, so that the scores of the other splits are free of selection.
**Checkpoints** count if they are about evenly spaced: those at powers of two are dense during the
warm-up. A course needs {MIN_CHECKPOINTS} of them. A curve is **saturated** once it has made
{SATURATED:.0%} of its
way to its highest value. **The rise** goes from step 0 to the mean over the last quarter.

Two tests check the findings: with shuffled tasks findings 1 to 6 fail (`--shuffled` does this with
any run), and with a planted table every finding holds. With two runs, Student's t is so wide that a
finding on shuffled tasks may be undecided.
"""
    numbers = iter(range(1, len(FINDINGS) + 1))
    for finding, sentence in FINDINGS.items():
        number = "3b" if finding.startswith("depth below") else str(next(numbers))
        page += f"\n## {number}. {finding}: {sentence}\n\n{_rules_table(RULES, finding)}"
    page += UNJUDGED_SECTION + UNSEEN_SECTION + MODEL_SECTION
    for finding, sentence in MODEL_FINDINGS.items():
        page += f"\n### {finding}: {sentence}\n\n{_rules_table(MODEL_RULES, finding, ROLES)}"
    page += USE_SECTION
    for finding, sentence in USE.items():
        page += f"\n### {finding}: {sentence}\n\n{_rules_table(USE_RULES, finding)}"
    return page + MEASUREMENTS_SECTION + HEADLINE_SECTION + errors_section()


UNSEEN_SECTION = """
## Unseen data: do clusters help, and where does it lie?

On each unseen split `verify` states numbers with intervals and without thresholds, also in
`verdict.json` ("unseen data"). They cannot fail. They are those of the last checkpoint, in the best
layer of each run:

- the accuracy, the ARI, and the accuracy of the linear probe;
- **do clusters help?** The number of wrong answers, and an area under the ROC curve. The distance
  to the own centroid tells wrong answers from right ones with this area: 0.5 is nothing, 1 all. A
  centroid is the mean state of a task on the first split. A handful of errors gives a wide
  interval, and none gives no area. A distance needs no clusters: compare the area with that of
  layers that have none. All tasks share one scale: an area above 0.5 may also come from
  tasks that are spread more and known less. `Run.per_task` has the area within each task;
- **where does it lie?** The share of the states in the span of the known centroids: of the squared
  length of the state minus the mean of the centroids. A state of random direction has (T - 1) / D
  of it, with T tasks and D dimensions: 0.07 with 10 tasks and 128 dimensions. Known tasks do not
  have 1: what a state holds beside the task, such as the input, is outside. The other end to
  compare with is therefore the share on the first split.

The table of scores has these at every checkpoint and hidden state, as `error_auroc`, `errors` and
`span_share`, and on the first split, too. There an instance is compared with the mean of the other
instances of its task, because the centroid contains it. More of them are in the table:

- `task_ari_accuracy`: do tasks with a cluster have more right answers? It is the rank correlation,
  over tasks, of two numbers of a task: its accuracy and its ARI. The ARI of a task is that of two
  partitions, the task and the rest, and one cluster and the rest. The cluster with the highest
  counts, so that a task that is split or shares its cluster has less than 1. By chance it is above
  0: 0.04 with 10 tasks and 10 clusters of 1,000 instances. With 10 tasks, a correlation of less
  than 0.65 is not distinguishable from none (5 %, two-sided). There is none if all tasks have the
  same accuracy or the same ARI;
- `span_share_random`: the share of a state of random direction;
- `nearest_task_share`: do the instances of a task have the same known task nearest to them? It is
  the share of the commonest, a mean over tasks;
- `answer_of_nearest`: how often the answer is what the nearest known task answers to this input;
  `answer_of_nearest_random` is the same of a task drawn at random. Training runs have both;
- `centroid_task`: how often the own task is the nearest.

An unseen task has no right answer and no centroid, so that it has no accuracy, errors and area: it
has a place only. `load_run(RUN).per_task(split="unseen_task_subset")` has a row per task.
"""

#: What stands for the splits of a training run, in a run of one model.
ROLES = dict(zip(JUDGED, ("first", "second", "third"), strict=True))

UNJUDGED_SECTION = """
## Not judged: unseen distributions, unseen tasks

A run may have instances of expressions that training never sees (`tasks.unseen_distributions`), or
of tasks that it never sees (`tasks.unseen_tasks`). On these splits scores are measured, and edits
are made, but no finding is judged. `tasklens verify` names them in a line.

- **Unseen distributions.** The expressions of one task are drawn independently of each other.
  Nothing in an instruction of an unseen one tells its task, so that a sound model cannot generalise
  to it. A check that no sound model can pass would be none.
- **Unseen tasks** have no right answer and no cluster from training.

A check for a leak suggests itself: on unseen distributions the task should not be decodable above
chance. It is not made. If a model takes all instructions of an expression for those of one task,
then expressions are the units, and they are few. Of ten expressions of ten tasks one is right in
the mean, but three or more are in 7 % of worlds that leak nothing. Over many worlds such a check
would test the draw of the data, which tests of the code do directly.
"""

MODEL_SECTION = """
## One model

A model is no series of checkpoints, with or without its untrained twin (`--untrained`). Most of the
findings above are of a training, and are not tested on it. Four others are: these are the rules of
a run of `tasklens probe` with one model, or with models whose order is not that of a training. Of
several, the last is judged. The splits are those of the prompts, in their order; the first one
chooses the best layer.

**Where the clusters are** is stated first, and not judged: the best layer, with its ARI on each
split; in which share of the resampled copies each layer is the best; and the layers that are not
distinguishable from it. The interval of their difference in ARI contains 0. Only hidden states
count here, and not their t-SNE maps. Where the linear classifier has its highest accuracy is
stated, too, and may be another layer.

**Controls.** *Layer 0* (`embed`) knows the input token only: of a model that knows words, it may
sort them into verbs and countries. *The input's class* is what the input can tell at most about the
task. Inputs that share a task are of one class. If every task is asked over the same inputs, there
is one class, and the ARI is 0. If each task has inputs of its own, the input tells the task, and
this check fails: no clusters then show more than the inputs. *The untrained twin* has the same
configuration, tokenizer and prompts, and fresh weights. It is judged in its own best layer, on each
split and in each copy. *The bag of tokens* and *the length* are those of the prompt up to the
measured position. Of prompts in families all are means over families.

**What is missing** is undecided, so that the exit status is 1: without held-out data nothing shows
that clusters are there on unseen data, and without a twin its two checks have no number. A line
names the option that adds it. The thresholds are those of the findings above, or half of the way.
They were set before a pretrained model was judged by them. One thing was added after the first
look. If the untrained twin has an accuracy over 0.9 on a split, no model can be 0.1 above it. That
split is left out of this check if another has room. So it is with few-shot prompts whose inputs are
held out: their examples are the same as before, and random weights tell them apart.
"""

USE_SECTION = """
## Apart: are the clusters used?

The paper does not state that the model uses its clusters. A group of checks, `use`, stands apart:
it is in the text of `verify`, in `verdict.json` and in the figure of the verdict. It is neither in
"all findings hold" nor in the exit status, unless `tasklens verify RUN --require use` asks for it.
`tasklens intervene RUN` makes the edits that it needs. Without them one line names this command, or
with `--require use` an error does. [Edits of hidden states](edits.md) explains shifts, patches
and controls.

**An answer follows** an edit if it becomes the right answer under the task to which the state was
moved. Shares are of the pairs whose two tasks the model can do, at the last checkpoint with edits.
The best layer is judged, which has the highest ARI of hidden states on `train_subset`: no effect
has helped to choose it. A layer may be sorted by task and not used, as last blocks often are. If
the best layer is such a one, `used` fails, although a layer below may be used.

Thresholds follow from what "hardly" and "far" are elsewhere on this page. They were set before
the seeds of [the page on edits](../results/interventions.md) were edited, with the effects of a
prototype on two other runs in sight. The p value counts the random directions that do at least as
much as the shift: it is (1 + their number) / (1 + the number of all). Of several runs it is the
mean. A run that holds nothing out is tested on its only split, whose halves are edited by the
centroids of each other.
"""

MEASUREMENTS_SECTION = """
**Measured beside, with intervals and without thresholds:**

- the layer with the largest normalised effect on the first unseen split, and its effect on each
  split. Its p value takes the search into account: the largest effect of all layers is compared
  with the largest of each draw;
- the rank correlation of effect and ARI, over layers at the end, and over steps in the best layer;
- the steps at which three courses are half way from their first to their last value in the best
  layer: the ARI, the accuracy of the linear probe, and the effect; and how much later the effect
  is. The courses are taken at the checkpoints with edits, and as straight between them. The effect
  is over all pairs, which are the same at each checkpoint;
- the share of the errors on unseen instructions that becomes right if the state is moved to the
  centroid of its own task. It stands as it is, and minus the share by random directions;
- the area under the ROC curve with which the distance to the own centroid tells errors from hits;
- on unseen distributions and unseen tasks, if the run has them: the share of answers that follow a
  shift in the best layer, as it is and minus that of random directions. On unseen distributions
  also the last two numbers: does a state of an expression that training has never seen give the
  right answer at the centroid of its own task?
"""

HEADLINE_SECTION = f"""
## The result in one sentence

`verify` and `run` end with the result in one sentence, which is also the title of the page and
`Verdict.headline`. It states the ARI of the best layer by the hidden states themselves, at the last
checkpoint, on the first unseen split. Without one, the ARI is that of the first split, and the
sentence mentions it. The layer is chosen on the first split. The layer **sorts by task** if the
whole interval of the ARI is above {SORTED:g}, the threshold of saturation, and **in part** if it is
above {IN_PART:g}, that of one model's clusters. It **does not** if the whole interval is below
{IN_PART:g}; otherwise this is **undecided**. "From step N on" is the first checkpoint from which on
the measured ARI of each run is above the threshold. If the finding on controls does not hold, the
sentence has this, too. It ends with the test of use: its verdict, the share of all answers that
follow a shift, and that of random directions.
"""


def _rules_table(
    rules: Sequence[Rule], finding: str, names: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Return the rules of a finding as a table, in which splits may have other names."""
    table = "| number of a run | should be | on | reason |\n|---|---|---|---|\n"
    for rule in (rule for rule in rules if rule.finding == finding):
        on = ", ".join(names.get(split, split) for split in rule.splits)
        table += f"| {rule.statistic} | {rule.threshold} | {on} | {rule.reason} |\n"
    return table


def _row(kind: object, name: str, values: Sequence[object]) -> str:
    meaning = " ".join(kind.model_fields[name].description.split())  # type: ignore[attr-defined]
    plain = [getattr(value, name) for value in values]
    plain = [list(value) if isinstance(value, tuple) else value for value in plain]
    shown = [str(value).replace("|", "\\|") or '""' for value in plain]
    return f"| `{name}` | {meaning} | {' | '.join(shown)} |\n"


if __name__ == "__main__":
    (DIRECTORY / "cli.md").write_text(cli_page())
    (DIRECTORY / "settings.md").write_text(settings_page())
    (DIRECTORY / "probe-settings.md").write_text(probe_settings_page())
    (DIRECTORY / "findings.md").write_text(findings_page())
