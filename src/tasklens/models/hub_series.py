"""Ask the Hugging Face hub what the revisions of a repository are; fetch no weights.

The address is that of ``HF_ENDPOINT``, the token that of ``HF_TOKEN``, as huggingface_hub reads
them. ``HF_HUB_OFFLINE`` forbids all requests.
"""

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tasklens.core.errors import InputError
from tasklens.core.extras import import_extra
from tasklens.core.messages import nearest
from tasklens.core.progress import detail, progress
from tasklens.models.checkpoint_series import Checkpoint, check_hub_name
from tasklens.models.hub_errors import HubError, hub_reason
from tasklens.models.model_files import weights_among
from tasklens.models.series_steps import step_in
from tasklens.models.series_table import Revision, equal_weights

#: Requests at a time. The hub limits how many there may be in some minutes.
_REQUESTS = 8
#: What is no branch or tag, but a revision all the same.
_COMMIT = re.compile(r"[0-9a-f]{40}|refs/.+")


def find_revisions(repository: str, names: Sequence[str] = ()) -> list[Revision]:
    """Return what the hub knows of the revisions of a repository, in the order of the names.

    Without names, these are all branches, and the tags of other commits. A request per commit lists
    its files with their hashes; no file is fetched. InputError if a revision does not exist,
    HubError if the hub cannot be asked.
    """
    check_hub_name(repository, Path(repository))
    api = import_extra("huggingface_hub").HfApi()
    refs = _asked(repository, lambda: api.list_repo_refs(repository))
    branches, tags = (
        {ref.name: ref.target_commit for ref in each} for each in (refs.branches, refs.tags)
    )
    known = tags | branches
    if not names:
        taken = {*branches.values()}
        names = [name for name in known if name in branches or known[name] not in taken]
    for name in names:
        if name not in known and not _COMMIT.fullmatch(name):
            close = f"; the nearest is {nearest(name, [*known])}" if known else ""
            raise InputError(f"{repository} has no revision {name}{close}")

    first_of = {known.get(name, name): name for name in reversed(names)}  # a request per commit
    with (
        progress("series", len(first_of), "revision", lasting=False) as bar,
        ThreadPoolExecutor(_REQUESTS) as pool,
    ):

        def files_of(name: str) -> list[Any]:
            list_tree = partial(api.list_repo_tree, repository, revision=name)
            tree = _asked(f"{repository}@{name}", lambda: [*list_tree()])
            bar.update()
            return [file for file in tree if hasattr(file, "size")]

        trees = dict(zip(first_of, pool.map(files_of, first_of.values()), strict=True))
    return [
        revision_of(name, known.get(name, name), trees[known.get(name, name)]) for name in names
    ]


def check_revisions(checkpoints: Sequence[Checkpoint]) -> list[str]:
    """Return what is odd about the revisions of a series before they are fetched, as sentences.

    If the hub cannot be asked there is nothing: the cache may have them. InputError if a revision
    does not exist, or has no weights.
    """
    wanted: dict[str, list[str]] = {}
    for each in checkpoints:
        if each.directory is None and each.revision is not None and not each.untrained:
            wanted.setdefault(each.repository, []).append(each.revision)
    sentences = []
    for repository, names in wanted.items():
        try:
            revisions = find_revisions(repository, names)
        except HubError as error:
            detail(f"the revisions are not checked: {error}")
            continue
        for revision in revisions:
            if not revision.size:
                raise InputError(
                    f"{repository}@{revision.name} has no weights (safetensors or pytorch_model"
                    f".bin): leave it out; tasklens series {repository} lists the revisions"
                )
        sentences += [f"{repository}: {each}" for each in equal_weights(revisions)]
    return sentences


def revision_of(name: str, commit: str, files: Sequence[Any]) -> Revision:
    """Return what the files of a revision, as huggingface_hub's ``RepoFile``, make known of it."""
    by_name = {file.path: file for file in files}
    weights = [by_name[path] for path in weights_among([*by_name])]
    # LFS has the SHA-256 of a file; Git itself a SHA-1 of a small one.
    hashes = tuple(file.lfs.sha256 if file.lfs else f"git {file.blob_id}" for file in weights)
    return Revision(
        name=name,
        step=step_in(name),
        commit=commit,
        size=sum(file.size for file in weights),
        hashes=hashes,
        plain=tuple(file.path for file in weights if file.lfs is None),
    )


def _asked(name: str, request: Callable[[], Any]) -> Any:
    """Return the answer to a request; HubError, which begins with the name, if there is none."""
    try:
        return request()
    except Exception as error:  # the network and the hub raise many kinds
        raise HubError(f"{name} {hub_reason(error)}") from error
