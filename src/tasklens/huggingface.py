"""Any causal language model of Hugging Face's transformers as a Subject.

States are taken by hooks on the modules, so that they are what their names say: the index of a
tuple of hidden states means another thing in another family.
"""

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from tasklens.errors import InputError
from tasklens.rows import Prompts
from tasklens.states import MAX_TOKENS, MAX_TOKENS_GPU, Harvest

#: Answers are taken from the head so many at a time: a vocabulary is wide.
HEAD_ROWS = 256
#: Numbers that a token takes while it goes through a block, in widths of the residual stream.
WIDTHS_A_TOKEN = 32
DTYPES = ("float32", "bfloat16", "float16")

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float32]


class Batch(NamedTuple):
    """What one forward pass gave.

    Attributes
    ----------
    which : int64 (b,)
        Indices of its prompts.
    states : {name: float32 (b, D)}
    answer : int64 (b,)
    """

    which: Ints
    states: dict[str, Floats]
    answer: Ints


class HuggingFaceSubject:
    """A causal language model of Hugging Face's as a Subject.

    Its states are `wte`, the word embedding (where it is not what the first block reads), `embed`,
    what the first block reads (layer 0), `block1` .. `blockL`, the residual stream after each
    block, and `ln_f`, after the final norm.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        With a head that predicts the next token.
    tokenizer : transformers tokenizer, optional
        Kept for whoever makes the prompts.
    max_tokens : int
        Tokens in a forward pass; 0: what the device's free memory holds. Halved whenever it does
        not. Prompts go in order of their length, padded at the end, where nothing that is measured
        looks; the states depend on it by rounding alone.

    Raises
    ------
    InputError
        For a model that is not causal, or whose blocks are not a chain.
    """

    def __init__(self, model: Any, tokenizer: Any = None, max_tokens: int = 0) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self._base = getattr(model, model.base_model_prefix or "", model)
        self._accepts = set(inspect.signature(self._base.forward).parameters)
        config = model.config.get_text_config()
        self._points, around = _points(self._base, model, config.num_hidden_layers)
        self._add_final_norm(around)
        same = self._check()
        self.names = tuple(name for name in self._points if name != "wte" or not same)
        self.max_length = _context(config)
        self.max_tokens = max_tokens or _tokens_that_fit(self.device, config.hidden_size)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device  # type: ignore[no-any-return]

    def harvest(self, prompts: Prompts, names: Sequence[str]) -> Harvest:
        """Return the named states, float32 (N, D) each, and the answers."""
        states: dict[str, Floats] = {}
        answer = np.empty(len(prompts), dtype=np.int64)
        for batch in self.batches(prompts, names):
            for name, state in batch.states.items():
                empty = np.empty((len(prompts), state.shape[1]), dtype=np.float32)
                states.setdefault(name, empty)[batch.which] = state
            answer[batch.which] = batch.answer
        return Harvest(states, answer)

    def batches(self, prompts: Prompts, names: Sequence[str], done: int = 0) -> Iterator[Batch]:
        """Yield the states of some prompts at a time, the shortest first.

        Parameters
        ----------
        prompts : Prompts
        names : sequence of str
        done : int
            Prompts to leave out at the beginning: what an interrupted call had yielded.

        Raises
        ------
        InputError
            For a prompt longer than the context, a token that is not in the vocabulary, or where
            the memory does not hold a single prompt.
        """
        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        if prompts.ids.max(initial=0) >= vocabulary:
            raise InputError(
                f"token {prompts.ids.max()} is not in the vocabulary, which has {vocabulary}: is "
                "this the model's tokenizer?"
            )
        longest = int(prompts.position.max(initial=0)) + 1
        if self.max_length and longest > self.max_length:
            raise InputError(
                f"a prompt has {longest} tokens up to the measured one, but the model reads "
                f"{self.max_length}"
            )
        order = np.argsort(prompts.position, kind="stable")
        while done < len(order):
            lengths = prompts.position[order[done:]] + 1
            # of rising lengths: the last is what all are padded to
            fits = np.arange(1, len(lengths) + 1) * lengths <= self.max_tokens
            which = order[done : done + max(1, int(fits.sum()))]
            try:
                batch = self._read(prompts, which, names)
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                self._halve(len(which), int(prompts.position[which[-1]]) + 1)
                continue
            done += len(which)
            yield batch

    def weights_hash(self) -> str:
        """Return the SHA-256 of the weights by name, whatever files they came in."""
        found = hashlib.sha256()
        for name, weight in sorted(self.model.named_parameters()):
            found.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
            plain = weight.detach().cpu().contiguous().flatten().view(torch.uint8)
            found.update(memoryview(plain.numpy()))
        return found.hexdigest()

    @torch.inference_mode()
    def _read(self, prompts: Prompts, which: Ints, names: Sequence[str]) -> Batch:
        """Run the model on some prompts, padded at the end to the longest of them."""
        position = torch.from_numpy(prompts.position[which]).to(self.device)
        T = int(prompts.position[which].max()) + 1
        ids = torch.from_numpy(prompts.ids[which, :T]).to(self.device)
        begin = None
        if prompts.begin is not None:
            begin = torch.from_numpy(prompts.begin[which]).to(self.device)
        columns = torch.arange(T, device=self.device)
        row = torch.arange(len(which), device=self.device)
        real = columns <= position[:, None]  # (b, T)
        found: dict[str, Floats] = {}

        def keep(name: str, state: torch.Tensor) -> None:
            if begin is None:
                at = state[row, position]
            else:
                inside = (real & (columns >= begin[:, None]))[..., None]
                at = (state.float() * inside).sum(dim=1) / inside.sum(dim=1)
            found[name] = at.float().cpu().numpy()

        with _hooked({name: self._points[name] for name in names}, keep):
            last = self._forward(ids, None if bool(real.all()) else real)[row, position]
        head = self.model.get_output_embeddings()
        if self._base is self.model or head is None:
            answer = last.argmax(dim=-1)
        else:
            parts = torch.split(last, HEAD_ROWS)
            answer = torch.cat([head(part).argmax(dim=-1) for part in parts])
        return Batch(which, {name: found[name] for name in names}, answer.cpu().numpy())

    def _forward(self, ids: torch.Tensor, real: torch.Tensor | None) -> torch.Tensor:
        """Return what the network below the head ends with, (B, T, D)."""
        said: dict[str, Any] = {"use_cache": False, "return_dict": True}
        if real is not None:
            said["attention_mask"] = real.long()
        out = self._base(ids, **{k: v for k, v in said.items() if k in self._accepts})
        return out[0]  # type: ignore[no-any-return]

    @torch.inference_mode()
    def _add_final_norm(self, around: Any) -> None:
        """Add what is called first after the last block, where it gives a state a token."""
        modules = dict(around.named_children())
        called: list[tuple[str, torch.Size]] = []
        last = list(self._points)[-1]
        points = {name: _Point(module) for name, module in modules.items()}
        # a list of blocks is never called itself
        points |= {last: self._points[last]}
        with _hooked(points, lambda name, state: called.append((name, state.shape))):
            ids = self._two_rows()
            self._forward(ids, None)
        after = [name for name, _ in called].index(last) + 1 if called else 0
        for name, shape in called[after : after + 1]:
            if shape[:-1] == ids.shape:
                self._points["ln_f"] = _Point(modules[name])

    def _two_rows(self) -> torch.Tensor:
        return torch.tensor([[1, 2, 3, 1], [1, 2, 3, 2]], device=self.device)

    @torch.inference_mode()
    def _check(self) -> bool:
        """Hold the model to being causal, and its states to one of each token.

        Returns whether the first block reads the word embedding as it is.
        """
        ids = self._two_rows()
        states: dict[str, torch.Tensor] = {}
        called: list[str] = []

        def keep(name: str, state: torch.Tensor) -> None:
            called.append(name)
            states[name] = state.float()

        with _hooked(self._points, keep):
            last = self._forward(ids, None).float()
        kind = type(self.model).__name__
        if called != [*self._points]:
            raise InputError(f"{kind}: its blocks are not called one after another: {called}")
        for name, state in states.items():
            if state.shape[:-1] != ids.shape:
                raise InputError(
                    f"{kind}: {name} gives a state of shape {tuple(state.shape)}, not one a token"
                )
        before = last[:, :-1]
        apart = float((before[0] - before[1]).norm())
        eps = torch.finfo(next(self.model.parameters()).dtype).eps
        if not apart <= 8 * eps * float(before.norm()):
            raise InputError(
                f"{kind} is no causal language model: what follows a token changes its state"
            )
        a, b = states["wte"], states["embed"]
        return a.shape == b.shape and torch.equal(a, b)

    def _halve(self, rows: int, length: int) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if rows == 1:
            raise InputError(
                f"the memory of {self.device} does not hold one prompt of {length} tokens; take "
                "another --device or --dtype bfloat16"
            )
        self.max_tokens = max(1, rows * length // 2)
        print(
            f"tasklens: out of memory; going on with {self.max_tokens} tokens at a time",
            file=sys.stderr,
        )


class _Point(NamedTuple):
    """Where a state is: what a module gives, or what it takes."""

    module: Any
    before: bool = False


def _points(base: Any, model: Any, n_layer: int) -> tuple[dict[str, _Point], Any]:
    """Return where each state up to the last block is, and the module that holds the blocks."""
    kind = type(model).__name__
    modules = dict(base.named_modules())
    path = next(
        (
            path
            for path, module in modules.items()
            if isinstance(module, torch.nn.ModuleList) and len(module) == n_layer
        ),
        None,
    )
    if path is None:
        raise InputError(f"{kind}: no list of its {n_layer} blocks was found in it")
    blocks = modules[path]
    named = {"wte": _Point(model.get_input_embeddings()), "embed": _Point(blocks[0], before=True)}
    named |= {f"block{i}": _Point(block) for i, block in enumerate(blocks, 1)}
    return named, modules[path.rpartition(".")[0]]


@contextmanager
def _hooked(points: dict[str, _Point], keep: Callable[[str, torch.Tensor], None]) -> Iterator[None]:
    """Hand the states to ``keep`` as they come about."""
    handles = []
    for name, (module, before) in points.items():
        if before:

            def take(_: Any, args: Any, kwargs: Any, name: str = name) -> None:
                keep(name, args[0] if args else kwargs["hidden_states"])

            handles.append(module.register_forward_pre_hook(take, with_kwargs=True))
        else:

            def give(_: Any, __: Any, output: Any, name: str = name) -> None:
                keep(name, output if isinstance(output, torch.Tensor) else output[0])

            handles.append(module.register_forward_hook(give))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def load_subject(
    directory: Path | str,
    *,
    tokenizer: Path | str | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    trust_remote_code: bool = False,
    max_tokens: int = 0,
) -> HuggingFaceSubject:
    """Load a local directory that ``AutoModelForCausalLM`` loads. Nothing is fetched.

    Parameters
    ----------
    directory : path
        With ``config.json`` and weights; safetensors, or else ``.bin`` files, which are read with
        ``weights_only`` and a warning.
    tokenizer : path, optional
        Where the tokenizer is; in the directory, or the one above, by default. A Subject without
        one reads tokens but no texts.
    device : str
        cpu, cuda or cuda:N.
    dtype : {"float32", "bfloat16", "float16"}
        What the weights are computed in; states are float32.
    trust_remote_code : bool
        Run the code that comes with the model.
    max_tokens : int
        See `HuggingFaceSubject`.

    Raises
    ------
    InputError
        Where it cannot be loaded, lacks weights, is not causal, or transformers is not installed.
    """
    directory = Path(directory)
    transformers = import_transformers()
    if not (directory / "config.json").is_file():
        raise InputError(f"{directory}: no config.json: it is not a model's directory")
    safe = any(directory.glob("*.safetensors"))
    if not safe and any(directory.glob("*.bin")):
        print(
            f"tasklens: warning: {directory} has no safetensors; its .bin is unpickled, tensors "
            "only (weights_only)",
            file=sys.stderr,
        )
    kind = getattr(torch, dtype)
    with _quiet(transformers), _one_line_errors(directory):
        model, about = transformers.AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=kind,
            local_files_only=True,
            use_safetensors=safe or None,
            weights_only=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
        missing = sorted(about["missing_keys"])
        if missing or about["mismatched_keys"]:
            wrong = missing or [key[0] for key in about["mismatched_keys"]]
            raise InputError(
                f"{directory}: the weights of {wrong[0]} are not there or of another shape "
                f"({len(wrong)} like it): they do not fit config.json"
            )
        model = model.to(device)
        known = load_tokenizer(tokenizer or directory, trust_remote_code=trust_remote_code)
    return HuggingFaceSubject(model, known, max_tokens)


def load_tokenizer(directory: Path | str, *, trust_remote_code: bool = False) -> Any:
    """Load the tokenizer in a directory, or the one above it; None where neither has one."""
    transformers = import_transformers()
    directory = Path(directory)
    for place in (directory, directory.absolute().parent):
        if any((place / name).is_file() for name in TOKENIZER_FILES):
            with _quiet(transformers), _one_line_errors(place):
                return transformers.AutoTokenizer.from_pretrained(
                    place, local_files_only=True, trust_remote_code=trust_remote_code
                )
    return None


#: Any of them says that a directory has a tokenizer.
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer.model", "tokenizer_config.json"),
    *("vocab.json", "vocab.txt", "spiece.model"),
)


def import_transformers() -> Any:
    """Import transformers, or say what to install."""
    try:
        import transformers
    except ImportError as error:
        raise InputError(
            "this needs transformers, which is not installed: pip install 'tasklens[hf]'"
        ) from error
    return transformers


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keep the library's progress bars and advice off the terminal."""
    logging = transformers.utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _one_line_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # of any of a model's many ways not to load
        if "Unrecognized configuration class" in str(error):
            raise InputError(
                f"{directory} is no causal language model: AutoModelForCausalLM does not know it"
            ) from error
        if "trust_remote_code" in str(error):
            raise InputError(
                f"{directory} comes with code of its own; --trust-remote-code runs it, if you do"
            ) from error
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{directory} cannot be loaded: {first}") from error


def _context(config: Any) -> int:
    """Return how many tokens the model reads at most; 0 where nothing says so."""
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"):
        length = getattr(config, name, None)
        if isinstance(length, int) and length > 0:
            return length
    return 0


def _tokens_that_fit(device: torch.device, width: int) -> int:
    """Return how many tokens half of the free memory holds, as far as can be told beforehand."""
    most = MAX_TOKENS if device.type == "cpu" else MAX_TOKENS_GPU
    free = _free_bytes(device)
    return max(1, min(most, free // 2 // (4 * WIDTHS_A_TOKEN * width)))


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return 2**62


def _is_out_of_memory(error: BaseException) -> bool:
    words = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        word in str(error).lower() for word in words
    )
