"""Hooks on the backward pass; those on what it keeps are in `residuals`, and are found here too.

A packer is pushed for a thread by `with packing(packer):`, where `packer.pack(rule, name, value)`
gives a `Packed` (or the value), and `Packed.unpack()` gives the value back in the sweep.
"""

from .residuals import Packed, packing, save_on_disk, saved_tensors_hooks

__all__ = ["Packed", "packing", "save_on_disk", "saved_tensors_hooks"]
