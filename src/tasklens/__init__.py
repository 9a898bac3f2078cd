"""tasklens: does a causal language model sort what it reads by task.

The public names are imported on first use, so that ``import tasklens`` is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tasklens.core.files import check_system

__version__ = "0.1.0"

_WHERE = {
    "ClusterSettings": "clustering.cluster",
    "DataSettings": "data.synthetic",
    "Dataset": "data.synthetic",
    "FigureSettings": "report.figure1",
    "Cell": "clustering.cluster",
    "GPT2": "models.gpt2",
    "GPT2Subject": "models.gpt2_subject",
    "Grammar": "data.grammar",
    "Harvest": "models.subject",
    "HuggingFaceSubject": "models.hf_subject",
    "InputError": "core.errors",
    "Instances": "data.instances",
    "ModelSettings": "models.gpt2",
    "LabelledPrompts": "data.labelled_prompts",
    "PositionSettings": "data.tokenize",
    "PromptSettings": "data.labelled_prompts",
    "Prompts": "data.token_prompts",
    "Subject": "models.subject",
    "TaskSettings": "data.tasks",
    "TrainSettings": "models.training",
    "Trainer": "models.training",
    "View": "report.view",
    "cluster": "clustering.cluster",
    "figure1": "report.figure1",
    "figure_agreement": "report.heatmaps",
    "figure_contingency": "report.heatmaps",
    "figure_forming": "report.maps",
    "figure_layers": "report.maps",
    "figure_map": "report.maps",
    "figure_order": "report.heatmaps",
    "figure_verdict": "report.verdict_figure",
    "figure_world": "report.heatmaps",
    "final_table": "scoring.score_table",
    "harvest": "models.subject",
    "instances_of": "data.instances",
    "instances_of_prompts": "data.tokenize",
    "load_checkpoint": "models.checkpoints",
    "load_subject": "models.hf_loading",
    "load_view": "runs.stage_report",
    "make_dataset": "data.synthetic",
    "make_model": "models.gpt2",
    "read_prompts": "data.labelled_prompts",
    "read_scores": "scoring.score_table",
    "score": "scoring.score_cells",
    "tokenize": "data.tokenize",
    "train": "models.training",
    "verify_runs": "runs.verify",
}

__all__ = sorted([*_WHERE, "__version__"])  # noqa: PLE0604, RUF100

if TYPE_CHECKING:
    from tasklens.clustering.cluster import Cell as Cell
    from tasklens.clustering.cluster import ClusterSettings as ClusterSettings
    from tasklens.clustering.cluster import cluster as cluster
    from tasklens.core.errors import InputError as InputError
    from tasklens.data.grammar import Grammar as Grammar
    from tasklens.data.instances import Instances as Instances
    from tasklens.data.instances import instances_of as instances_of
    from tasklens.data.labelled_prompts import LabelledPrompts as LabelledPrompts
    from tasklens.data.labelled_prompts import PromptSettings as PromptSettings
    from tasklens.data.labelled_prompts import read_prompts as read_prompts
    from tasklens.data.synthetic import Dataset as Dataset
    from tasklens.data.synthetic import DataSettings as DataSettings
    from tasklens.data.synthetic import make_dataset as make_dataset
    from tasklens.data.tasks import TaskSettings as TaskSettings
    from tasklens.data.token_prompts import Prompts as Prompts
    from tasklens.data.tokenize import PositionSettings as PositionSettings
    from tasklens.data.tokenize import instances_of_prompts as instances_of_prompts
    from tasklens.data.tokenize import tokenize as tokenize
    from tasklens.models.checkpoints import load_checkpoint as load_checkpoint
    from tasklens.models.gpt2 import GPT2 as GPT2
    from tasklens.models.gpt2 import ModelSettings as ModelSettings
    from tasklens.models.gpt2 import make_model as make_model
    from tasklens.models.gpt2_subject import GPT2Subject as GPT2Subject
    from tasklens.models.hf_loading import load_subject as load_subject
    from tasklens.models.hf_subject import HuggingFaceSubject as HuggingFaceSubject
    from tasklens.models.subject import Harvest as Harvest
    from tasklens.models.subject import Subject as Subject
    from tasklens.models.subject import harvest as harvest
    from tasklens.models.training import Trainer as Trainer
    from tasklens.models.training import TrainSettings as TrainSettings
    from tasklens.models.training import train as train
    from tasklens.report.figure1 import FigureSettings as FigureSettings
    from tasklens.report.figure1 import figure1 as figure1
    from tasklens.report.heatmaps import figure_agreement as figure_agreement
    from tasklens.report.heatmaps import figure_contingency as figure_contingency
    from tasklens.report.heatmaps import figure_order as figure_order
    from tasklens.report.heatmaps import figure_world as figure_world
    from tasklens.report.maps import figure_forming as figure_forming
    from tasklens.report.maps import figure_layers as figure_layers
    from tasklens.report.maps import figure_map as figure_map
    from tasklens.report.verdict_figure import figure_verdict as figure_verdict
    from tasklens.report.view import View as View
    from tasklens.runs.stage_report import load_view as load_view
    from tasklens.runs.verify import verify_runs as verify_runs
    from tasklens.scoring.score_cells import score as score
    from tasklens.scoring.score_table import final_table as final_table
    from tasklens.scoring.score_table import read_scores as read_scores


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'tasklens' has no attribute {name!r}")
    check_system()
    return getattr(importlib.import_module(f"tasklens.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
