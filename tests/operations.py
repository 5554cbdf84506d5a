"""What torch is asked to do."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Operations(TorchDispatchMode):
    """All that run: their names, and the devices of what they get."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.devices: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        name = str(func.overloadpacket)
        by_mask = name == "aten.index" and any(t.dtype == torch.bool for t in tensors[1:])
        self.names.append("aten.masked_select" if by_mask else name)
        self.devices |= {tensor.device.type for tensor in tensors}
        return func(*args, **(kwargs or {}))
