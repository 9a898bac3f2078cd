"""The licence of a model is the one that its files state."""

import json
from pathlib import Path

import numpy as np
import pytest

from tasklens.models.licences import NOT_STATED, licence_of

CARDS = {
    "---\nlanguage: en\nlicense: apache-2.0\ntags: [a]\n---\n# A model\n": "apache-2.0",
    "---\nlicense: 'mit'\r\n---\n": "mit",
    "---\nlicense:\n- cc-by-4.0\n---\n": "cc-by-4.0",
    "---\nlicense: other\nlicense_name: llama3\nlicense_link: x\n---\n": "llama3",
    "---\nlicense: other\n---\n": "other",
    "---\nlicense_name: llama3\n---\nlicense: mit\n": NOT_STATED,
    "# A model\nlicense: mit\n": NOT_STATED,
    "": NOT_STATED,
}


@pytest.mark.parametrize(("card", "licence"), CARDS.items())
def test_the_head_of_a_model_card(card: str, licence: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card)
    (tmp_path / "config.json").write_text("{}")
    assert licence_of(tmp_path) == licence


def test_the_first_of_card_configuration_and_base_counts(tmp_path: Path) -> None:
    adapter, base = tmp_path / "adapter", tmp_path / "base"
    for path in (adapter, base):
        path.mkdir()
    assert licence_of(adapter, base) == licence_of(None) == NOT_STATED
    (base / "config.json").write_text(json.dumps({"license": "of\x1b the base"}))
    assert licence_of(adapter, base) == "of\\x1b the base"
    (adapter / "README.md").write_text("---\nlicense: mit\n---\n")
    assert licence_of(adapter, base) == "mit"


def test_a_gguf_file_states_it_in_its_metadata(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_license("apache-2.0")
    writer.add_tensor("token_embd.weight", np.zeros((2, 4), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert licence_of(path) == licence_of(tmp_path) == "apache-2.0"
