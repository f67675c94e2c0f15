#!/usr/bin/python3
# Makes the pinned maps in a directory look like those of layout 1: takes away what later layouts
# added, and writes the version.
import ctypes
import os
import platform
import sys

BPF_MAP_UPDATE_ELEM, BPF_OBJ_GET = 2, 7
SYSCALL = {"x86_64": 321, "aarch64": 280}[platform.machine()]
ADDED_LATER = "fragments", "supply", "aggregates", "aggregate_rows", "epochs"

libc = ctypes.CDLL(None, use_errno=True)
pins = sys.argv[1]


def bpf(command, *words):
    attributes = (ctypes.c_uint64 * 16)(*words)
    answer = libc.syscall(SYSCALL, command, attributes, ctypes.sizeof(attributes))
    if answer < 0:
        raise OSError(ctypes.get_errno(), f"bpf command {command}")
    return answer


path = ctypes.create_string_buffer(f"{pins}/layout_version".encode())
versions = bpf(BPF_OBJ_GET, ctypes.addressof(path))
key, value = ctypes.c_uint32(0), ctypes.c_uint32(1)
bpf(BPF_MAP_UPDATE_ELEM, versions, ctypes.addressof(key), ctypes.addressof(value), 0)
for name in ADDED_LATER:
    os.unlink(f"{pins}/{name}")
