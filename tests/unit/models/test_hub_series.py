"""The revisions of a repository, as a stand-in for the hub on the loopback serves them."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from loopback_hub import Files, Hub, commit_of, serving, sha256
from tasklens.core.errors import InputError
from tasklens.models.checkpoint_series import Checkpoint, fetch, find_checkpoints
from tasklens.models.hub_errors import HubError
from tasklens.models.hub_series import check_revisions, find_revisions


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(monkeypatch) as served:
        served.branches["org/series"] = {
            "main": weights("last"),
            "step1000": weights("first"),
            "step2000": weights("last"),
            "step0": {"config.json": b"{}"},
        }
        served.tags["org/series"] = {"v1": weights("last"), "v0": weights("early")}
        yield served


def weights(content: str) -> Files:
    return {"config.json": b"{}", "model.safetensors": content.encode() * 50}


def test_all_branches_and_tags_of_other_commits_are_listed_without_a_file(hub: Hub) -> None:
    revisions = find_revisions("org/series")
    assert {r.name for r in revisions} == {"main", "step0", "step1000", "step2000", "v0"}
    by_name = {r.name: r for r in revisions}
    first = by_name["step1000"]
    assert (first.step, first.size) == (1000, 250)
    assert first.sha256 == sha256(b"first" * 50), "that of LFS, which is that of the file"
    assert first.commit == commit_of(weights("first"))
    assert by_name["step2000"].sha256 == by_name["main"].sha256
    assert (by_name["step0"].size, by_name["step0"].sha256) == (0, "")
    trees = [path for path in hub.asked if "/tree/" in path]
    assert len(trees) == len(set(trees)) == 4, "a request per commit"
    assert hub.fetched == []


def test_shards_have_one_hash_and_formats_that_are_not_read_have_none(hub: Hub) -> None:
    shards = {f"model-0000{i}-of-00002.safetensors": f"part {i}".encode() * 50 for i in (1, 2)}
    other = shards | {"model-00002-of-00002.safetensors": b"another" * 50}
    hub.branches["org/shards"] = {
        "step1": shards | {"pytorch_model.bin": b"x" * 999, "optimizer.safetensors": b"x" * 999},
        "step2": shards,
        "step3": other,
        "step4": {"pytorch_model-00001-of-00001.bin": b"y" * 999},
        "step5": {"model.gguf": b"y" * 999, "original/model.safetensors": b"y" * 999},
        "step6": {"model.safetensors": b"small"},
    }
    one, two, three, four, five, six = find_revisions("org/shards")
    assert (one.sha256, one.size) == (two.sha256, two.size) == (one.sha256, 600)
    assert one.sha256 not in ("", three.sha256)
    assert (four.size, five.size) == (999, 0)
    assert six.plain == ("model.safetensors",)
    assert one.plain == ()


def test_named_revisions_are_in_the_order_given_and_may_be_commits(hub: Hub) -> None:
    commit = commit_of(weights("early"))
    revisions = find_revisions("org/series", ["step2000", commit, "v0", "main"])
    assert [r.name for r in revisions] == ["step2000", commit, "v0", "main"]
    assert revisions[1].sha256 == revisions[2].sha256 == sha256(b"early" * 50)
    with pytest.raises(InputError, match=r"^org/series has no revision step100; the nearest is st"):
        find_revisions("org/series", ["step100"])
    with pytest.raises(HubError, match=r"^org/series@0{40} has no such revision$"):
        find_revisions("org/series", ["0" * 40])


@pytest.mark.parametrize(
    ("status", "code", "line"),
    [
        (401, "", "is refused: the hub does not accept the token; set HF_TOKEN to a valid one"),
        (401, "RepoNotFound", "is not on the hub, or is private: check the name, or set HF_TOKEN"),
        (401, "GatedRepo", "is gated: accept its terms on its page, and set HF_TOKEN to a token"),
        (403, "GatedRepo", "is gated: accept its terms on its page, and set HF_TOKEN to a token"),
        (403, "", "is refused: the token in HF_TOKEN has no access to it"),
        (404, "RepoNotFound", "is not on the hub, or is private: check the name, or set HF_TOKEN"),
        (429, "", "is refused: there were too many requests; wait some minutes, or set HF_TOKEN"),
        (503, "", "cannot be fetched from the hub: it answers with the error 503; try again later"),
    ],
)
def test_what_the_hub_refuses_is_one_line(hub: Hub, status: int, code: str, line: str) -> None:
    hub.refused["org/series"] = status, code
    with pytest.raises(HubError) as caught:
        find_revisions("org/series")
    assert str(caught.value).startswith(f"org/series {line}")
    assert "\n" not in str(caught.value)


def test_no_hub_and_offline_are_one_line(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(HubError, match=r"http://127.0.0.1:9 cannot be reached \(.*\)$"):
            find_revisions("org/series")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=r"HF_HUB_OFFLINE is set; unset it to ask the hub$"):
        find_revisions("org/series")
    assert hub.asked == []


def test_a_hub_that_does_not_answer_is_one_line(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    class ReadTimeoutError(Exception):
        pass

    def wait(*_: object) -> None:
        raise ReadTimeoutError("timed out")

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_refs", wait)
    with pytest.raises(HubError, match=f"{hub.endpoint} does not answer in time; try again later$"):
        find_revisions("org/series")


def test_a_path_is_no_repository(hub: Hub) -> None:
    with pytest.raises(InputError, match="is not a directory; give a model's directory"):
        find_revisions("./org/series")
    assert hub.asked == []


# -- the check before models are fetched ----------------------------------------------------------


def test_equal_revisions_are_named_before_one_is_fetched(hub: Hub) -> None:
    revisions = ["step1000", "step2000", "main"]
    assert check_revisions(find_checkpoints(["org/series"], revisions)) == [
        f"org/series: step2000 has the weights of main (SHA-256 {sha256(b'last' * 50)[:12]}): one "
        "of these 2 is enough"
    ]
    assert check_revisions(find_checkpoints(["org/series"], ["step1000", "v0"])) == []
    assert hub.fetched == []


def test_a_revision_that_is_missing_or_empty_is_refused(hub: Hub) -> None:
    with pytest.raises(InputError, match=r"^org/series has no revision step3000; the nearest is"):
        check_revisions(find_checkpoints(["org/series"], ["step1000", "step3000"]))
    with pytest.raises(InputError, match=r"^org/series@step0 has no weights \(safetensors or"):
        check_revisions(find_checkpoints(["org/series"], ["step0", "step1000"]))


def test_only_revisions_are_checked_and_only_if_the_hub_answers(hub: Hub, tmp_path: Path) -> None:
    assert check_revisions([Checkpoint(1, "a", tmp_path), Checkpoint(2, "b", None, "org/b")]) == []
    assert hub.asked == []
    hub.refused["org/series"] = 503, ""
    assert check_revisions(find_checkpoints(["org/series"], ["step1000", "step3000"])) == []


def test_a_model_is_fetched_or_in_the_cache_and_a_log_has_no_bar(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    (checkpoint,) = find_checkpoints(["org/series"], ["step1000"])
    path = fetch(checkpoint)
    assert (path / "model.safetensors").read_bytes() == b"first" * 50
    assert capfd.readouterr().err == ""
    hub.refused["org/series"] = 503, ""
    assert fetch(checkpoint) == path, "the cache has it"
    (other,) = find_checkpoints(["org/series"], ["step2000"])
    line = "^org/series@step2000: is not a directory, and is not in the cache, and cannot be "
    with pytest.raises(InputError, match=f"{line}fetched from the hub: it answers with .* 503"):
        fetch(other)


def test_importing_asks_for_nothing() -> None:
    """huggingface_hub is heavy, and is only needed for names on the hub."""
    code = "import sys, tasklens.models.hub_series; sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
