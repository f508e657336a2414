"""Where a network computes, for plugins that train or run one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xmr_core.errors import ConfigError

if TYPE_CHECKING:
    import torch

__all__ = ["device", "has_bfloat16"]


def device(name: str) -> torch.device:
    """The place of this name; "auto" is the GPU where there is one. Raises ConfigError on a place that is none."""
    import torch

    there = torch.cuda.is_available()
    try:
        where = torch.device(("cuda" if there else "cpu") if name == "auto" else name)
    except RuntimeError:
        raise ConfigError("device", name, "must be auto, cpu, cuda, or one GPU of several, like cuda:1") from None
    if where.type == "cuda" and not there:
        raise ConfigError("device", name, "there is no GPU that torch can use; auto takes one where there is")
    return where


def has_bfloat16(where: torch.device) -> bool:
    """True where bfloat16 products are quicker than float32 ones: twice or more."""
    import torch

    if where.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    look = getattr(torch.cpu, "get_capabilities", None)  # torch before 2.11 cannot say
    return look is not None and bool(look().get("avx512_bf16"))
