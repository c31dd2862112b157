import errno
import resource
from pathlib import Path

import pytest
import torch

from lightning_id.recording.storage import Limits, Storage

ROWS = torch.ones(1, 25)  # 100 bytes


ALL = torch.arange(8)


def filled(limits, **rows):
    """Return a storage with blocks of eight rows."""
    storage = Storage(limits)
    for name, x in rows.items():
        storage.write(name, x.expand(8, 25), ALL, n_slots=8)
    return storage


def test_rows_are_written_to_their_slots_and_read_in_order():
    storage = Storage()
    storage.write("a", torch.tensor([[2.0], [0.0]]), torch.tensor([2, 0]), n_slots=4)
    assert storage.rows("a").tolist() == [[0], [2]]  # without the slots that have none
    assert storage.slots("a").tolist() == [0, 2]
    storage.write("a", torch.tensor([[1.0], [5.0]]), torch.tensor([1, 2]), n_slots=4)
    assert storage.rows("a").tolist() == [[0], [1], [5]]
    assert storage.rows("b") is storage.slots("b") is None
    with pytest.raises(ValueError, match="expected 1 features as in the batches before, got 25"):
        storage.write("a", ROWS, torch.tensor([3]), n_slots=4)


def test_without_a_limit_all_rows_stay_on_the_device():
    storage = Storage()
    storage.write("a", ROWS, torch.tensor([999]), n_slots=1000)
    assert storage.places == {"a": "cpu"}
    assert storage.nbytes() == {"cpu": 100_000}


def test_beyond_the_limit_rows_are_in_a_file_in_the_dtype_they_came_in():
    storage = filled(Limits(host=1000), a=ROWS, b=2 * ROWS.bfloat16(), c=3 * ROWS)
    assert storage.places == {"a": "cpu", "b": "file", "c": "file"}
    for name, dtype in [("a", torch.float32), ("b", torch.bfloat16), ("c", torch.float32)]:
        assert storage.rows(name).dtype == dtype
    assert [float(storage.rows(name).float().mean()) for name in "abc"] == [1, 2, 3]


def test_room_is_used_again_and_files_are_gone_with_the_rows():
    storage = filled(Limits(host=1000), a=ROWS, b=ROWS)
    (file,) = storage._files.values()
    assert file.stat().st_size == 800
    storage.discard("a"), storage.discard("b"), storage.discard("never there")
    assert not file.exists()
    storage.write("c", ROWS.expand(8, 25), ALL, n_slots=8)
    assert storage.places == {"c": "cpu"}


def test_the_folder_is_gone_with_the_storage():
    storage = filled(Limits(host=1), a=ROWS)
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
            storage.write("a", ROWS, torch.tensor([0]), n_slots=1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert storage.rows("a") is None
