"""What a confined child does to itself before it runs a program: limits, Landlock, seccomp, no privileges.

This file is run as a script (``python -I -S -B _confine.py SPEC``) and imports nothing of ours; SPEC is JSON with ``fd``
(an open file with the program), ``read`` and ``write`` (folders), ``memory_bytes``, ``cpu_seconds``, ``file_bytes``,
``paths`` (further import folders). Whatever cannot be set up ends the child with exit code 121 before a line of the
program has run.
"""

import ctypes
import json
import os
import platform
import resource
import struct
import sys

REFUSED = 121

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _PR_CAPBSET_DROP = 1, 38, 22, 24

# Landlock: system calls have the same numbers on every architecture that has them.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_READ = 1 << 0 | 1 << 2 | 1 << 3  # execute, read file, read folder
_ALL_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_FILE_ONLY = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15  # rights that a rule on a file may have
_NET = 1 << 0 | 1 << 1  # bind and connect TCP
_SCOPES = 1 << 0 | 1 << 1  # abstract unix sockets and signals

#: System calls that are refused, by architecture: (x86_64, aarch64); None where one does not exist.
_FORBIDDEN = {
    "socket": (41, 198), "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    "clone3": (435, 435), "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "kcmp": (312, 272),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "memfd_create": (319, 279),
    "memfd_secret": (447, 447), "shmget": (29, 194), "shmat": (30, 196), "msgget": (68, 186), "semget": (64, 190),
    "mq_open": (240, 180), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "keyctl": (250, 219),
    "add_key": (248, 217), "request_key": (249, 218), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171), "sethostname": (170, 161),
    "setdomainname": (171, 162), "syslog": (103, 116), "quotactl": (179, 60), "personality": (135, 92),
    "modify_ldt": (154, None), "iopl": (172, None), "ioperm": (173, None), "lookup_dcookie": (212, 18),
    "inotify_init": (253, None), "inotify_init1": (294, 26), "fanotify_init": (300, 262), "setpriority": (141, 140),
    "sched_setscheduler": (144, 119), "sched_setparam": (142, 118), "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122), "ioprio_set": (251, 30), "migrate_pages": (256, 238), "move_pages": (279, 239),
    "setuid": (105, 146), "setgid": (106, 144), "setreuid": (113, 145), "setregid": (114, 143),
    "setresuid": (117, 147), "setresgid": (119, 149), "setgroups": (116, 159), "capset": (126, 91),
    "setpgid": (109, 154), "setsid": (112, 157), "vhangup": (153, 58), "uselib": (134, None),
}  # fmt: skip
_CLONE, _KILL, _TGKILL, _PRLIMIT = (56, 220), (62, 129), (234, 131), (302, 261)
_LAST_KNOWN = 462
_ARCH = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}


def main() -> None:
    """Confine, then run."""
    spec = json.loads(sys.argv[1])
    try:
        with os.fdopen(spec["fd"], "rb") as file:
            source = file.read()
        limits(spec)
        _must(_LIBC.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0), "parent death signal")
        _must(_LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
        drop_capabilities()
        if spec["landlock"]:
            landlock(spec["read"], spec["write"])
        seccomp()
    except Exception as error:
        sys.stderr.write(f"the sandbox could not be set up: {error}\n")
        sys.stderr.flush()
        os._exit(REFUSED)
    sys.argv = ["program.py"]
    sys.path[:] = [*spec["paths"], *[p for p in sys.path if not p.endswith("sandbox")]]
    scope = {"__name__": "__main__", "__builtins__": __builtins__}
    exec(compile(source, "program.py", "exec"), scope)


def limits(spec: dict) -> None:
    """Ceilings that the kernel keeps: memory, CPU time, file size, open files, no core dumps."""
    for what, value in (
        (resource.RLIMIT_AS, spec["memory_bytes"]),
        (resource.RLIMIT_CPU, spec["cpu_seconds"]),
        (resource.RLIMIT_FSIZE, spec["file_bytes"]),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (value, value))


def drop_capabilities() -> None:
    """Without capabilities even root obeys permissions; the bounding set keeps them from coming back."""
    for capability in range(64):
        _LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails for those that do not exist, and for non-root
    header = struct.pack("Ii", 0x20080522, 0)
    _must(_LIBC.capset(header, struct.pack("6I", 0, 0, 0, 0, 0, 0)), "capset")


def landlock(read: list, write: list) -> None:
    """Files below ``read`` may be read, below ``write`` also made and changed; nothing else may be opened."""
    abi = _LIBC.syscall(_CREATE_RULESET, None, 0, 1)
    if abi < 1:
        raise OSError("this kernel offers no Landlock")
    every = _ALL_BY_ABI[min(abi, 5)]
    fields = [every] + ([_NET] if abi >= 4 else []) + ([_SCOPES] if abi >= 6 else [])
    ruleset = struct.pack(f"{len(fields)}Q", *fields)
    fd = _must(_LIBC.syscall(_CREATE_RULESET, ruleset, len(ruleset), 0), "landlock ruleset")
    for path, rights in [*((p, _READ) for p in read), *((p, every & ~(1 << 0)) for p in write)]:
        if not os.path.exists(path):
            continue
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        allowed = rights if os.path.isdir(path) else rights & _FILE_ONLY
        rule = struct.pack("=Qi", allowed & every, place)
        _must(_LIBC.syscall(_ADD_RULE, fd, 1, rule, 0), f"landlock rule for {path}")
        os.close(place)
    _must(_LIBC.syscall(_RESTRICT_SELF, fd, 0), "landlock")
    os.close(fd)


def seccomp() -> None:
    """No new processes, programs, sockets or namespaces; signals and limits for this process only."""
    column, arch = _ARCH[platform.machine()]
    denied = [numbers[column] for numbers in _FORBIDDEN.values() if numbers[column] is not None]
    own = os.getpid()
    load, equal, at_least, masked, back = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, refuse, unknown, kill = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
    number, argument = 0, lambda n: 16 + 8 * n
    code: list = [(load, 0, 0, 4), (equal, 1, 0, arch), (back, 0, 0, kill), (load, 0, 0, number)]
    code += [(at_least, 0, 1, _LAST_KNOWN), (back, 0, 0, unknown)]  # also the x32 calls of x86_64
    clone3 = _FORBIDDEN["clone3"][column]
    code += [(equal, 0, 1, clone3), (back, 0, 0, unknown)]  # the C library then falls back to clone
    for one in denied:
        if one != clone3:
            code += [(equal, 0, 1, one), (back, 0, 0, refuse)]
    # clone only for threads; kill, tgkill and prlimit only of this process
    code += [(equal, 0, 4, _CLONE[column]), (load, 0, 0, argument(0)), (masked, 1, 0, 0x10000), (back, 0, 0, refuse),
             (back, 0, 0, allow)]  # fmt: skip
    for one in (_KILL[column], _TGKILL[column]):
        code += [(equal, 0, 4, one), (load, 0, 0, argument(0)), (equal, 1, 0, own), (back, 0, 0, refuse),
                 (back, 0, 0, allow)]  # fmt: skip
    code += [(equal, 0, 5, _PRLIMIT[column]), (load, 0, 0, argument(0)), (equal, 2, 0, 0), (equal, 1, 0, own),
             (back, 0, 0, refuse), (back, 0, 0, allow)]  # fmt: skip
    code += [(back, 0, 0, allow)]
    program = b"".join(struct.pack("HBBI", *line) for line in code)
    kept = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("HxxxxxxQ", len(code), ctypes.addressof(kept))
    _must(_LIBC.prctl(_PR_SET_SECCOMP, 2, filter_, 0, 0), "seccomp")


def _must(result: int, what: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


if __name__ == "__main__":
    main()
