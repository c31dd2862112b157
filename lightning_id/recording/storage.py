"""Where recorded rows are kept (on the device, in host memory or in a file), and the room there."""

import os
import platform
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lightning_id.recording.processes import Processes

SHARE = 0.25  # of the free memory; the rest is for the user's model, batches and other programs
_BLOCK = 4096  # columns that an estimate centres at a time, in float32, besides the n x n matrix
_CHUNK = 2**24  # bytes written at a time when a file is made


class Limits(NamedTuple):
    """Bytes on a device that is not the CPU, and in host memory; None for no limit."""

    device: int | None = None
    host: int | None = None

    def total(self, place: str) -> int | None:
        """Return the bytes that rows of a type of device may take in memory altogether."""
        limits = [self.host] if place == "cpu" else [self.device, self.host]
        known = [limit for limit in limits if limit is not None]
        return sum(known) if len(known) == len(limits) else None


def too_large(
    sizes: Mapping[str, int], reduced: Mapping[str, int], limit: int | None
) -> frozenset[str]:
    """Choose the blocks to reduce, largest first, equal ones together, until a limit is kept."""
    chosen: set[str] = set()
    total = sum(sizes.values())
    for size in sorted({sizes[name] for name in reduced}, reverse=True):
        if limit is None or total <= limit:
            break
        equal = {name for name in reduced if sizes[name] == size}
        total -= sum(sizes[name] - reduced[name] for name in equal)
        chosen |= equal
    return frozenset(chosen)


class Storage:
    """Blocks of rows by layer, each on their device, in host memory or in a file: `places`."""

    # A block is allocated at its first rows: on their device while its limit is kept, else in host
    # memory while that limit is kept, else in a temporary file, deleted with this object.

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.places: dict[str, str] = {}
        self._blocks: dict[str, Tensor] = {}
        self._is_written: dict[str, Bool[Tensor, " n"]] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files: dict[str, Path] = {}
        self._n_files = 0  # made so far: their names

    def write(
        self, name: str, rows: Float[Tensor, "r d"], slots: Int[Tensor, " r"], n_slots: int
    ) -> None:
        """Write rows into their slots; raises ValueError for rows of another length than before."""
        if name not in self._blocks:
            self._blocks[name] = self._allocate(name, n_slots, rows)
            self._is_written[name] = torch.zeros(n_slots, dtype=torch.bool)
        block = self._blocks[name]
        if block.shape[1] != rows.shape[1]:
            raise ValueError(
                f"expected {block.shape[1]} features as in the batches before, got"
                f" {rows.shape[1]}; reduce='mean', 'last' or 'tokens' gives rows of one length"
            )
        there = slots.to(block.device, non_blocking=True)
        block.index_copy_(0, there, rows.to(block))
        self._is_written[name][slots] = True

    def rows(self, name: str) -> Float[Tensor, "n d"] | None:
        """Return the rows of a layer, in the order of their slots; None if there are none."""
        if name not in self._blocks:
            return None
        block, is_written = self._blocks[name], self._is_written[name]
        n = int(is_written.sum())
        return block[:n] if bool(is_written[:n].all()) else block[is_written.to(block.device)]

    def slots(self, name: str) -> Int[Tensor, " n"] | None:
        """Return the slots of the rows of a layer, in order; None if there are none."""
        return self._is_written[name].nonzero()[:, 0] if name in self._blocks else None

    def nbytes(self) -> Counter[str]:
        """Return the bytes of all blocks by their place."""
        sizes: Counter[str] = Counter()
        for name, block in self._blocks.items():
            sizes[self.places[name]] += block.nbytes
        return sizes

    def discard(self, name: str) -> None:
        """Free the rows of a layer, if there are any."""
        self.places.pop(name, None)
        self._blocks.pop(name, None)
        self._is_written.pop(name, None)
        if name in self._files:
            self._files.pop(name).unlink()

    def _allocate(self, name: str, n_slots: int, like: Float[Tensor, "r d"]) -> Tensor:
        shape, place = (n_slots, like.shape[1]), like.device.type
        size = n_slots * like.shape[1] * like.element_size()
        if self._has_room(place, size):
            block = like.new_empty(shape)
        elif self._has_room("cpu", size):
            place, block = "cpu", torch.empty(shape, dtype=like.dtype)
        else:
            place, block = "file", self._mapped(name, size, like.dtype).view(shape)
        self.places[name] = place
        return block

    def _has_room(self, place: str, size: int) -> bool:
        limit = self.limits.host if place == "cpu" else self.limits.device
        return limit is None or self.nbytes()[place] + size <= limit

    def _mapped(self, name: str, size: int, dtype: torch.dtype) -> Tensor:
        self._folder = self._folder or tempfile.TemporaryDirectory(prefix="lightning_id_")
        path = self._files[name] = Path(self._folder.name) / f"{self._n_files}.rows"
        self._n_files += 1
        # Written, not only made long: a full disk is an error here, and a crash (SIGBUS) once the
        # file is mapped.
        with path.open("wb") as file:
            for start in range(0, size, _CHUNK):
                file.write(bytes(min(_CHUNK, size - start)))
        return torch.from_file(str(path), shared=True, size=size // dtype.itemsize, dtype=dtype)


def free_memory(device: torch.device, processes: Processes) -> Limits:
    """Return the free bytes of a device and of the host, the least of all ranks."""
    gathered = processes.all_gather((platform.node(), free_on_device(device), free_on_host()))
    n_ranks = Counter(machine for machine, _, _ in gathered)  # have equal parts of its memory
    devices = [free for _, free, _ in gathered if free is not None]
    hosts = [free // n_ranks[machine] for machine, _, free in gathered if free is not None]
    return Limits(min(devices, default=None), min(hosts, default=None))


def room_for_rows(free: Limits, n_samples: int) -> Limits:
    """Return the bytes that rows may take, a share of bytes free after the work of an estimate."""
    work = 4 * n_samples * (n_samples + _BLOCK)
    return Limits(*(None if each is None else int(SHARE * max(0, each - work)) for each in free))


def free_on_device(device: torch.device) -> int | None:
    """Return the bytes that a tensor could take on a device; None if that is not known."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return None
    try:
        free, _ = torch.cuda.mem_get_info(device)
    except RuntimeError:  # some devices do not report it
        return None
    # Memory that the caching allocator has reserved and does not use is free for us.
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def free_on_host() -> int | None:
    """Return the host memory that this process may still take: the least by machine and limits."""
    sources: list[Callable[[], int | None]] = [available, left_in_control_group, left_in_addresses]
    known = []
    for source in sources:
        try:
            left = source()
        except Exception:  # another system than Linux, or one of its files in another form
            continue
        if left is not None:
            known.append(max(0, left))
    return min(known, default=None)


def available() -> int | None:
    """Return the memory that is free without swapping; on a Mac, the installed memory."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        fields = dict(line.split(":") for line in meminfo.read_text().splitlines())
        return 1024 * int(fields["MemAvailable"].split()[0])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def left_in_control_group(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> int | None:
    """Return the least memory left below a limit of the control groups, of version 1 or 2."""
    left = []
    for line in own.read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            top, names = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top = root / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = top / path.lstrip("/")
        folders = [folder for folder in (group, *group.parents) if folder.is_relative_to(top)]
        left += [_left_in(folder, *names) for folder in folders]
    return min((each for each in left if each is not None), default=None)


def _left_in(folder: Path, limit: str, usage: str, droppable: str) -> int | None:
    """Return the limit of one control group less the memory it uses and cannot drop."""
    try:
        limited = (folder / limit).read_text().strip()
        if limited == "max":
            return None
        counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        used = int((folder / usage).read_text()) - int(counts.get(droppable, 0))
    except OSError:  # inside a container the path may be that of the host
        return None
    return int(limited) - used


def left_in_addresses() -> int | None:
    """Return the memory left below the limit of the address space; None without a limit."""
    import resource  # noqa: PLC0415  # not on Windows

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return limit - pages * os.sysconf("SC_PAGE_SIZE")
