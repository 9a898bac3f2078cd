"""Stage data: what the model is asked, drawn or read, into the run directory."""

from tasklens.core.errors import InputError
from tasklens.core.progress import progress
from tasklens.runs.run import Run


def make_data(run: Run) -> None:
    """Write the dataset, or the labelled prompts.

    Raises
    ------
    InputError
        If a file that they were made from has changed since.
    """
    directory, sources = run.directory, run.sources()
    mark = directory.mark("data")
    for name, content_hash in sources.items():
        if mark and mark["sources_read"].get(name, content_hash) != content_hash:
            raise InputError(
                f"{directory.path} holds another run: {name} has changed since its data were "
                "made; name another directory with --out"
            )
    with directory.stage("data", run.inputs("data")) as finish:
        if finish is None:
            return
        with progress("data"):
            files = run.data_files()
            directory.write_directory(directory.data, files)
        finish([directory.data / name for name in files], sources_read=sources)
