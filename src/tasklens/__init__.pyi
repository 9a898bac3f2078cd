"""The public names, each with the module that defines it; imported on first use."""

from .clustering.cluster import ClusterSettings as ClusterSettings
from .clustering.estimators import TSNE as TSNE
from .clustering.estimators import KMeans as KMeans
from .core.errors import CellsFailedError as CellsFailedError
from .core.errors import InputError as InputError
from .data.instances import Instances as Instances
from .data.labelled_prompts import LabelledPrompts as LabelledPrompts
from .data.labelled_prompts import PromptSettings as PromptSettings
from .data.labelled_prompts import read_prompts as read_prompts
from .data.synthetic import Dataset as Dataset
from .data.synthetic import DataSettings as DataSettings
from .data.synthetic import TrainingStateSettings as TrainingStateSettings
from .data.synthetic import make_dataset as make_dataset
from .data.tasks import TaskSettings as TaskSettings
from .data.token_prompts import Prompts as Prompts
from .data.tokenize import ModelStateSettings as ModelStateSettings
from .findings.verdict import Verdict as Verdict
from .models.checkpoints import load_checkpoint as load_checkpoint
from .models.gpt2 import GPT2 as GPT2
from .models.gpt2 import ModelSettings as ModelSettings
from .models.gpt2 import make_model as make_model
from .models.gpt2_subject import GPT2Subject as GPT2Subject
from .models.harvest import harvest as harvest
from .models.hf_loading import load_subject as load_subject
from .models.hf_subject import HuggingFaceSubject as HuggingFaceSubject
from .models.subject import Harvest as Harvest
from .models.subject import Subject as Subject
from .models.training import Trainer as Trainer
from .models.training import TrainSettings as TrainSettings
from .models.training import train as train
from .report.figure1 import FigureSettings as FigureSettings
from .report.figure1 import figure1 as figure1
from .report.figure2 import figure2 as figure2
from .report.heatmaps import figure_agreement as figure_agreement
from .report.heatmaps import figure_contingency as figure_contingency
from .report.heatmaps import figure_order as figure_order
from .report.heatmaps import figure_world as figure_world
from .report.maps import figure_forming as figure_forming
from .report.maps import figure_layers as figure_layers
from .report.maps import figure_map as figure_map
from .report.verdict_figure import figure_verdict as figure_verdict
from .report.view import View as View
from .runs.load_run import load_run as load_run
from .runs.pipeline import run as run
from .runs.run import Run as Run
from .runs.settings import ModelRunSettings as ModelRunSettings
from .runs.settings import TrainingRunSettings as TrainingRunSettings
from .runs.settings import load_settings as load_settings
from .runs.verify import verify as verify
from .scoring.final_scores import final_table as final_table
from .scoring.score import score as score
from .scoring.score import score_states as score_states
from .scoring.score_table import read_scores as read_scores

__version__: str
__all__: list[str]
