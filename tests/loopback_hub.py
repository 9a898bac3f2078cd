"""A stand-in for the Hugging Face hub on the loopback: refs, trees and files of repositories."""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

#: Files by name.
Files = dict[str, bytes]
#: From so many bytes on a file is in LFS.
LFS_SIZE = 100


@dataclass
class Hub:
    """Repositories that the stand-in serves, and the addresses that it was asked for."""

    endpoint: str = ""
    #: Branches of each repository, each with its files.
    branches: dict[str, dict[str, Files]] = field(default_factory=dict)
    tags: dict[str, dict[str, Files]] = field(default_factory=dict)
    #: Statuses that answer every request for a repository, each with the code that the hub gives.
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def fetched(self) -> list[str]:
        """The addresses of files that were asked for."""
        return [path for path in self.asked if "/resolve/" in path]

    def revisions(self, repository: str) -> dict[str, Files]:
        return self.tags.get(repository, {}) | self.branches[repository]


def commit_of(files: Files) -> str:
    """Return what is the commit of some files: equal files have one."""
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def serving(patch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Serve an empty `Hub` that huggingface_hub asks in this process."""
    from huggingface_hub import constants

    hub = Hub()

    class Handler(_Handler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    patch.setattr(constants, "ENDPOINT", hub.endpoint)
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    served: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.served.asked.append(path)
        parts = path.strip("/").split("/")
        is_api = parts[:2] == ["api", "models"]
        owner, name, kind, *rest = [*(parts[2:] if is_api else parts), "", "", ""]
        repository = f"{owner}/{name}"
        if repository in self.served.refused:
            status, code = self.served.refused[repository]
            self._answer(b"{}", status, {"X-Error-Code": code} if code else {})
        elif repository not in self.served.branches:
            self._answer(b"{}", 404, {"X-Error-Code": "RepoNotFound"})
        elif kind == "refs":
            self._answer_json(self._refs(repository))
        else:
            self._answer_revision(repository, kind, rest)

    def _refs(self, repository: str) -> Any:
        def listed(kind: str, files_of: dict[str, Files]) -> list[dict[str, str]]:
            return [
                {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit_of(files)}
                for name, files in files_of.items()
            ]

        branches = listed("heads", self.served.branches[repository])
        tags = listed("tags", self.served.tags.get(repository, {}))
        return {"branches": branches, "tags": tags, "converts": []}

    def _answer_revision(self, repository: str, kind: str, rest: list[str]) -> None:
        by_name = self.served.revisions(repository)
        by_name = by_name | {commit_of(files): files for files in by_name.values()}
        files = by_name.get(rest[0])
        if files is None:
            self._answer(b"{}", 404, {"X-Error-Code": "RevisionNotFound"})
        elif kind == "tree":
            self._answer_json([_entry(*file) for file in files.items()])
        elif kind == "revision":
            siblings = [{"rfilename": name} for name in files]
            self._answer_json({"id": repository, "sha": commit_of(files), "siblings": siblings})
        elif kind == "resolve" and (path := "/".join(filter(None, rest[1:]))) in files:
            headers = {"ETag": f'"{sha256(files[path])}"', "X-Repo-Commit": commit_of(files)}
            self._answer(files[path], 200, headers)
        else:
            self._answer(b"{}", 404, {"X-Error-Code": "EntryNotFound"})

    def _answer_json(self, document: Any) -> None:
        self._answer(json.dumps(document).encode(), 200, {"Content-Type": "application/json"})

    def _answer(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _entry(path: str, content: bytes) -> dict[str, Any]:
    git = hashlib.sha1(content).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": git}
    if len(content) >= LFS_SIZE:
        entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 134}
    return entry
