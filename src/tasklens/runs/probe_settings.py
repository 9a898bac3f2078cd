"""The settings of a probe: which models, which prompts, where in them, and how it is measured."""

import dataclasses
import re
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from tasklens.clustering.cluster import ClusterSettings
from tasklens.clustering.map_frames import ReportSettings
from tasklens.report.figure1 import FigureSettings
from tasklens.data.labelled_prompts import PromptSettings
from tasklens.core.settings import CONFIG
from tasklens.data.tokenize import PositionSettings


@dataclass(frozen=True, config=CONFIG)
class SubjectSettings:
    """The models, and how they are run."""

    models: tuple[str, ...] = ()
    """Directories of models, of checkpoint-N directories or of our runs, or names on the hub."""
    revisions: tuple[str, ...] = ()
    """Revisions of a name on the hub, each a checkpoint; its step is the number that it ends in."""
    untrained: bool = False
    """Measure a network of the same configuration with fresh weights, too, as step 0."""
    tokenizer: str = ""
    """Directory of the tokenizer; empty: the model's own, or the one in the directory above it."""
    states: Annotated[tuple[str, ...], Field(min_length=1)] = ("all",)
    """Names of the states that are harvested, such as embed, block6 or ln_f; all: every one."""
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?|auto)$")] = "cpu"
    """Where the models run: cpu, cuda or cuda:N; auto: spread over all GPUs that are there, and
    over the memory and the disk where these do not hold it (device_map="auto" of accelerate)."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """What the models compute in. States are kept in float32 whatever stands here."""
    max_tokens: Annotated[int, Field(ge=0)] = 0
    """Tokens in a forward pass; 0: what the free memory holds. Halved where it does not."""
    trust_remote_code: bool = False
    """Run code that comes with a model."""

    def __post_init__(self) -> None:
        """Check the names of the states."""
        for name in self.states:
            if not re.fullmatch(r"all|wte|embed|block[1-9]\d*|ln_f", name):
                raise ValueError(
                    f"states: no state {name!r}; should be all, wte, embed, block1, ... or ln_f"
                )


@dataclass(frozen=True, config=CONFIG)
class MeasureSettings:
    """What is done with the states before they are clustered, and into how many clusters."""

    k: tuple[Annotated[int, Field(ge=2)], ...] = ()
    """Numbers of clusters; empty: as many as there are labels. The figure and the findings are of
    the first."""
    center: bool = False
    """Subtract the mean of the split. KMeans alone does not mind."""
    standardize: bool = False
    """Centre, and divide each dimension by its standard deviation in the split."""
    normalize: bool = False
    """Divide each state by its length, after the above: angles alone count then."""

    def __post_init__(self) -> None:
        """Check the numbers of clusters against each other."""
        if len(set(self.k)) < len(self.k):
            raise ValueError(f"k = {list(self.k)}: should be distinct numbers")

    def numbers(self, n_labels: int) -> tuple[int, ...]:
        """Return the numbers of clusters for a split with so many labels, the main one first."""
        return self.k or (n_labels,)


@dataclass(frozen=True, config=CONFIG)
class ProbeSettings:
    """All settings of a probe, a table of the TOML file for each stage."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Root seed; what is held out, KMeans and t-SNE derive from it."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that measure; 0: one a core; 1: none but this. No result depends on it."""
    subject: SubjectSettings = dataclasses.field(default_factory=SubjectSettings)
    """The models, and how they are run."""
    prompts: PromptSettings = dataclasses.field(default_factory=PromptSettings)
    """The labelled prompts, and how they are split."""
    position: PositionSettings = dataclasses.field(default_factory=PositionSettings)
    """Which tokens of a prompt are measured."""
    measure: MeasureSettings = dataclasses.field(default_factory=MeasureSettings)
    """What is done with the states, and into how many clusters they go."""
    clusters: ClusterSettings = dataclasses.field(default_factory=ClusterSettings)
    """How the states are clustered."""
    figure: FigureSettings = dataclasses.field(default_factory=FigureSettings)
    """What the figure shows."""
    report: ReportSettings = dataclasses.field(default_factory=ReportSettings)
    """What the report shows of the measured prompts."""
