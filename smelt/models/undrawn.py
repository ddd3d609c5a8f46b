"""Make modules without drawing their first numbers, which a rule or a checkpoint would overwrite.

On the meta device there is nothing to draw into, yet torch imports its compiler to find that out: a second or more at
the start of every process that loads a model.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class Undrawn(TorchFunctionMode):
    """While entered, whatever would draw numbers into a tensor returns it as it is."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Stand before every function of torch."""
        given = kwargs or {}
        if getattr(func, "__module__", "") == nn.init.__name__:
            return given["tensor"]
        if func in (Tensor.uniform_, Tensor.normal_):
            return args[0]
        return func(*args, **given)
