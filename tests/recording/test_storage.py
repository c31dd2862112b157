import errno
import resource
from pathlib import Path

import pytest
import torch

from lightning_id.recording.storage import Limits, Storage

ROWS = torch.ones(1, 25)  # 100 bytes


def test_without_a_limit_all_rows_stay_on_the_device():
    storage = Storage()
    assert storage.new("a", 1000, ROWS).shape == (1000, 25)
    assert storage.places == {"a": "cpu"}


def test_beyond_the_limit_rows_are_in_a_file_in_the_dtype_they_came_in():
    storage = Storage(Limits(host=1000))
    blocks = {
        name: storage.new(name, 8, ROWS.to(dtype))
        for name, dtype in [("a", torch.float32), ("b", torch.bfloat16), ("c", torch.float32)]
    }
    assert storage.places == {"a": "cpu", "b": "file", "c": "file"}
    for i, (name, block) in enumerate(blocks.items()):
        block.fill_(i + 1)
        assert storage.get(name).dtype == block.dtype
    assert [float(storage.get(name).float().mean()) for name in "abc"] == [1, 2, 3]


def test_room_is_used_again_and_files_are_gone_with_the_rows():
    storage = Storage(Limits(host=1000))
    storage.new("a", 8, ROWS), storage.new("b", 8, ROWS)
    (file,) = storage._files.values()
    assert file.stat().st_size == 800
    storage.discard("a"), storage.discard("b"), storage.discard("never there")
    assert not file.exists()
    storage.new("c", 8, ROWS)
    assert storage.places == {"c": "cpu"}


def test_the_folder_is_gone_with_the_storage():
    storage = Storage(Limits(host=1))
    storage.new("a", 8, ROWS)
    folder = Path(storage._folder.name)
    assert folder.exists()
    del storage
    assert not folder.exists()


def test_a_full_disk_is_an_error_and_not_a_crash():
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    storage = Storage(Limits(host=1))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
        with pytest.raises(OSError, match="File too large") as caught:
            storage.new("a", 1000, ROWS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert storage.get("a") is None
