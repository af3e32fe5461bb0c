"""Runs a command under the system call filter of a systemd unit, without systemd.

``python service_filter.py UNIT COMMAND…`` reads the settings below, which systemd turns into seccomp filters, loads
equivalent filters with libseccomp, and replaces itself with the command. As in systemd, every filter applies.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_MASKED_EQUAL = 7
_PROT_WRITE, _PROT_EXEC, _SHM_EXEC = 2, 4, 0o100000
_NO_NEW_PRIVS = 38
_NAMESPACES = 0x7E020000
"""Flags of `clone` and `unshare` that create a namespace, except CLONE_NEWTIME, which `clone` cannot create."""
_ADDRESS_FAMILIES = range(1, 46)


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


class Filter:
    """A seccomp filter that is not loaded yet."""

    def __init__(self, default: int) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(default)))

    def add(self, action: int, call: str, *comparisons: _Comparison) -> None:
        """Adds a rule; as in systemd, system calls that this kernel's architecture lacks are ignored."""
        number = self._library.seccomp_syscall_resolve_name(call.encode())
        if number < 0:
            return
        several = (_Comparison * len(comparisons))(*comparisons)
        failed = self._library.seccomp_rule_add_array(
            self._context, ctypes.c_uint32(action), number, len(comparisons), several
        )
        if failed:
            raise OSError(-failed, f"{call}: {os.strerror(-failed)}")

    def load(self) -> None:
        if failed := self._library.seccomp_load(self._context):
            raise OSError(-failed, os.strerror(-failed))


@cache
def calls_of(name: str) -> frozenset[str]:
    """Returns the system calls of a name in ``SystemCallFilter=``: a call, or a set such as ``@resources``."""
    if not name.startswith("@"):
        return frozenset({name})
    listed = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter", name], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    members = [line.strip() for line in listed[1:] if line.strip() and not line.strip().startswith("#")]
    return frozenset().union(*map(calls_of, members))


def allowed_calls(lines: Sequence[str]) -> frozenset[str]:
    """Returns the system calls that the ``SystemCallFilter=`` lines of a unit allow; the first line must allow."""
    allowed = calls_of("@default")
    for line in lines:
        named = frozenset[str]().union(*map(calls_of, line.removeprefix("~").split()))
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed


def settings_of(unit: Path) -> dict[str, list[str]]:
    """Returns the values of each key of a unit, in order."""
    settings: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            settings.setdefault(key, []).append(value)
    return settings


def load_filters(unit: Path) -> None:
    """Loads the filters of a unit into this process, for all that it runs."""
    settings = settings_of(unit)
    if ctypes.CDLL(None, use_errno=True).prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    # Prepared first: the filter of system calls does not allow what the preparation does.
    filters = [
        prepared
        for key, prepare in (
            ("RestrictAddressFamilies", _address_families),
            ("RestrictNamespaces", _namespaces),
            ("MemoryDenyWriteExecute", _memory),
            ("RestrictSUIDSGID", _set_ids),
            ("SystemCallFilter", _system_calls),
        )
        if key in settings and (prepared := prepare(settings))
    ]
    for one in filters:
        one.load()


def _system_calls(settings: dict[str, list[str]]) -> Filter:
    names = settings.get("SystemCallErrorNumber", [])
    refused = Filter(_ERRNO | getattr(errno, names[-1]) if names else _KILL_PROCESS)
    for call in sorted(allowed_calls(settings["SystemCallFilter"])):
        refused.add(_ALLOW, call)
    return refused


def _address_families(settings: dict[str, list[str]]) -> Filter:
    allowed = {int(getattr(socket, name)) for line in settings["RestrictAddressFamilies"] for name in line.split()}
    one = Filter(_ALLOW)
    for family in set(_ADDRESS_FAMILIES) - allowed:
        one.add(_ERRNO | errno.EAFNOSUPPORT, "socket", _equal(0, family))
    return one


def _namespaces(_: dict[str, list[str]]) -> Filter:
    one = Filter(_ALLOW)
    one.add(_ERRNO | errno.ENOSYS, "clone3")
    one.add(_ERRNO | errno.EPERM, "setns")
    for flag in (1 << bit for bit in range(32) if _NAMESPACES >> bit & 1):
        one.add(_ERRNO | errno.EPERM, "unshare", _has(0, flag))
        one.add(_ERRNO | errno.EPERM, "clone", _has(0, flag))
    return one


def _memory(_: dict[str, list[str]]) -> Filter:
    one = Filter(_ALLOW)
    one.add(_ERRNO | errno.EPERM, "mmap", _has(2, _PROT_EXEC | _PROT_WRITE))
    one.add(_ERRNO | errno.EPERM, "mprotect", _has(2, _PROT_EXEC))
    one.add(_ERRNO | errno.EPERM, "pkey_mprotect", _has(2, _PROT_EXEC))
    one.add(_ERRNO | errno.EPERM, "shmat", _has(2, _SHM_EXEC))
    return one


def _set_ids(_: dict[str, list[str]]) -> Filter:
    one = Filter(_ALLOW)
    for call, argument in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("mkdir", 1), ("mkdirat", 2)):
        for bit in (stat.S_ISUID, stat.S_ISGID):
            one.add(_ERRNO | errno.EPERM, call, _has(argument, bit))
    return one


def _equal(argument: int, value: int) -> _Comparison:
    return _Comparison(argument, _MASKED_EQUAL, 0xFFFFFFFF, value)


def _has(argument: int, flags: int) -> _Comparison:
    return _Comparison(argument, _MASKED_EQUAL, flags, flags)


if __name__ == "__main__":
    load_filters(Path(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
