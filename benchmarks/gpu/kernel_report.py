"""What the compiler makes of a Triton kernel for a card that need not be there."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler import compile as compile_for

from geohp.methods.hp import kernels
from geohp.methods.hp.kernels import Tuning

_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
_HALVES = ("views", "features", "codes")
_FLOATS = ("agnostic_bound", "specific_bound", "of_rows", "of_cols", "pull", "pushes")


@dataclass(frozen=True)
class Variant:
    """Which kernel, of what problem; the widths are Potsdam-3's.

    Attributes:
        kernel: ``sums_kernel`` or ``weights_kernel``.
        stored: positives are remembered between the passes.
        keep: non-positives are drawn.
        symmetric: positives are.
        dtype: of the rows, in Triton's letters.
    """

    kernel: str
    stored: bool = True
    keep: bool = False
    symmetric: bool = True
    dtype: str = "bf16"


@dataclass(frozen=True)
class Compiled:
    """The machine code.

    Attributes:
        registers: of a thread.
        stack_bytes: of a thread: registers that had to be spilled.
        shared_bytes: of a program.
        tensor_products: instructions of the tensor cores that work on shared memory (``HGMMA``).
        old_products: those that do not (``HMMA``).
        spill_loads, shuffles, instructions: how many there are, however often they are run.
    """

    registers: int
    stack_bytes: int
    shared_bytes: int
    tensor_products: int
    old_products: int
    spill_loads: int
    shuffles: int
    instructions: int


def compile_kernel(variant: Variant, tuning: Tuning, capability: int = 90) -> Compiled:
    """Compile for a compute capability, and read off the machine code.

    Raises:
        Exception: whatever the compiler says.
    """
    kernel: Any = getattr(kernels, variant.kernel)
    constants = {
        "C": 768, "S": 256, "D": 256, "DEPTH": tuning.depth, "HEIGHT": tuning.height, "WIDTH": tuning.width,
        "SPECIFIC": True, "KEEP": variant.keep, "SYMMETRIC": variant.symmetric, "VIEWS": 2, "STORED": variant.stored,
        "DESCRIPTORS": tuning.descriptors,
    }  # fmt: skip
    types = {}
    for half in _HALVES:
        for name, side in ((half, tuning.height), (f"{half}_across", tuning.width)):
            block = f"{variant.dtype}[{side}, {tuning.depth}]"
            types[name] = f"tensordesc<{block}>" if tuning.descriptors else f"*{variant.dtype}"
    types |= dict.fromkeys(_FLOATS, "*fp32")
    types |= dict.fromkeys(constants, "constexpr") | {"weights_out": "*bf16", "found": "*i16", "keep": "*u8"}
    types |= {"sharpness": "fp32", "task_specific_weight": "fp32"}
    signature = {name: types.get(name, "i32") for name in kernel.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(signature.values()) if kind.startswith("*")}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    compiled = compile_for(source, target=GPUTarget("cuda", capability, 32), options=tuning.launch)
    return _read(compiled.asm["cubin"], compiled.metadata.shared)


def _read(cubin: bytes, shared_bytes: int) -> Compiled:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        usage = _tool("cuobjdump", "-res-usage", path)
        code = _tool("nvdisasm", "-c", path)

    def used(name: str) -> int:
        match = re.search(rf"\b{name}:(\d+)", usage)
        return int(match[1]) if match else 0

    def count(name: str) -> int:
        return len(re.findall(rf"\b{name}\b", code))

    return Compiled(
        registers=used("REG"),
        stack_bytes=used("STACK"),
        shared_bytes=shared_bytes,
        tensor_products=count("HGMMA"),
        old_products=count("HMMA"),
        spill_loads=count("LDL"),
        shuffles=count("SHFL"),
        instructions=code.count(";"),
    )


def _tool(name: str, option: str, path: Path) -> str:
    """What a tool of the CUDA toolkit says; Triton brings them along."""
    return subprocess.run([_TOOLS / name, option, path], capture_output=True, text=True, check=True).stdout
