"""Name the models that a table was measured on in the metadata of its Parquet file."""

import json
from pathlib import Path

import pyarrow as pa

import tasklens
from tasklens.runs.run import Run

#: Keys of a schema's metadata; the first marks files of tasklens.
VERSION, MODELS = b"tasklens.version", b"tasklens.models"


def _own_name(name: str) -> str:
    return Path(name).name if Path(name).is_absolute() else name


def with_origin(schema: pa.Schema, run: Run) -> pa.Schema:
    """Return a schema whose metadata have the version, and name, licence and hash of each model.

    Of an absolute path only the last part is there. So the table of a model that was moved has the
    same bytes, and a published one does not name the directories of its author.
    """
    models = json.dumps([each._asdict() | {"name": _own_name(each.name)} for each in run.models])
    return schema.with_metadata({VERSION: tasklens.__version__, MODELS: models})
