"""Tensors on the CPU that state to be on CUDA, and how often code waits for that device.

Unlike fake tensors they have values: code runs as on a GPU, whatever it reads of them.
"""

from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

COPIES = ("_to_copy", "copy_")
# The shape of their result, or a Python number, depends on values; solvers read an error code.
WAITING = {"_local_scalar_dense", "nonzero", "equal", "_unique2", "unique_dim", "masked_select"}
WAITING |= {"_linalg_eigh", "_linalg_svd", "linalg_cholesky", "linalg_inv", "linalg_solve"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}


class OnDevice(torch.Tensor):
    """A tensor that states to be on CUDA, made of one on the CPU."""

    @staticmethod
    def __new__(cls, here):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            here.size(),
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device="cuda:0",
        )

    def __init__(self, here):
        self.here = here

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        raise AssertionError(f"{operation} outside of a `Waits`")


class Waits(TorchDispatchMode):
    """Count the operations that wait for the device, by name, in a ``with`` block."""

    def __init__(self):
        super().__init__()
        self.by_name = Counter()

    @property
    def count(self):
        return self.by_name.total()

    def __enter__(self):
        torch._C._ensureCUDADeviceGuardSet()  # one that asks for no driver
        self._was_initialized, torch.cuda._initialized = torch.cuda._initialized, True
        return super().__enter__()

    def __exit__(self, *exception):
        torch.cuda._initialized = self._was_initialized
        return super().__exit__(*exception)

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name, kwargs = operation._overloadpacket.__name__, dict(kwargs or {})
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
        there = {id(x.here): x for x in tensors if isinstance(x, OnDevice)}
        is_result_there = bool(there)
        if kwargs.get("device") is not None:
            is_result_there = torch.device(kwargs["device"]).type == "cuda"
            kwargs["device"] = "cpu"
        if name in COPIES:
            self._count_copy(tensors, is_result_there, kwargs.get("non_blocking", False))
        elif there:
            mixed = any(x.ndim > 0 and not isinstance(x, OnDevice) for x in tensors)
            assert not mixed, f"{operation}: tensors on two devices"
            is_mask = name in INDEXING and any(
                x is not None and x.dtype == torch.bool for x in args[1]
            )
            if name in WAITING or is_mask:
                self.by_name[name] += 1
        args, kwargs = tree_map_only(OnDevice, lambda x: x.here, (args, kwargs))
        result = operation(*args, **kwargs)
        if not is_result_there:
            return result
        return tree_map_only(
            torch.Tensor, lambda x: there[id(x)] if id(x) in there else OnDevice(x), result
        )

    def _count_copy(self, tensors, is_result_there, non_blocking):
        to_device = isinstance(tensors[0], OnDevice) if len(tensors) == 2 else is_result_there
        from_device = isinstance(tensors[-1], OnDevice)
        if from_device and not to_device:
            self.by_name["copy to the CPU"] += 1
        if to_device and not from_device and not non_blocking:
            self.by_name["copy to the device"] += 1
