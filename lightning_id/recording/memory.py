"""Free memory of a device and of this process, and the share of it that recorded rows may take."""

import os
import platform
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from lightning_id.recording.processes import Processes
from lightning_id.recording.storage import Limits

SHARE = 0.25  # of the free memory; the rest is for the user's model, batches and other programs
_BLOCK = 4096  # columns that an estimate centres at a time, in float32, besides the n x n matrix


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
