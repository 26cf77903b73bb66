"""The machine that code is generated for, as it is found when the process runs.

    level     vectors    needs                               fused multiply-add
    avx512    64 bytes   AVX-512 F, BW, DQ, VL               yes
    avx2      32 bytes   AVX2, FMA                           yes
    sse2      16 bytes   any x86-64                          no
    neon      16 bytes   any 64-bit ARM                      yes
    generic   16 bytes   anything else that LLVM knows       no

The highest level that the machine has is taken. `WENGERT_TARGET=avx2` asks for a lower one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..errors import OptionError
from ..extras import need

__all__ = ["LEVELS", "Target", "llvm", "machine", "present", "target"]

VARIABLE = "WENGERT_TARGET"


@dataclass(frozen=True, slots=True)
class Level:
    """What a level needs of the processor, and the plainest processor that has it."""

    architectures: tuple[str, ...]
    needs: tuple[str, ...]
    cpu: str
    bytes: int
    fma: bool


X86, ARM = ("x86_64",), ("aarch64", "arm64")
LEVELS = {  # highest first
    "avx512": Level(X86, ("avx512f", "avx512bw", "avx512dq", "avx512vl", "fma"), "x86-64-v4", 64,
                    True),
    "avx2": Level(X86, ("avx2", "fma"), "x86-64-v3", 32, True),
    "sse2": Level(X86, (), "x86-64", 16, False),
    "neon": Level(ARM, (), "generic", 16, True),
    "generic": Level((), (), "", 16, False),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """A machine to generate code for.

    Args:
        name: the level, see above.
        triple: LLVM's name of architecture, system and binary interface.
        cpu, features: as LLVM takes them.
        native_bytes: of the widest vector register.
        fma: whether a multiplication and an addition can be one instruction, rounded once.
    """

    name: str
    triple: str
    cpu: str
    features: str
    native_bytes: int
    fma: bool

    @property
    def attributes(self) -> str:
        """For every function: LLVM would otherwise use half of a 64-byte register."""
        if self.native_bytes < 64:
            return ""
        bits = 8 * self.native_bytes
        return f'"prefer-vector-width"="{bits}" "min-legal-vector-width"="{bits}"'

    def lanes(self, kind: str) -> int:
        """Elements of `float`, `double`, `i32`, .. in a register."""
        return self.native_bytes // {"float": 4, "i32": 4, "double": 8, "i64": 8}[kind]


@lru_cache(1)
def llvm() -> Any:
    """llvmlite's binding, with the code generator of this machine ready.

    Raises:
        MissingExtraError: llvmlite is not installed.
    """
    binding = need("llvmlite.binding", extra="compile")
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    binding.initialize_native_asmparser()
    return binding


@lru_cache(1)
def processor() -> tuple[str, str, frozenset[str], str]:
    """(triple, cpu, the features that it has, all features as LLVM takes them)."""
    binding = llvm()
    features = binding.get_host_cpu_features()
    have = frozenset(name for name, there in features.items() if there)
    return binding.get_process_triple(), binding.get_host_cpu_name(), have, features.flatten()


@lru_cache(1)
def present() -> tuple[str, ...]:
    """The levels that this machine has, highest first."""
    triple, _, have, _ = processor()
    architecture = triple.partition("-")[0]
    return tuple(
        name
        for name, level in LEVELS.items()
        if (not level.architectures or architecture in level.architectures)
        and have.issuperset(level.needs)
    )


def target(name: str | None = None) -> Target:
    """The machine at its highest level, or at the level asked for.

    Args:
        name: a level of this machine; left out, `WENGERT_TARGET`, or else the highest.

    Raises:
        OptionError: the machine lacks the level, or there is none of that name.
        MissingExtraError: llvmlite is not installed.

    Example:
        >>> target().native_bytes in (16, 32, 64)
        True
    """
    asked = f"target({name!r})" if name else f"{VARIABLE}={os.environ.get(VARIABLE)}"
    name = name or os.environ.get(VARIABLE) or None
    if name is not None and name not in present():
        known = name in LEVELS
        raise OptionError(
            asked,
            f"this machine has no {name}" if known else "there is no such level",
            fix=f"one of {', '.join(present())}",
        )
    return made(name or present()[0])


@lru_cache(None)
def made(name: str) -> Target:
    triple, cpu, _, features = processor()
    level = LEVELS[name]
    if name != present()[0]:  # the same code on every machine that is asked for this level
        cpu, features = level.cpu, ""
    return Target(name, triple, cpu, features, level.bytes, level.fma)


def machine(target: Target, opt: int = 2) -> Any:
    """LLVM's code generator for a target: position-independent, for objects that are kept."""
    return (
        llvm()
        .Target.from_triple(target.triple)
        .create_target_machine(
            cpu=target.cpu, features=target.features, opt=opt, reloc="pic", codemodel="small"
        )
    )
