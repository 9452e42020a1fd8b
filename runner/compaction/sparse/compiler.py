"""Compile the C kernels with the system's compiler at first use, and cache the library."""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("kernels.c")
# No -ffast-math, so that NaN and infinity behave as in PyTorch.
_FLAGS = ("-std=gnu11", "-O3", "-ffp-contract=fast", "-fPIC", "-shared")
_SECONDS = 300


class NoKernels(Exception):
    """Raised if the kernels can't be used on this machine; the message gives the reason in one line."""


@functools.cache
def kernels() -> ctypes.CDLL:
    """Load the compiled kernels, compiling them first if necessary.

    Environment:
        CC: the compiler and its options; by default, the first of cc, gcc and clang on the PATH.
        RUNNER_CACHE: the cache directory; by default, `runner` in XDG_CACHE_HOME or in ~/.cache.

    Raises:
        NoKernels: this isn't a POSIX system, there is no compiler, it fails, or its output can't be loaded.
    """
    if os.name != "posix":
        raise NoKernels(f"sparse kernels are compiled on Linux and macOS, not on {platform.system()}")
    compiler = _compiler()
    directory = _cache_directory()
    key = _key(compiler)
    library = directory / f"sparse-{key}.so"
    if not _is_ours(library):
        _compile(compiler, library)
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise NoKernels(f"{library} can't be loaded: {error}") from error


def _compiler() -> list[str]:
    if os.environ.get("CC"):
        command = shlex.split(os.environ["CC"])
        if shutil.which(command[0]) is None:
            raise NoKernels(f"CC={os.environ['CC']}: there is no such compiler")
        return command
    for name in ("cc", "gcc", "clang"):
        found = shutil.which(name)
        if found:
            return [found]
    raise NoKernels("there is no C compiler (cc, gcc, clang) on the PATH")


def _cache_directory() -> Path:
    """Return a cache directory that only this user can write to, because its content will be executed."""
    root = os.environ.get("RUNNER_CACHE")
    base = Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "runner"
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _only_ours(base) and os.access(base, os.W_OK):
            return base
    except (OSError, RuntimeError):
        pass
    return _private_directory()


@functools.cache
def _private_directory() -> Path:
    return Path(tempfile.mkdtemp(prefix="runner-"))


def _only_ours(path: Path) -> bool:
    """Return whether a path belongs to this user and is not writable by others."""
    status = path.stat()
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _is_ours(library: Path) -> bool:
    return library.is_file() and not library.is_symlink() and _only_ours(library)


def _key(compiler: list[str]) -> str:
    """Return a hash of the source, the compiler and the processor, because machines may share a home directory."""
    try:
        version = subprocess.run(
            [*compiler, "--version"], capture_output=True, text=True, timeout=_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise NoKernels(f"the compiler {shlex.join(compiler)} doesn't work: {_line(error)}") from error
    parts = (SOURCE.read_bytes().decode(), " ".join(_FLAGS), shlex.join(compiler), version, _processor())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _processor() -> str:
    """Return the properties of the processor that -march=native depends on."""
    parts = [platform.system(), platform.machine(), platform.processor()]
    information = Path("/proc/cpuinfo")
    if information.is_file():
        wanted = ("model name", "flags", "features", "cpu part")
        lines = information.read_text(errors="replace").splitlines()
        parts += sorted({line for line in lines if line.lower().startswith(wanted)})
    return "\n".join(parts)


def _compile(compiler: list[str], library: Path) -> None:
    """Compile to a temporary file and rename it, so that other processes never see a partial library."""
    handle, name = tempfile.mkstemp(dir=library.parent, prefix=".sparse-", suffix=".so")
    os.close(handle)
    temporary = Path(name)
    try:
        errors = ""
        for native in (["-march=native"], ["-mcpu=native"], []):
            command = [*compiler, *_FLAGS, *native, "-o", str(temporary), str(SOURCE)]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
            except (OSError, subprocess.SubprocessError) as error:
                raise NoKernels(f"the compiler {shlex.join(compiler)} doesn't work: {_line(error)}") from error
            if done.returncode == 0:
                temporary.chmod(0o700)
                temporary.replace(library)
                return
            errors = errors or done.stderr
        raise NoKernels(f"the compiler {shlex.join(compiler)} failed: {_line(errors or 'no error message')}")
    finally:
        temporary.unlink(missing_ok=True)


def _line(message: object) -> str:
    lines = str(message).strip().splitlines()
    return (lines[0] if lines else type(message).__name__)[:200]
