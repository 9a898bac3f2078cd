"""Run a notebook's cells and keep their outputs.

    python docs/scripts/run_notebook.py docs/how-to/probe.ipynb

The notebook is plain JSON and its cells are plain Python, so that neither this script nor the test
that runs the cells needs Jupyter.
"""

import ast
import base64
import contextlib
import io
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tasklens.report.style import render


def run_notebook(path: Path, changes: Mapping[str, str]) -> dict[str, Any]:
    """Return a notebook with the outputs of its cells, which run in the directory of the notebook.

    Parameters
    ----------
    path : Path
    changes : {str: str}
        New code for old code that occurs once.
    """
    notebook: dict[str, Any] = json.loads(path.read_text())
    names: dict[str, Any] = {"__name__": "__main__"}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for old in changes:
        assert sum("".join(cell["source"]).count(old) for cell in cells) == 1, old
    with contextlib.chdir(path.parent):
        for number, cell in enumerate(cells, 1):
            code = "".join(cell["source"])
            for old, new in changes.items():
                code = code.replace(old, new)
            cell["execution_count"] = number
            cell["outputs"] = _outputs(code, names, number)
    return notebook


def _outputs(code: str, names: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """Run a cell; return its printed text and the value of its last line as outputs."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, f"cell {number}", "exec"), names)
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        text = printed.getvalue().splitlines(keepends=True)
        outputs.append({"output_type": "stream", "name": "stdout", "text": text})
    if value is not None:
        data: dict[str, Any] = {"text/plain": repr(value).splitlines(keepends=True)}
        if isinstance(value, Figure):
            data["image/png"] = base64.b64encode(render(value, "png")).decode() + "\n"
        result = {"output_type": "execute_result", "execution_count": number, "metadata": {}}
        outputs.append(result | {"data": data})
    return outputs


if __name__ == "__main__":
    os.environ["TQDM_DISABLE"] = "1"
    for name in sys.argv[1:]:
        notebook = run_notebook(Path(name), {})
        Path(name).write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
