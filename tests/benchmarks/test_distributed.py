"""The simulation of a split model keeps to what can't be otherwise, whatever the devices are."""

import pytest
from benchmarks.devices import DEVICES, ETHERNET, NVLINK_A100
from benchmarks.distributed import (
    COUNTS,
    MODELS,
    N_SEQUENCES,
    PROMPT_TOKENS,
    SPLITS,
    Cluster,
    Costs,
    Split,
    busiest,
    device_bytes,
    part_bytes,
    possible,
    reading_s,
    simulate,
    writing_s,
)

from longleaf.model.plan import plan_memory

A100 = DEVICES["a100"]
CASES = [(model, split) for model, config in MODELS.items() for split in SPLITS if possible(config, split, 2)]
MEASURES = ("read_per_s", f"written_per_s_of_{N_SEQUENCES}", "written_per_s_of_1")


@pytest.mark.parametrize(("model", "split"), CASES)
def test_no_split_is_faster_than_n_times_one_device(model: str, split: Split) -> None:
    one = simulate(model, A100, NVLINK_A100, split, 1)
    for n in COUNTS[1:]:
        for link in (NVLINK_A100, ETHERNET):
            many = simulate(model, A100, link, split, n)
            for measure in MEASURES:
                assert many[measure] <= one[measure] * n * (1 + 1e-9), (n, link.name, measure)


@pytest.mark.parametrize(("model", "split"), CASES)
def test_ethernet_is_never_faster_than_nvlink_and_one_device_needs_neither(model: str, split: Split) -> None:
    for n in COUNTS:
        near, far = (simulate(model, A100, link, split, n) for link in (NVLINK_A100, ETHERNET))
        for measure in MEASURES:
            if n == 1:
                assert far[measure] == near[measure]
            elif split == "pipeline" and measure == f"written_per_s_of_{N_SEQUENCES}":
                assert far[measure] <= near[measure]  # the last stage sends nothing on, and may be the slowest
            else:
                assert far[measure] < near[measure], (n, measure)


def test_on_one_device_all_splits_are_the_same() -> None:
    config = MODELS["Jamba Mini"]
    costs = [Costs(config, Cluster(A100, ETHERNET, 1), split) for split in SPLITS]
    assert len({reading_s(one, N_SEQUENCES, PROMPT_TOKENS) for one in costs}) == 1
    assert len({writing_s(one, N_SEQUENCES, PROMPT_TOKENS) for one in costs}) == 1


@pytest.mark.parametrize(("model", "split"), CASES)
def test_the_devices_together_hold_at_least_the_whole(model: str, split: Split) -> None:
    plan = plan_memory(MODELS[model], PROMPT_TOKENS, chunk_tokens=2048)
    whole = plan.weights_bytes + N_SEQUENCES * plan.state_bytes
    for n in COUNTS:
        each = device_bytes(MODELS[model], split, n, N_SEQUENCES, PROMPT_TOKENS) - plan.workspace_bytes
        assert each * n >= whole
        assert each < whole or n == 1


def test_bytes_of_jamba_mini_over_four_devices() -> None:
    config = MODELS["Jamba Mini"]
    plan = plan_memory(config, PROMPT_TOKENS, chunk_tokens=2048)
    parts = part_bytes(config)
    assert sum(parts.values()) == plan.weights_bytes
    assert parts["experts"] == 16 * 16 * 3 * 4096 * 14336 * 2  # layers, experts, matrices
    assert (
        sum(part_bytes(config, "int8-experts").values())
        == plan_memory(config, 1, quantize="int8-experts").weights_bytes
    )

    def weights(split: Split) -> int:
        return device_bytes(config, split, 4, 0, PROMPT_TOKENS) - plan.workspace_bytes

    copied = parts["norms"] + parts["routers"]  # every device of a tensor split has them whole
    assert weights("tensor") == (plan.weights_bytes - copied) // 4 + copied
    assert weights("expert") == plan.weights_bytes - parts["experts"] * 3 // 4
    quarter = sum(parts[name] for name in ("attention", "mamba", "dense", "experts", "routers")) // 4
    assert weights("pipeline") == quarter + parts["embedding"] + parts["norms"]  # a block of eight layers, and an end


def test_keys_of_one_head_are_copied_to_every_device() -> None:
    config = MODELS["Jamba 3B"]

    def state(n: int) -> int:
        return device_bytes(config, "tensor", n, 2, 100_000) - device_bytes(config, "tensor", n, 1, 100_000)

    plan = plan_memory(config, 100_000)
    assert state(1) == plan.state_bytes
    assert state(4) == plan.kv_bytes + (plan.ssm_bytes + plan.conv_bytes) // 4


def test_an_even_router_keeps_no_device_idle_and_none_alone() -> None:
    assert busiest(16, 2, 1, 1) == (2, 2)
    tokens, used = busiest(16, 2, 4096, 8)
    assert 4096 * 2 / 8 < tokens < 4096 * 2 / 8 * 1.2
    assert used == 2
    tokens, used = busiest(8, 2, 4, 4)
    assert 2 < tokens <= 8
    assert 1 < used <= 2
