"""Device and precision: what is asked for, and what the hardware has."""

import platform
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from runner.errors import ConfigError

_X86 = ("x86_64", "AMD64")


def resolve_device(asked: str) -> torch.device:
    """`auto` is the first of cuda, mps and cpu that is there.

    Raises:
        ConfigError: the asked device is not there.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if asked == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    device = torch.device(asked)
    there = {"cuda": cuda and (device.index or 0) < torch.cuda.device_count(), "mps": mps, "cpu": True}
    if not there[device.type]:
        have = ", ".join(name for name, has in (("cuda", cuda), ("mps", mps), ("cpu", True)) if has)
        raise ConfigError(f"device={asked}: not on this machine; expected auto, {have}")
    return device


def resolve_precision(asked: str, device: torch.device) -> str:
    """`auto` is bf16 where matrix products in it are fast: AVX512-BF16 or AMX processors, recent GPUs; else float32."""
    if asked != "auto":
        return asked
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
    if device.type == "cpu":
        return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "float32"
    return "float32"


def slow_precision(precision: str, device: torch.device) -> str | None:
    """A line for the user where the processor has to imitate the precision; None where it does not.

    Measured with AVX2 alone: a product of 512 x 512 matrices takes 3 ms in float32 and 302 ms in bf16. ARM processors
    were not measured.
    """
    imitated = device.type == "cpu" and platform.machine() in _X86 and resolve_precision("auto", device) != "bf16"
    if precision != "bf16" or not imitated:
        return None
    return (
        "precision=bf16: this processor has no bf16 instructions, which can make bf16 a hundred times slower than "
        "float32; train with precision=float32, or with precision=auto, which chooses what is fast"
    )


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context in which forward passes run."""
    if precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def describe(device: torch.device) -> str:
    """The device in words: the GPU's or the processor's name."""
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
    """Seed PyTorch's own generators of the processor and of the device, to the numbers that torch.manual_seed gives.

    That one also writes down a stack trace for every kind of accelerator that is not there: half a millisecond a call.
    """
    torch.default_generator.manual_seed(seed)
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).manual_seed(seed)
