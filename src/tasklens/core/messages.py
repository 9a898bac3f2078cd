"""Write the lines in which a mistake in settings is refused: the value, the fault, the nearest key.

The words for a fault are ours: those of pydantic are written for programmers.
"""

import datetime
import difflib
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

#: Names that other programs, papers and libraries have for our settings, by the last part of a key.
SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "learning_rate": ("lr", "eta", "alpha", "max_lr", "peak_lr", "base_lr", "step_size", "rate"),
    "final_learning_rate": ("min_lr", "final_lr", "end_lr", "lr_end", "min_learning_rate"),
    "instructions_per_step": (
        *("bs", "batch", "batch_size", "batchsize", "mini_batch", "minibatch"),
        *("train_batch_size", "per_device_train_batch_size", "micro_batch_size"),
    ),
    "max_tokens": ("bs", "batch", "batch_size", "batchsize", "max_batch_size"),
    "steps": (
        *("epoch", "epochs", "n_epochs", "num_epochs", "num_train_epochs", "iters", "iterations"),
        *("n_steps", "num_steps", "max_steps", "max_iters", "train_steps", "training_steps"),
    ),
    "warmup_steps": ("warmup", "warm_up", "warmup_iters", "n_warmup", "num_warmup_steps"),
    "weight_decay": ("wd", "decay", "l2"),
    "beta1": ("b1", "adam_beta1", "betas", "momentum"),
    "beta2": ("b2", "adam_beta2"),
    "epsilon": ("eps", "adam_eps", "adam_epsilon"),
    "grad_clip": (
        *("clip", "clip_grad", "clip_norm", "grad_norm", "max_grad_norm", "max_norm"),
        *("gradient_clip", "gradient_clipping", "gradient_clip_val"),
    ),
    "precision": ("dtype", "torch_dtype", "amp", "autocast", "mixed_precision", "bf16", "fp16"),
    "dtype": ("precision", "torch_dtype", "bf16", "fp16", "half"),
    "device": ("gpu", "gpus", "cuda", "accelerator", "device_map"),
    "threads": ("cpus", "n_threads", "num_threads"),
    "workers": ("jobs", "n_jobs", "n_workers", "num_workers", "processes", "n_processes", "n_proc"),
    "seed": ("seeds", "random_seed", "random_state", "manual_seed", "rng"),
    "n_layer": (
        *("l", "layer", "layers", "n_layers", "num_layers", "num_hidden_layers", "depth"),
        *("blocks", "n_blocks", "num_blocks"),
    ),
    "n_head": ("h", "head", "heads", "n_heads", "num_heads", "num_attention_heads"),
    "n_embd": (
        *("d", "dim", "width", "d_model", "dmodel", "d_embed", "n_embed", "embd", "embed_dim"),
        *("embedding_dim", "embedding_size", "hidden", "hidden_dim", "hidden_size", "model_dim"),
    ),
    "initializer_range": ("init", "init_std", "init_scale", "initializer", "std"),
    "dropout": ("drop", "p_drop", "dropout_rate", "resid_pdrop", "attn_pdrop", "embd_pdrop"),
    "tie_word_embeddings": ("tie", "tied", "tie_weights", "tie_embeddings", "weight_tying"),
    "every": ("interval", "save_every", "save_steps", "save_interval", "eval_every", "eval_steps"),
    "states": ("layer", "layers", "hidden_states", "state", "blocks"),
    "positions": ("position", "pos", "token", "tokens", "token_position"),
    "max_length": (
        "max_len",
        "max_seq_len",
        "max_seq_length",
        "seq_len",
        "context_length",
        "n_ctx",
    ),
    "special_tokens": ("add_special_tokens", "bos"),
    "models": ("model", "model_name", "model_name_or_path", "checkpoint", "checkpoints"),
    "revisions": ("revision", "branch", "branches"),
    "files": ("file", "data", "dataset", "path", "paths", "prompts"),
    "text": ("prompt", "sentence", "question"),
    "label": ("labels", "target", "targets", "class", "y"),
    "input": ("inputs", "query", "x"),
    "output": ("outputs", "answer", "answers", "completion"),
    "group": ("groups", "unit", "units"),
    "hold_out": ("holdout", "held_out", "heldout"),
    "hold_out_share": ("holdout_share", "test_size", "test_fraction", "val_fraction"),
    "val_instruction_fraction": ("val_fraction", "test_size", "test_fraction", "val_split"),
    "n_tasks": ("tasks", "num_tasks"),
    "n_inputs": ("inputs", "num_inputs", "vocab", "vocab_size"),
    "n_outputs": ("outputs", "num_outputs"),
    "regexes": ("regex", "regexp", "regexps", "pattern", "patterns"),
    "symbols": ("alphabet", "letters", "characters"),
    "k": ("ks", "clusters", "n_clusters", "num_clusters"),
    "n_init": ("inits", "n_inits", "restarts", "n_restarts", "starts"),
    "max_iter": ("n_iter", "max_iterations"),
    "tol": ("tolerance",),
    "neighbors": ("neighbours", "n_neighbors", "n_neighbours", "knn"),
    "perplexity": ("perp", "perplexities"),
    "tsne": ("t_sne", "t-sne", "umap"),
    "pca": ("pcs", "n_pca", "n_components", "pca_components"),
    "residualize": ("residualise", "regress_out", "covariates", "confounds", "confounders"),
    "cross": ("crossed", "against", "by", "condition", "conditions"),
    "center": ("centre", "centered", "centering", "demean"),
    "standardize": ("standardise", "scale", "scaler", "z_score", "zscore"),
    "normalize": ("normalise", "norm", "unit_norm"),
    "silhouette": ("silhouettes", "silhouette_score"),
}

#: What would be right, by pydantic's type of the fault.
_WHOLE = "should be a whole number"
_REMEDIES = {
    "bool_parsing": "should be true or false",
    "bool_type": "should be true or false",
    "dict_type": "should be a table",
    "finite_number": "should be a finite number",
    "float_parsing": "should be a number",
    "float_type": "should be a number",
    "greater_than": "should be more than {gt}",
    "greater_than_equal": "should be at least {ge}",
    "int_from_float": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": f"{_WHOLE} below 2^63",
    "int_type": _WHOLE,
    "less_than": "should be less than {lt}",
    "less_than_equal": "should be at most {le}",
    "list_type": "should be a list",
    "literal_error": "should be {expected}",
    "mapping_type": "should be a table",
    "missing": "is missing",
    "model_type": "should be a table",
    "string_type": "should be text",
    "string_unicode": "should be text in UTF-8",
    "too_long": "should have at most {max_length} values, not {actual_length}",
    "too_short": "should have at least {min_length} values, not {actual_length}",
    "tuple_type": "should be a list",
}

#: Characters of a name that are compared with others: no key has as many.
_LONGEST_NAME = 200

_short = reprlib.Repr()
_short.maxlevel = 4
_short.maxdict = _short.maxlist = _short.maxtuple = _short.maxset = 12
_short.maxstring = _short.maxother = 200


def short(value: Any) -> str:
    """Return a value as Python writes it, shortened so that a message stays one readable line."""
    if isinstance(value, int) and value.bit_length() > 128:  # Python may refuse to write it
        return f"a number of about {value.bit_length() * 30103 // 100000 + 1:,} digits"
    if isinstance(value, datetime.date | datetime.time):  # of TOML
        return value.isoformat()
    if isinstance(value, list | tuple | dict) and len(text := _short.repr(value)) > 300:
        return f"{text[:250]}..."
    return _short.repr(value) if isinstance(value, str | list | tuple | dict) else repr(value)


def remedy(fault: Mapping[str, Any]) -> str:
    """Return what would be right, given a fault of `ValidationError.errors`."""
    if fault["type"] in _REMEDIES:
        return _REMEDIES[fault["type"]].format_map(fault.get("ctx", {}))
    message: str = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return message[:1].lower() + message[1:]


def nearest(name: str, known: Sequence[str]) -> str:
    """Return the known key or name that an unknown one probably stands for.

    If it is no `synonym`, that is the one that is spelled most alike.
    """
    spelled = difflib.get_close_matches(name[:_LONGEST_NAME], known, n=1, cutoff=0.0)[0]
    return synonym(name, known) or spelled


def synonym(
    name: str, known: Sequence[str], synonyms: Mapping[str, Sequence[str]] = SYNONYMS
) -> str | None:
    """Return the known key with the same last part, or with one that has the same meaning.

    If there are several, it is the one of the same table. None if there is none.
    """
    table, _, last = name[:_LONGEST_NAME].rpartition(".")
    last = last.lower().replace("-", "_")
    for wanted in (last, *(key for key, others in synonyms.items() if last in others)):
        same = [key for key in known if key.rpartition(".")[2].replace("-", "_") == wanted]
        if same:
            return next((key for key in same if key.rpartition(".")[0] == table), same[0])
    return None
