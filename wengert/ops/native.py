"""Machine code from LLVM's assembly, where the extra `compile` (llvmlite) is installed."""

from __future__ import annotations

from typing import Any

from ..errors import MissingExtraError
from ..extras import need

__all__ = ["engine"]


def engine(text: str) -> Any:
    """What holds the functions of a module for as long as it lives; None without a compiler."""
    try:
        llvm = need("llvmlite.binding", extra="compile")
    except MissingExtraError:
        return None
    try:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        module = llvm.parse_assembly(text)
        module.verify()
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3
        )
        made = llvm.create_mcjit_compiler(module, machine)
        made.finalize_object()
    except (OSError, RuntimeError):  # no code for this machine: NumPy does it
        return None
    return made
