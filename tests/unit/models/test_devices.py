import pytest
import torch

from tasklens.models.devices import multiplies_bf16, seeded


def test_seeding_the_cpu_seeds_no_gpu_and_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.manual_seed` would seed the GPUs of the caller, too."""
    seeded_gpus: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded_gpus.append)
    before = torch.get_rng_state()
    with seeded(3, torch.device("cpu")):
        drawn = torch.rand(4)
    assert torch.equal(drawn, torch.rand(4, generator=torch.Generator().manual_seed(3)))
    assert torch.equal(torch.get_rng_state(), before)
    assert seeded_gpus == []
    torch.manual_seed(int(torch.initial_seed()))
    assert len(seeded_gpus) == 1, "what must not be called is what torch calls"
    torch.set_rng_state(before)


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"avx512_bf16": False, "amx_bf16": False, "avx512_f": True}, False),
        ({"bf16": True, "sve_bf16": True, "neon": True}, False),
    ],
)
def test_bf16_needs_instructions_for_its_products(
    monkeypatch: pytest.MonkeyPatch, reported: dict[str, bool], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: reported, raising=False)
    assert multiplies_bf16(torch.device("cpu")) is expected


def test_a_pytorch_that_reports_no_capabilities_has_no_bf16(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not multiplies_bf16(torch.device("cpu"))
