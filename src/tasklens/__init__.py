"""tasklens: does a causal language model sort what it reads by task.

The public names are imported on first use, so that ``import tasklens`` is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "ClusterSettings": "clustering",
    "DataSettings": "dataset",
    "Dataset": "dataset",
    "FigureSettings": "figures",
    "Cell": "clustering",
    "GPT2": "gpt2",
    "GPT2Subject": "states",
    "Grammar": "grammar",
    "Harvest": "states",
    "HuggingFaceSubject": "huggingface",
    "InputError": "errors",
    "Instances": "scores",
    "ModelSettings": "gpt2",
    "LabelledPrompts": "prompts",
    "PositionSettings": "tokens",
    "PromptSettings": "prompts",
    "Prompts": "rows",
    "Subject": "states",
    "TaskSettings": "tasks",
    "TrainSettings": "training",
    "Trainer": "training",
    "View": "view",
    "cluster": "clustering",
    "figure1": "figures",
    "figure_agreement": "picture_tables",
    "figure_contingency": "picture_tables",
    "figure_forming": "pictures",
    "figure_layers": "pictures",
    "figure_map": "pictures",
    "figure_order": "picture_tables",
    "figure_verdict": "picture_verdict",
    "figure_world": "picture_tables",
    "final_table": "scores",
    "harvest": "states",
    "instances_of": "scores",
    "instances_of_prompts": "tokens",
    "load_checkpoint": "checkpoints",
    "load_subject": "loading",
    "load_view": "viewing",
    "make_dataset": "dataset",
    "make_model": "gpt2",
    "read_prompts": "prompts",
    "read_scores": "scores",
    "score": "scores",
    "tokenize": "tokens",
    "train": "training",
    "verify_runs": "verifying",
}

__all__ = sorted([*_WHERE, "__version__"])  # noqa: PLE0604, RUF100

if TYPE_CHECKING:
    from tasklens.checkpoints import load_checkpoint as load_checkpoint
    from tasklens.clustering import Cell as Cell
    from tasklens.clustering import ClusterSettings as ClusterSettings
    from tasklens.clustering import cluster as cluster
    from tasklens.dataset import Dataset as Dataset
    from tasklens.dataset import DataSettings as DataSettings
    from tasklens.dataset import make_dataset as make_dataset
    from tasklens.errors import InputError as InputError
    from tasklens.figures import FigureSettings as FigureSettings
    from tasklens.figures import figure1 as figure1
    from tasklens.gpt2 import GPT2 as GPT2
    from tasklens.gpt2 import ModelSettings as ModelSettings
    from tasklens.gpt2 import make_model as make_model
    from tasklens.grammar import Grammar as Grammar
    from tasklens.huggingface import HuggingFaceSubject as HuggingFaceSubject
    from tasklens.loading import load_subject as load_subject
    from tasklens.picture_tables import figure_agreement as figure_agreement
    from tasklens.picture_tables import figure_contingency as figure_contingency
    from tasklens.picture_tables import figure_order as figure_order
    from tasklens.picture_tables import figure_world as figure_world
    from tasklens.picture_verdict import figure_verdict as figure_verdict
    from tasklens.pictures import figure_forming as figure_forming
    from tasklens.pictures import figure_layers as figure_layers
    from tasklens.pictures import figure_map as figure_map
    from tasklens.prompts import LabelledPrompts as LabelledPrompts
    from tasklens.prompts import PromptSettings as PromptSettings
    from tasklens.prompts import read_prompts as read_prompts
    from tasklens.rows import Prompts as Prompts
    from tasklens.scores import Instances as Instances
    from tasklens.scores import final_table as final_table
    from tasklens.scores import instances_of as instances_of
    from tasklens.scores import read_scores as read_scores
    from tasklens.scores import score as score
    from tasklens.states import GPT2Subject as GPT2Subject
    from tasklens.states import Harvest as Harvest
    from tasklens.states import Subject as Subject
    from tasklens.states import harvest as harvest
    from tasklens.tasks import TaskSettings as TaskSettings
    from tasklens.tokens import PositionSettings as PositionSettings
    from tasklens.tokens import instances_of_prompts as instances_of_prompts
    from tasklens.tokens import tokenize as tokenize
    from tasklens.training import Trainer as Trainer
    from tasklens.training import TrainSettings as TrainSettings
    from tasklens.training import train as train
    from tasklens.verifying import verify_runs as verify_runs
    from tasklens.view import View as View
    from tasklens.viewing import load_view as load_view


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'tasklens' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tasklens.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
