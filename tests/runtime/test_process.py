"""Memory that a process keeps."""

import platform
import subprocess
import sys

import pytest

from svtas_jax.runtime import process

GROW = """
import ctypes, re, sys
from svtas_jax.runtime import process
process._has_to_be_asked = lambda: True
process._memory = lambda: 16 << 30
process.keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
size = 3 << 30
block = libc.malloc(ctypes.c_size_t(size))
for area in re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", open("/proc/self/smaps").read()):
    first, _, last = area.partition(" ")[0].partition("-")
    if first and int(first, 16) <= block + size // 2 < int(last, 16):
        flags = re.search("VmFlags:(.*)", area)[1].split()
kept = int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1])
print("huge" if "hg" in flags else "small", kept // 1024)
libc.free(block)
"""
glibc_only = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc is told what to keep"
)


@glibc_only
def test_the_heap_has_huge_pages_and_takes_only_what_is_written():
    done = subprocess.run(
        [sys.executable, "-c", GROW], capture_output=True, text=True, timeout=120
    )
    pages, megabytes = done.stdout.split()
    assert pages == "huge", done.stderr
    assert int(megabytes) < 1500  # of 3 GB that nothing was written to


@glibc_only
def test_a_user_s_own_settings_have_priority(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    monkeypatch.setattr(process, "_use_huge_pages", lambda *_: pytest.fail("asked"))
    process.keep_freed_memory()


@glibc_only
def test_with_little_memory_nothing_is_reserved(monkeypatch):
    for name in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(process, "_has_to_be_asked", lambda: True)
    monkeypatch.setattr(process, "_memory", lambda: 8 << 30)
    monkeypatch.setattr(process, "_use_huge_pages", lambda *_: pytest.fail("asked"))
    process.keep_freed_memory()


def test_memory_is_at_most_the_machine_s():
    assert 1 << 28 < process._memory() < 1 << 50
