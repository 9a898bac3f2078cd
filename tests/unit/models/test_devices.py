import pytest
import torch

from tasklens.models.devices import seeded


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
