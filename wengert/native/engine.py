"""From LLVM's assembly to object code, and from object code to addresses in this process.

    compile_ir(text, target) -> bytes       parse, verify, optimize, generate
    load(code) -> Library                   link into the process; its functions' addresses

Object code names what it needs from outside (`wg_parallel`, `wg_sgemm`) and holds no address, so
that it can be kept on disk and loaded by another process. `add_symbol` says where a name is here.

Two levels of optimization. The code generators write what should be computed, with vectors and
with functions marked `alwaysinline`, so that little is left to find: "quick" inlines, puts
variables into registers and removes what is computed twice. "full" is LLVM's own pipeline O2, which
takes more than twice as long to compile and is for code that was written as plain scalar loops.
"""

from __future__ import annotations

import ctypes
import itertools
import re
import sys
import threading
from functools import lru_cache
from typing import Any

from ..errors import ArgumentError
from .target import Target, llvm, machine, target

__all__ = ["PIPELINES", "Library", "add_symbol", "assembly", "compile_ir", "load"]

DEFINITION = re.compile(r"^(define [^\n]*?) *\{$", re.MULTILINE)
QUICK = (
    "always_inliner", "sroa", "simplify_cfg", "instruction_combine", "new_gvn",
    "dead_code_elimination", "global_dead_code_eliminate",
)  # fmt: skip
PIPELINES = ("quick", "full")


def compile_ir(text: str, target: Target, *, level: str = "quick") -> bytes:
    """Object code of a module.

    Args:
        text: LLVM's assembly.
        target: the machine to generate for.
        level: "quick" or "full".

    Raises:
        RuntimeError: LLVM's own words, if the assembly is not well formed.

    Example:
        >>> code = compile_ir("define i32 @two() { ret i32 2 }", target())
        >>> two = load(code).function("two", ctypes.c_int)
        >>> two()
        2
    """
    generator, module = optimized(text, target, level)
    return bytes(generator.emit_object(module))


def assembly(text: str, target: Target, *, level: str = "quick") -> str:
    """The processor's own assembly, to read."""
    generator, module = optimized(text, target, level)
    return str(generator.emit_assembly(module))


def optimized(text: str, target: Target, level: str) -> tuple[Any, Any]:
    """(the code generator, the module ready for it)."""
    if level not in PIPELINES:
        raise ArgumentError(
            f"compile_ir(level={level!r})", "no such pipeline", fix=" or ".join(PIPELINES)
        )
    binding = llvm()
    if target.attributes:
        text = DEFINITION.sub(rf"\1 {target.attributes} {{", text)
    generator = machine(target)
    # a context of its own: two threads may compile at the same time
    module = binding.parse_assembly(text, binding.create_context())
    module.triple = target.triple
    module.data_layout = str(generator.target_data)
    module.verify()
    options = binding.create_pipeline_tuning_options(2)
    options.loop_vectorization = options.slp_vectorization = True
    builder = binding.create_pass_builder(generator, options)
    if level == "full":
        passes = builder.getModulePassManager()
    else:
        passes = binding.create_new_module_pass_manager()
        for name in QUICK:
            getattr(passes, f"add_{name}_pass")()
    passes.run(module, builder)
    return generator, module


# ---- into the process
SYMBOLS: dict[str, int] = {}
_numbers = itertools.count()


def add_symbol(name: str, address: int) -> None:
    """Where a name that object code asks for is in this process; for libraries loaded later.

    An object that asks for the name must not define it as well.
    """
    SYMBOLS[name] = address


_lock = threading.Lock()


def linker() -> Any:
    """LLVM's linker into this process. It is not given up again: code of its libraries may run."""
    with _lock:
        return made_linker()


@lru_cache(1)
def made_linker() -> Any:
    made = llvm().create_lljit_compiler(machine(target()), use_jit_link=sys.platform != "win32")
    made.detach = made.close = lambda: None
    return made


class Library:
    """Functions in memory. Their addresses hold as long as this object does.

    Args:
        code: an object of `compile_ir`, of this or of an earlier process.
    """

    __slots__ = ("_addresses", "_held", "_name")

    def __init__(self, code: bytes) -> None:
        self._name = f"wengert-{next(_numbers)}"
        builder = llvm().JITLibraryBuilder().add_object_img(code).add_current_process()
        for name, address in SYMBOLS.items():
            if name.encode() in code:
                builder.import_symbol(name, address)
        self._held = builder.link(linker(), self._name)
        self._addresses: dict[str, int] = {}

    def address(self, name: str) -> int:
        """Where a function or a variable is.

        Raises:
            ArgumentError: it is not in the library, or something that it needs is nowhere.
        """
        if name not in self._addresses:
            try:
                found = linker().lookup(self._name, name)
            except RuntimeError as error:
                why = " ".join(str(error).split())
                raise ArgumentError(f"Library.address({name!r})", why) from None
            self._addresses[name] = found[name]
            found.detach()  # closing what a lookup returns would remove the whole library
        return self._addresses[name]

    def function(self, name: str, result: Any = None, *args: Any) -> Any:
        """A function that Python can call, and that keeps the library.

        Args:
            name: of the function.
            result, args: its types, from ctypes; None for no result.
        """
        made: Any = ctypes.CFUNCTYPE(result, *args)(self.address(name))
        made.library = self
        return made

    def forever(self) -> Library:
        """Not to be removed from memory, whatever becomes of this object."""
        self._held.detach()
        return self


def load(code: bytes) -> Library:
    """Link object code into this process.

    Raises:
        RuntimeError: it is not object code of this kind of machine.
    """
    return Library(code)
