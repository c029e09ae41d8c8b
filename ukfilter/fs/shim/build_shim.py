"""Build the interrupt shim through cffi: module `ukfilter.fs._shim`. It needs libfuse 3's headers."""

from __future__ import annotations

import os
import shlex
import subprocess

from cffi import FFI

HERE = os.path.relpath(os.path.dirname(os.path.abspath(__file__)))


def flags(kind: str) -> list[str]:
    """What pkg-config says of libfuse 3."""
    return shlex.split(subprocess.check_output(["pkg-config", kind, "fuse3"], text=True))


ffibuilder = FFI()
ffibuilder.cdef(
    """
int uk_shim_installed(void);
void *uk_shim_take(void);
void uk_shim_watch(void *request, size_t number);
extern "Python" void on_interrupt(size_t number);
extern void (*uk_shim_interrupted)(size_t number);
"""
)
ffibuilder.set_source(
    "ukfilter.fs._shim",
    '#include "shim.h"\nvoid (*uk_shim_interrupted)(size_t number);',
    sources=[os.path.join(HERE, "shim.c")],
    depends=[os.path.join(HERE, "shim.h")],
    include_dirs=[HERE],
    extra_compile_args=["-std=gnu11", "-O2", "-Wall", *flags("--cflags")],
    extra_link_args=flags("--libs"),
)
