"""Each file of a run, changed in each way, is refused by what reads it, or has no effect."""

from pathlib import Path

import pytest

from tasklens.core.errors import InputError
from tasklens.runs.load_run import load_run

#: Contents that readers of JSON, TOML, Parquet, safetensors and NumPy have failed on.
CONTENTS = {
    "empty": b"",
    "deep": b"[" * 100_000,
    "deep in TOML": b"a = " + b"[" * 100_000,
    "long numbers": b'{"a": ' + b"9" * 5000 + b"}",
    "an infinity": b'{"a": 1e999, "b": NaN}',
    "half a pair": b'{"\\ud800": "\\ud800"}',
    "a key twice": b'{"files": {}, "files": {}}',
    "UTF-16": "{}".encode("utf-16"),
    "a mark": b"\xef\xbb\xbf{}",
    "no text": b"\xff\xfe\x00",
    "a header without end": b"\xff" * 8,
    "Parquet's ends": b"PAR1" + b"\xff" * 20 + b"PAR1",
    "an archive": b"PK\x03\x04",
    "an array": b"\x93NUMPY\x01\x00\xff\xff",
}


def check(path: Path) -> None:
    """Open a run and check its files, as each command does with those that it reads."""
    run = load_run(path)
    run.need("measure")
    run.check_files("measure")
    run.directory.check(run.directory.frames)


@pytest.mark.parametrize("kind", ["run", "probe"])
def test_a_file_of_other_content_is_refused_in_one_line(
    kind: str, request: pytest.FixtureRequest
) -> None:
    copy: Path = request.getfixturevalue("copy" if kind == "run" else "probe_copy")
    check(copy)
    last = max((copy / "states").iterdir()).name
    files = [copy / name for name in ("scores.parquet", "frames.safetensors")]
    for folder in ("data", f"states/{last}", f"measured/{last}"):
        files += [file for file in (copy / folder).iterdir() if file.name != "README.md"]
    # Of the first two, the hash is not checked before they are parsed, or is in them.
    damages = [(copy / name, CONTENTS) for name in ("manifest.json", "config.toml")]
    damages += [(file, {"empty": b""}) for file in files]
    for file, damage in damages:
        before = file.read_bytes()
        for content in damage.values():
            file.write_bytes(content)
            with pytest.raises(InputError, match=rf"^[^\n]*{file.name}[^\n]*$"):
                check(copy)
        file.write_bytes(before)
    check(copy)
