"""Find the files that make a directory a model, and refuse in one line what does not."""

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tasklens.core.downloads import check_downloaded
from tasklens.core.errors import InputError, first_line
from tasklens.core.parse import parse_json

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
#: The files of weights that transformers looks for, in its order.
WEIGHTS = (
    *("model.safetensors", "model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
#: Such a file in another precision or of another kind, such as model.fp16.safetensors.
_VARIANT = re.compile(
    r"(?:model|pytorch_model)\.(?:(?:safetensors|bin)\.index\.(?P<index>\w+)\.json"
    r"|(?P<file>\w+)\.(?:safetensors|bin))"
)
_SHARD = re.compile(r"(?:model|pytorch_model)[-.\w]*-of-\d+\.(?:safetensors|bin)")
_DEEPSPEED = re.compile(
    r"global_step\d+|zero_to_fp32\.py|(?:bf16_)?zero_pp_rank_.*|mp_rank_\d+_model_states\.pt"
)
_FSDP = re.compile(r"(?:pytorch_model|optimizer)_fsdp.*|.*\.distcp")
#: Names of the number of blocks in configurations, and its bound.
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
MOST_LAYERS = 2_000
#: So many blocks are made at once; whether their weights are there is seen then.
_FEW_LAYERS = 100
#: Suffixes of the files that libraries read.
_READ = (".json", ".jinja", ".txt", ".model", ".safetensors", ".bin", ".py")
#: The files of weights that are fetched from the hub, those that are read first.
_FETCHED = (
    *(r"model\.safetensors", r"model-\d+-of-\d+\.safetensors", r"adapter_model\.safetensors"),
    *(r"model\.\w+\.safetensors", r"pytorch_model\.bin", r"pytorch_model-\d+-of-\d+\.bin"),
)
#: How many names of files are in a message.
_SHOWN = 8


class Weights(NamedTuple):
    """The files of a model's weights."""

    files: tuple[Path, ...]
    variant: str | None
    """What transformers calls them by if they do not have the usual name."""
    shapes: dict[str, tuple[int, ...]]
    """Shape of each weight by its name; empty if the files are not safetensors."""

    @property
    def safe(self) -> bool:
        """True for safetensors, False for files of torch."""
        return self.files[0].suffix == ".safetensors"


def is_model(directory: Path) -> bool:
    """Return whether a directory has a model's configuration, or that of a LoRA adapter.

    InputError if a file that is read with a model is a pipe, which would block.
    """
    check_no_pipes(directory)
    return any(is_there(directory / name) for name in (CONFIG, ADAPTER_CONFIG))


def check_no_pipes(directory: Path) -> None:
    """Raise InputError if a file of a model or a tokenizer is a pipe or a device."""
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        if path.suffix in _READ and path.exists() and not (path.is_file() or path.is_dir()):
            raise InputError(f"{path} is not a file; should be one")


def is_adapter(directory: Path) -> bool:
    """Return whether a directory is a LoRA adapter; InputError if it also has a model's weights."""
    if not is_there(directory / ADAPTER_CONFIG):
        return False
    if _first_weights(directory) is not None:
        raise InputError(
            f"{directory} has both the weights of a model and {ADAPTER_CONFIG}: should have one of "
            "them; move the adapter into a directory of its own, or remove it"
        )
    return True


def read_object(path: Path) -> dict[str, Any]:
    """Read a file that has one JSON object; InputError if it does not."""
    check_downloaded(path)
    try:
        content = parse_json(path.read_bytes(), unique=False)
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: should be an object in JSON, but is {type(content).__name__}")
    return content


def try_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; empty if there is none. A pipe is not waited for."""
    try:
        content = parse_json(path.read_bytes(), unique=False) if path.is_file() else {}
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def find_weights(directory: Path) -> Weights:
    """Return the files of a model's weights, of which the headers are read.

    Other files are ignored, such as an optimiser's state in safetensors. InputError if there are no
    weights, a file is missing or damaged, or a weight is in two files.
    """
    first = _first_weights(directory)
    if first is None:
        raise InputError(f"{directory}: {why_no_weights(directory)}")
    named = _VARIANT.fullmatch(first.name)
    variant = (named["index"] or named["file"]) if named else None
    files = _shards(first) if first.suffix == ".json" else (first,)
    shapes: dict[str, tuple[int, ...]] = {}
    holder: dict[str, Path] = {}
    for file in files:
        check_downloaded(file)
        for name, shape in _shapes(file).items():
            if name in shapes:
                raise InputError(
                    f"{directory}: the weight {name} is in both {holder[name].name} and "
                    f"{file.name}: should be in one file; remove what is not of this model"
                )
            shapes[name], holder[name] = shape, file
    return Weights(files, variant, shapes)


def check_config(path: Path, config: dict[str, Any], weights: Weights | None) -> None:
    """Raise InputError if a configuration has no type, or more blocks than its weights can have.

    The blocks are made before the weights are read, and millions of them take hours.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) and not (kind is None and config.get("auto_map")):
        raise InputError(f"{path}: model_type = {kind!r}: should be the name of a type, e.g. llama")
    if not isinstance(config.get("auto_map", {}), dict | type(None)):
        raise InputError(f"{path}: auto_map should be an object in JSON")
    n_weights = len(weights.shapes) if weights is not None else 0
    most = min(MOST_LAYERS, max(n_weights, _FEW_LAYERS)) if n_weights else MOST_LAYERS
    for table in (config, *(each for each in config.values() if isinstance(each, dict))):
        for key in _LAYERS:
            number = table.get(key)
            if isinstance(number, int) and not 1 <= number <= most:
                has = f" for files with {n_weights:,} weights" if n_weights else ""
                raise InputError(f"{path}: {key} = {number}: should be 1 to {most:,}{has}")


def has_weights(directory: Path) -> bool:
    """Return whether a directory has a model's weights, or those of a LoRA adapter."""
    return _first_weights(directory) is not None or is_there(directory / ADAPTER_WEIGHTS)


def weights_among(names: Sequence[str]) -> list[str]:
    """Return those of some names that are the weights of a model, in alphabetical order."""
    each = ([name for name in names if re.fullmatch(kind, name)] for kind in _FETCHED)
    return sorted(next(filter(None, each), []))


def why_no_model(directory: Path) -> str:
    """Return why a directory is no model, after its name in a message."""
    return parts_of(directory) or (f"has no {CONFIG}: it is not a model's directory")


def why_no_weights(directory: Path) -> str:
    """Return why a directory has no weights, after its name in a message."""
    names = sorted(path.name for path in directory.iterdir() if not path.name.startswith("."))
    shards = [name for name in names if _SHARD.fullmatch(name)]
    if shards:
        index = WEIGHTS[1] if shards[0].endswith(".safetensors") else WEIGHTS[3]
        return f"has parts of the weights ({shards[0]}), but no {index}, which lists them"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return parts_of(directory) or (
        f"has no weights: should have {WEIGHTS[0]} or {WEIGHTS[2]}, or shards with an index; it "
        f"has {', '.join(names[:_SHOWN])}{more}"
    )


def parts_of(directory: Path) -> str:
    """Return which program has written a training state instead of weights; empty if unknown."""
    names = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
    inner = {path.name for path in directory.glob("*/*")}
    if any(map(_DEEPSPEED.fullmatch, names | inner)):
        return (
            "is a DeepSpeed checkpoint without a model's weights: zero_to_fp32.py, which DeepSpeed "
            "puts beside it, makes them"
        )
    if any(map(_FSDP.fullmatch, names | inner)):
        return (
            "is an FSDP checkpoint in shards, without a model's weights: accelerate merge-weights "
            "makes them"
        )
    return ""


def _first_weights(directory: Path) -> Path | None:
    """Return the file of weights or the index that is read; InputError for several variants."""
    explicit = _explicit_weights(directory)
    if explicit:
        return directory / explicit
    for name in WEIGHTS:
        if is_there(directory / name):
            return directory / name
    variants: dict[str, list[Path]] = {}
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        named = _VARIANT.fullmatch(path.name)
        if named:
            variants.setdefault(named["index"] or named["file"], []).append(path)
    if len(variants) > 1:
        raise InputError(
            f"{directory} has weights of several kinds ({', '.join(variants)}) and no "
            f"{WEIGHTS[0]}: should be one; give a directory with one of them"
        )
    return next((paths[0] for paths in variants.values()), None)


def _explicit_weights(directory: Path) -> str:
    """Return the file that a configuration names as its weights; empty if it names none."""
    named = try_object(directory / CONFIG).get("transformers_weights")
    return named if isinstance(named, str) and Path(named).name == named else ""


def _shards(index: Path) -> tuple[Path, ...]:
    """Return the files that an index names; InputError if it names none or one that is missing."""
    names = read_object(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise InputError(f"{index}: should have a weight_map with the file of each weight")
    files = sorted({index.with_name(str(name)) for name in names.values()})
    missing = [file.name for file in files if not is_there(file)]
    if missing:
        raise InputError(
            f"{index} names {len(missing)} of {len(files)} files that are not there, first "
            f"{missing[0]}: copy or download them again"
        )
    return tuple(files)


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes in a file of weights; InputError if it is damaged or cut."""
    if file.suffix != ".safetensors":
        with file.open("rb") as stream:
            cut = stream.read(2) == b"PK" and not zipfile.is_zipfile(file)
        if cut:
            raise InputError(f"{file} is cut: copy or download it again")
        return {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as weights:
            return {
                name: tuple(weights.get_slice(name).get_shape())
                for name in weights.keys()  # noqa: SIM118 - it is no dictionary
            }
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{file} is damaged or cut ({first_line(error)}): copy or download it again"
        ) from error


def is_there(path: Path) -> bool:
    """Return whether a name exists, also as a link that leads nowhere, which is an error later."""
    return path.exists() or path.is_symlink()
