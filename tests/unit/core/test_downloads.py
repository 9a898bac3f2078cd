"""Files that stand in the place of one that was not downloaded."""

from pathlib import Path

import pytest

from tasklens.core.downloads import check_downloaded, stand_in
from tasklens.core.errors import InputError

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
STAND_INS = {
    LFS: "is a Git LFS pointer instead of the file: run git lfs pull in its repository",
    b"\n<!DOCTYPE html><html>404": "is a web page instead of the file: download it again",
    b"<?xml version='1.0'?><Error><Code>AccessDenied": "is a web page instead of the file",
    b"": "is empty: should have content",
}


@pytest.mark.parametrize("content", STAND_INS)
def test_a_stand_in_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        check_downloaded(path)
    assert str(error.value).startswith(f"{path} {STAND_INS[content]}")


def test_content_is_none() -> None:
    for content in (b"{}", b"version 2", b"\x80\x02", b"PK\x03\x04", b"htmlish"):
        assert stand_in(content) == ""


def test_a_link_that_leads_nowhere_and_a_directory_are_one_line(tmp_path: Path) -> None:
    """The blob of a hub's cache is gone, for instance."""
    link, directory = tmp_path / "link", tmp_path / "directory"
    link.symlink_to("../blobs/4d7a")
    directory.mkdir()
    for path, why in ((link, "is a link to ../blobs/4d7a, which is not"), (directory, "is not a")):
        with pytest.raises(InputError, match=f"^{path} {why}"):
            check_downloaded(path)
