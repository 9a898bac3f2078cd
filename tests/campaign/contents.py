"""Contents that a file should not have: nested without end, of other formats or encodings."""

import gzip
import json
import re
from random import Random

LFS = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
#: Text that stands for a value of JSON or TOML.
TOKENS = (
    *(b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 20_000 + b"1" + b"}" * 20_000),
    *(b"9" * 5000, b"-" + b"9" * 5000, b"1e400", b"-1e400", b"NaN", b"Infinity", b"1" * 400),
    *(b'"\\ud800"', b'"\\ud83d x"', b'"\\u0000"', b'"' + b"x" * 200_000 + b'"', b'""', b"null"),
    *(b"9223372036854775808", b"1.0", b"1e0", b"true", b"[]", b"{}", b'{"": {"": null}}'),
)
#: A value of JSON or TOML, or a key.
VALUE = re.compile(rb'"(?:[^"\\\n]|\\.)*"|-?\d[\d.e+-]*|true|false|null')


def hostile(content: bytes, rng: Random) -> tuple[bytes, str]:
    """Return a changed content, and what was changed."""
    kind = rng.choice(["value", "value", "value", "twice", "whole", "encoding"])
    if kind == "value" and (values := list(VALUE.finditer(content))):
        match, token = rng.choice(values), rng.choice(TOKENS)
        changed = content[: match.start()] + token + content[match.end() :]
        return changed, f"{token[:20]!r} in the place of {match[0][:20]!r}"
    if kind == "twice" and content.strip():  # the same line, and so the same key, again
        lines = content.splitlines(keepends=True)
        i = rng.randrange(len(lines))
        return b"".join([*lines[:i], lines[i], *lines[i:]]), f"line {i + 1} twice"
    if kind == "encoding":
        text = content.decode(errors="replace")
        encoded = {
            "UTF-16": text.encode("utf-16", "replace"),
            "UTF-32": text.encode("utf-32", "replace"),
            "BOM": b"\xef\xbb\xbf" + content,
            "CR": content.replace(b"\r\n", b"\n").replace(b"\n", b"\r"),
            "CRLF": content.replace(b"\n", b"\r\n"),
            "gzip": gzip.compress(content, mtime=0),
            "NUL at the end": content + b"\0" * 512,
            "Latin-1": content + "é".encode("latin-1"),
        }
        name = rng.choice(sorted(encoded))
        return encoded[name], name
    whole = {
        "a Git LFS pointer": LFS,
        "HTML": b"<!DOCTYPE html><html><body>404: Not Found</body></html>",
        "nested lists": b"[" * 200_000,
        "nested objects": b'{"a":' * 100_000,
        "a list": b"[1, 2]",
        "a number": b"9" * 5000,
        "null": b"null",
        "a text": json.dumps("text").encode(),
        "spaces": b" \n" * 1000,
    }
    name = rng.choice(sorted(whole))
    return whole[name], name
