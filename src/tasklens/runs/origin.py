"""Name the models that a table was measured on in the metadata of its Parquet file."""

import json

import pyarrow as pa

import tasklens
from tasklens.runs.run import Run

#: Keys of a schema's metadata; the first marks files of tasklens.
VERSION, MODELS = b"tasklens.version", b"tasklens.models"


def with_origin(schema: pa.Schema, run: Run) -> pa.Schema:
    """Return a schema whose metadata have the version, and name, licence and hash of each model."""
    models = json.dumps([each._asdict() for each in run.models])
    return schema.with_metadata({VERSION: tasklens.__version__, MODELS: models})
