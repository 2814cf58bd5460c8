"""Devices and the links between them, as their makers state them, for the simulation in `benchmarks.distributed`.

Figures are peaks; how much of a peak is reached is the simulation's to assume. Bandwidth of a link is one way, out of
one device. The time of a collective operation is NCCL's own model of it: a start, and a step for each hop, in two
protocols of which the faster is taken (NVIDIA/nccl, src/graph/tuning.cc, ring: "LL" sends a flag with each word and has
a quarter of the bandwidth, "Simple" has all of it and starts slowly).
"""

from dataclasses import dataclass

__all__ = ["DEVICES", "ETHERNET", "LINKS", "NVLINK_A100", "NVLINK_H100", "Device", "Link"]


@dataclass(frozen=True)
class Device:
    """What one device does at most.

    Args:
        name: As users say it.
        flops: Multiplications and additions of bf16 matrix products a second.
        exps: Exponentials a second, which bound a selective scan.
        memory_bytes: How much it holds.
        bandwidth: Bytes a second to and from that memory.
        source: Of the figures.
    """

    name: str
    flops: float
    exps: float
    memory_bytes: int
    bandwidth: float
    source: str


@dataclass(frozen=True)
class Link:
    """How devices are joined.

    Args:
        name: As users say it.
        bandwidth: Bytes a second, one way.
        protocols: For each (seconds to start, seconds a step, share of the bandwidth).
        source: Of the figures.
    """

    name: str
    bandwidth: float
    protocols: tuple[tuple[float, float, float], ...]
    source: str

    def seconds(self, size_bytes: float, steps: int) -> float:
        """The time for so many bytes out of each device, in so many steps; the faster protocol."""
        if steps == 0:
            return 0.0
        return min(
            start + steps * step + size_bytes / (self.bandwidth * share) for start, step, share in self.protocols
        )


# Exponentials: 16 a clock and multiprocessor (CUDA C++ Programming Guide, arithmetic instructions, compute capability
# 8.0 and 9.0), times 108 at 1.41 GHz and 132 at 1.83 GHz.
DEVICES = {
    "a100": Device("A100 80GB SXM", 312e12, 2.44e12, 80 * 10**9, 2.039e12, "NVIDIA A100 80GB datasheet (dense bf16)"),
    "h100": Device("H100 80GB SXM", 989e12, 3.87e12, 80 * 10**9, 3.35e12, "NVIDIA H100 SXM datasheet (dense bf16)"),
}

_NVLINK = ((3.6e-6, 0.47e-6, 0.25), (8.4e-6, 3.4e-6, 1.0))
_NETWORK = ((3.6e-6, 2.7e-6, 0.25), (8.4e-6, 9.6e-6, 1.0))
_NCCL = "times: NVIDIA/nccl, src/graph/tuning.cc at commit 01afd20a"

NVLINK_A100 = Link(
    "NVLink", 235e9, _NVLINK, f"600 GB/s both ways (datasheet), of which NCCL counts 235 one way; {_NCCL}"
)
NVLINK_H100 = Link(
    "NVLink", 376e9, _NVLINK, f"900 GB/s both ways (datasheet), 376 measured one way (nccl#1264); {_NCCL}"
)
ETHERNET = Link("Ethernet", 12.5e9, _NETWORK, f"line rate of 100 Gbit/s, one device a port, with RDMA; {_NCCL}")

LINKS = {"a100": (NVLINK_A100, ETHERNET), "h100": (NVLINK_H100, ETHERNET)}
