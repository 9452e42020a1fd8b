"""Select the device and the precision according to the options and the hardware."""

import platform
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from runner.errors import ConfigError

_X86 = ("x86_64", "AMD64")


def resolve_device(asked: str) -> torch.device:
    """Return the requested device; `auto` is the first available one of cuda, mps and cpu.

    Raises:
        ConfigError: the requested device is not available.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if asked == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    device = torch.device(asked)
    there = {"cuda": cuda and (device.index or 0) < torch.cuda.device_count(), "mps": mps, "cpu": True}
    if not there[device.type]:
        have = ", ".join(name for name, has in (("cuda", cuda), ("mps", mps), ("cpu", True)) if has)
        raise ConfigError(f"device={asked}: not available on this machine; expected auto, {have}")
    return device


def resolve_precision(asked: str, device: torch.device) -> str:
    """Return the requested precision.

    `auto` is bf16 where its matrix products are fast, which is on processors with AVX512-BF16 or AMX and on GPUs of
    compute capability 8.0 or higher, and float32 elsewhere.
    """
    if asked != "auto":
        return asked
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
    if device.type == "cpu":
        return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "float32"
    return "float32"


def slow_precision(precision: str, device: torch.device) -> str | None:
    """Return a warning if the processor has to emulate the precision, otherwise None.

    Measured on a processor with AVX2 only: a product of 512 x 512 matrices takes 3 ms in float32 and 302 ms in bf16.
    ARM processors were not measured.
    """
    imitated = device.type == "cpu" and platform.machine() in _X86 and resolve_precision("auto", device) != "bf16"
    if precision != "bf16" or not imitated:
        return None
    return (
        "precision=bf16: this processor has no bf16 instructions, which can make bf16 a hundred times slower than "
        "float32; train with precision=float32, or with precision=auto, which chooses what is fast"
    )


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context manager for forward passes, i.e. autocast for bf16."""
    if precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def describe(device: torch.device) -> str:
    """Return the name of the GPU or the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _processor()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed PyTorch's generators of the CPU and the device like torch.manual_seed, but faster.

    torch.manual_seed also records a stack trace for every type of accelerator that is not available, which takes half a
    millisecond per call.
    """
    torch.default_generator.manual_seed(seed)
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).manual_seed(seed)
