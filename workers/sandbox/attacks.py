"""Attacks on the walls, as source that a stranger might register.

Each breaks out of the Python namespace first, as anybody can, and then goes for something outside
of its process. It returns a text that begins with `held`, or with `BREACH` where it got through;
what it does to itself alone is no breach. The numbers 1 to 37 are the cases of the research that
the walls were chosen by; those from 41 on are ours.

The quick ones are tried at the start of every worker (`proof`), all of them in the tests, in each
mode. `MISSES` says which of them a weaker mode lets through: that is why it is weaker.
"""

# programs, as short as attackers write them

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from textwrap import indent
from typing import Literal, TypeAlias

from engine.core.values import Json
from workers.sandbox.job import Job, Limits, Reason

#: How an attack shows that it failed: by what it says, by the reason of its death, or by the next
#: execution being well.
End: TypeAlias = Literal["says", "dies", "survived"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One attack."""

    name: str
    body: str
    end: End = "says"
    #: The reasons for which one may die that is to die.
    reasons: frozenset[Reason] = frozenset()
    limits: Limits = field(default_factory=lambda: Limits(seconds=20))
    #: Whether it is tried at every start: it takes milliseconds.
    quick: bool = True

    @property
    def number(self) -> int:
        return int(self.name[:2])

    def job(self, targets: Mapping[str, Json]) -> Job:
        """The attack on these targets (`proof.Targets`)."""
        return Job(
            mode="tool",
            name="attack",
            source=f"{_BREAK_OUT}\ndef attack(t):\n{indent(self.body, '    ')}",
            arguments={"args": [], "kwargs": {"t": dict(targets)}},
            limits=self.limits,
        )


#: From the subclasses of object to the globals of `os`, and from there to everything.
_BREAK_OUT = """
def _outside():
    for kind in object.__subclasses__():
        if kind.__name__ == "_wrap_close":
            return kind.__init__.__globals__
_import, open = (_outside()["__builtins__"][name] for name in ("__import__", "open"))
os, ctypes, errno, struct = (_import(name) for name in ("os", "ctypes", "errno", "struct"))
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
NOWHERE = 2**64 - 1
def why():
    return errno.errorcode.get(ctypes.get_errno(), "nothing")
def first(*actions):
    # The first of some actions that is no error.
    said = []
    for name, action in actions:
        try:
            found = action()
        except (OSError, ValueError) as error:
            said.append(f"{name}: {error}"[:60])
        else:
            return f"BREACH {name}: {found!r}"[:200]
    return "held " + "; ".join(said)
def calls(*made):
    # The same for calls of the C library.
    said = []
    for name, function, *given in made:
        ctypes.set_errno(0)
        if function(*given) != -1:
            return f"BREACH {name}"
        said.append(f"{name}: {why()}")
    return "held " + "; ".join(said)
"""


def _quick() -> Iterator[tuple[str, str]]:
    yield (
        "01 reads /etc/passwd",
        """return first(("passwd", lambda: open("/etc/passwd").readline()))""",
    )
    yield (
        "02 reads a secret in a file of the worker",
        """return first(("secret", lambda: open(t["secret"]).read()))""",
    )
    yield (
        "03 reads the environment of itself, the worker and the zygote",
        """
if "canary" in str(dict(getattr(os, "environ"))): return "BREACH own environment"
def environment(pid):
    found = open(f"/proc/{pid}/environ", "rb").read()
    if b"canary" not in found and (pid == "self" or not found): raise OSError("nothing in it")
    return found[:50]
return first(*((f"environ of {pid}", lambda pid=pid: environment(pid)) for pid in ("self", t["worker"], t["zygote"], os.getppid(), 1)))""",
    )
    yield (
        "04 connects to a server on this machine",
        """
socket = _import("socket")
def connect():
    with socket.socket() as made:
        made.settimeout(1); made.connect(("127.0.0.1", t["tcp"]))
return first(("tcp", connect))""",
    )
    yield (
        "05 sends a datagram",
        """
socket = _import("socket")
def send():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        return made.sendto(b"x", ("127.0.0.1", t["tcp"]))
return first(("udp", send))""",
    )
    yield (
        "06 connects to a socket in the file system",
        """
socket = _import("socket")
def connect():
    with socket.socket(socket.AF_UNIX) as made: made.connect(t["socket"])
return first(("unix", connect))""",
    )
    yield (
        "07 connects to an abstract socket",
        """
socket = _import("socket")
def connect():
    with socket.socket(socket.AF_UNIX) as made: made.connect("\\0" + t["abstract"])
return first(("abstract", connect))""",
    )
    yield (
        "08 forks without end",
        """
made = 0
for _ in range(200):
    try: pid = os.fork()
    except OSError as error: return f"{'BREACH' if made else 'held'} {made} forks, {error}"
    if pid == 0:
        _import("time").sleep(3); os._exit(0)
    made += 1
return f"BREACH {made} forks" """,
    )
    yield (
        "10 fills memory that no process is charged for",
        """
def fill(make):
    fd = make()
    for _ in range(300): os.write(fd, bytes(1 << 20))
def shared():
    fd = os.open("/dev/shm/celeriac-attack", os.O_CREAT | os.O_RDWR)
    os.unlink("/dev/shm/celeriac-attack")
    return fd
return first(("memfd", lambda: fill(lambda: os.memfd_create("x"))), ("shm", lambda: fill(shared)))""",
    )
    yield (
        "14 fills a disk, or makes files",
        """
def make(folder):
    path = f"{folder}/celeriac-attack"
    fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    os.close(fd)
    try: os.unlink(path)
    except OSError: pass
    return path
return first(*((folder, lambda folder=folder: make(folder)) for folder in (os.getcwd(), t["folder"], "/tmp", "/var/tmp", "/dev/shm", "/run", "/")))""",
    )
    yield (
        "15 traces the worker and the zygote, or reads their memory",
        """
class Piece(ctypes.Structure): _fields_ = (("at", ctypes.c_void_p), ("size", ctypes.c_size_t))
here = ctypes.create_string_buffer(8)
ours, theirs = Piece(ctypes.addressof(here), 8), Piece(ctypes.addressof(here), 8)
SEIZE, DETACH = 0x4206, 17
said = []
for pid in (t["worker"], t["zygote"], os.getppid()):
    if not pid: continue
    if libc.ptrace(SEIZE, pid, None, None) == 0:
        libc.ptrace(DETACH, pid, None, None); return f"BREACH traced {pid}"
    said.append(why())
    if libc.process_vm_readv(pid, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0) > 0 or why() == "EFAULT": return f"BREACH read {pid}"
    said.append(why())
return f"held {said}" """,
    )
    yield (
        "16 signals the worker, the zygote, everybody",
        """return first(*((f"kill {pid}", lambda pid=pid: os.kill(pid, 0)) for pid in (t["worker"], t["zygote"], os.getppid() or 1 << 21, -1)))""",
    )
    yield (
        "17 writes where packages are installed, and where it is itself",
        """return first(*((place, lambda place=place: open(place + "/celeriac_attack.py", "w").close()) for place in (t["packages"], os.path.dirname(os.__file__))))""",
    )
    yield (
        "18 starts a shell by way of the subclasses of object",
        """
status = _outside()["system"]("true")
return f"{'held' if status else 'BREACH'} status {status}" """,
    )
    yield (
        "19 starts a program by way of the C library",
        """
if libc.system(b"true") == 0: return "BREACH system"
try: os.execv("/bin/true", ["true"])
except OSError as error: return f"held {error}" """,
    )
    yield (
        "20 runs machine code that it wrote",
        """
place = libc.mmap(None, 4096, 7, 0x22, -1, 0)
if place not in (None, NOWHERE): return "BREACH memory to write and to run"
said = why()
place = libc.mmap(None, 4096, 3, 0x22, -1, 0)
if libc.mprotect(ctypes.c_void_p(place), 4096, 5) == 0: return "BREACH memory made to run"
return f"held {said}, {why()}" """,
    )
    yield (
        "21 opens the memory of the worker, the zygote, the parent",
        """return first(*((f"mem of {pid}", lambda pid=pid: open(f"/proc/{pid}/mem", "r+b", buffering=0)) for pid in (t["worker"], t["zygote"], os.getppid(), 1)))""",
    )
    yield (
        "22 leaves a daemon behind",
        """
try: pid = os.fork()
except OSError as error: return f"held {error}"
if pid == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    _import("time").sleep(30); os._exit(0)
return "BREACH forked" """,
    )
    yield (
        "23 uses what descriptors it was born with",
        """
found = {}
for fd in range(256):
    try: found[fd] = os.fstat(fd)
    except OSError: pass
extra = sorted(set(found) - {0, 1, 2, 3, 4})
if extra: return f"BREACH {extra}"
if 4 in found and b"celeriac-child" not in os.pread(4, 100, 0): return "BREACH 4 is not its own status"
return "held streams, the socket to the worker, its own status" """,
    )
    yield (
        "24 makes a namespace in which it is root",
        """return calls(("unshare", libc.unshare, 0x10000000))""",
    )
    yield (
        "25 reaches for calls that kernels are broken by",
        """
numbers = {
    "io_uring_setup": (425, 425, 1, 0), "bpf": (321, 280, 0, 0, 0), "keyctl": (250, 219, 0, 0, 0),
    "add_key": (248, 217, 0, 0, 0), "userfaultfd": (323, 282, 1), "perf_event_open": (298, 241, 0, 0, 0, 0, 0),
    "mount": (165, 40, 0, 0, 0, 0, 0), "open_by_handle_at": (304, 265, 0, 0, 0), "kexec_load": (246, 104, 0, 0, 0, 0),
    "init_module": (175, 105, 0, 0, 0), "setns": (308, 268, 0, 0), "move_mount": (429, 429, 0, 0, 0, 0),
    "fsopen": (430, 430, 0, 0), "pidfd_getfd": (438, 438, 0, 0, 0), "splice": (275, 76, 0, 0, 0, 0, 0, 0),
    "vmsplice": (278, 75, 0, 0, 0, 0), "personality": (135, 92, 0xFFFFFFFF), "mq_open": (240, 180, 0, 0, 0, 0),
    "shmget": (29, 194, 0, 4096, 0o1600), "inotify_init1": (294, 26, 0), "name_to_handle_at": (303, 264, 0, 0, 0, 0, 0),
    "landlock_create_ruleset": (444, 444, 0, 0, 1), "modify_ldt": (154, None, 0, 0, 0),
}
reached = []
for name, (intel, arm, *given) in numbers.items():
    number = arm if t["arm"] else intel
    if number is None: continue
    ctypes.set_errno(0)
    if libc.syscall(number, *given) >= 0 or why() not in ("EPERM", "ENOSYS"): reached.append(f"{name}:{why()}")
return "BREACH reached " + " ".join(reached) if reached else "held none reached" """,
    )
    yield (
        "31 lists other processes",
        """
def pids():
    found = [name for name in os.listdir("/proc") if name.isdigit()]
    if len(found) <= 1: raise OSError("only itself")
    return found
return first(("pids", pids), ("the worker", lambda: open(f"/proc/{t['worker']}/stat").read()), ("mounts", lambda: open("/proc/self/mountinfo").read()))""",
    )
    yield (
        "32 changes modes, times and owners",
        """return first(("chmod", lambda: os.chmod(t["folder"], 0o755)), ("chown", lambda: os.chown(t["secret"], -1, os.getgid())), ("utime", lambda: os.utime(t["secret"])), ("setxattr", lambda: os.setxattr(t["secret"], "user.attack", b"x")))""",
    )
    yield (
        "33 learns whether files exist and how large they are",
        """return first(("stat", lambda: os.stat(t["secret"]).st_size), ("access", lambda: None if os.access(t["secret"], os.F_OK) else open("/", "w")))""",
    )
    yield (
        "34 raises its limits, or reads those of the worker",
        """
resource = _import("resource")
def more(kind):
    resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
return first(*((str(kind), lambda kind=kind: more(kind)) for kind in (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_FSIZE)), ("the worker's", lambda: resource.prlimit(t["worker"], resource.RLIMIT_NOFILE)))""",
    )
    yield (
        "37 passes an address whose lower half is nothing",
        """
socket = _import("socket")
place = libc.mmap(0x100000000, 4096, 3, 0x32, -1, 0)
if place != 0x100000000: return f"held no such place: {why()}"
address = struct.pack("H", 1) + t["datagram"].encode() + b"\\0"
ctypes.memmove(place, address, len(address))
libc.sendto.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint]
try: ours, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
except OSError: ours, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
return calls(("sendto", libc.sendto, ours.fileno(), b"pwn", 3, 0, place, len(address)))""",
    )
    yield (
        "41 empties a file by opening it to be read",
        """return first(("truncate", lambda: os.open(t["loose"], os.O_RDONLY | os.O_TRUNC)), ("truncate by name", lambda: os.truncate(t["loose"], 0)))""",
    )
    yield (
        "42 follows links to learn where things are",
        """return first(("of the worker", lambda: os.readlink(f"/proc/{t['worker']}/cwd")), ("a link", lambda: os.readlink(t["link"])))""",
    )
    yield (
        "43 takes its capabilities, and root, back",
        """
class Head(ctypes.Structure): _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))
head, sets = Head(0x20080522, 0), (ctypes.c_uint32 * 6)(*[0xFFFFFFFF] * 6)
if libc.capset(ctypes.byref(head), sets) == 0: return "BREACH all capabilities"
return first(("another user", lambda: os.setresuid(12345, 12345, 12345)), ("root", lambda: os.setuid(0) if os.getuid() else open("/", "w")), ("groups", lambda: os.setgroups([4])))""",
    )
    yield (
        "44 signals threads of others, and by descriptors of processes",
        """
numbers = {"tgkill": (234, 131, t["worker"], t["worker"], 0), "tkill": (200, 130, t["worker"], 0), "pidfd_open": (434, 434, t["worker"], 0), "rt_sigqueueinfo": (129, 138, t["worker"], 0, 0)}
reached = []
for name, (intel, arm, *given) in numbers.items():
    ctypes.set_errno(0)
    if libc.syscall(arm if t["arm"] else intel, *given) >= 0: reached.append(name)
return f"BREACH {reached}" if reached else "held" """,
    )
    yield (
        "45 hands descriptors on by the socket to the worker",
        """
socket = _import("socket")
def hand_on():
    with socket.socket(fileno=os.dup(3)) as made: return socket.send_fds(made, [b"\\0\\0\\0\\0"], [4])
def who():
    with socket.socket(fileno=os.dup(3)) as made: return made.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
return first(("who is there", who), ("sendmsg", hand_on))""",
    )
    yield (
        "46 clones in ways that no thread needs",
        """
# With a stack, so that the child of a call that went through does not run on ours.
clone = 220 if t["arm"] else 56
reached = []
for name, flags in (("a process", 17), ("in its memory", 0x100 | 17), ("a vfork", 0x4100 | 17), ("root", 0x10000000 | 17), ("a thread and root", 0x10010F00 | 0x100)):
    ctypes.set_errno(0)
    pid = libc.syscall(clone, ctypes.c_ulong(flags), None, None, None, None) if flags == 17 or flags == 0x10000011 else -1
    if pid == 0: os._exit(0)
    if pid > 0: reached.append(name)
arguments = (ctypes.c_uint64 * 8)()
arguments[0], arguments[4] = 0x10000000, 17
pid = libc.syscall(435, ctypes.byref(arguments), ctypes.c_size_t(64))
if pid == 0: os._exit(0)
if pid > 0: reached.append("clone3")
return f"BREACH {reached}" if reached else "held" """,
    )
    yield (
        "47 makes written memory run by other ways",
        """
place = libc.mmap(None, 4096, 3, 0x22, -1, 0)
pkey_mprotect, shmat, mem = (288, 196, None) if t["arm"] else (329, 30, None)
reached = []
if libc.syscall(pkey_mprotect, ctypes.c_void_p(place), ctypes.c_size_t(4096), 5, -1) == 0: reached.append("pkey_mprotect")
if libc.personality(0x0400000) != -1: reached.append("personality")
try:
    fd = os.open("/proc/self/mem", os.O_RDWR)
except OSError: pass
else: reached.append("its own memory as a file")
return f"BREACH {reached}" if reached else "held" """,
    )
    yield (
        "48 makes itself visible, or its children immortal",
        """return calls(("dumpable", libc.prctl, 4, 1, 0, 0, 0), ("no signal at the parent's death", libc.prctl, 1, 0, 0, 0, 0), ("subreaper", libc.prctl, 36, 1, 0, 0, 0))""",
    )
    yield (
        "49 listens for others",
        """
socket = _import("socket")
def listen(family, kind, address):
    with socket.socket(family, kind) as made: made.bind(address)
return first(("tcp", lambda: listen(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))), ("udp", lambda: listen(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))), ("netlink", lambda: listen(socket.AF_NETLINK, socket.SOCK_RAW, (0, 0))), ("vsock", lambda: socket.socket(40, socket.SOCK_STREAM)), ("raw", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)))""",
    )
    yield (
        "50 links, renames and removes what others own",
        """return first(("link", lambda: os.link(t["loose"], t["folder"] + "/attack")), ("symlink", lambda: os.symlink("/etc", t["folder"] + "/attack2")), ("rename", lambda: os.rename(t["loose"], t["loose"] + "2")), ("mkdir", lambda: os.mkdir(t["folder"] + "/attack3")), ("fifo", lambda: os.mkfifo(t["folder"] + "/attack4")), ("unlink", lambda: os.unlink(t["loose"])))""",
    )
    yield (
        "51 loads a library that is installed",
        """
reached = []
for name in ("libsqlite3.so.0", "libreadline.so.8", "libncursesw.so.6", "libcurl.so.4", "libm.so.6", "libthread_db.so.1", "libnss_files.so.2", "libanl.so.1", "libBrokenLocale.so.1"):
    known = name.encode() in b""
    try: ctypes.CDLL(name, mode=0)
    except OSError: continue
    if name != "libm.so.6": reached.append(name)
return f"BREACH {reached}" if reached else "held" """,
    )
    yield (
        "52 opens a file by a path that is no permission to open it",
        """
def again():
    fd = os.open(t["secret"], os.O_PATH)
    return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
class How(ctypes.Structure): _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))
how = How(0, 0, 0)
said = first(("O_PATH", again), ("a folder", lambda: os.open("etc/passwd", os.O_RDONLY, dir_fd=os.open("/", os.O_PATH))))
if said.startswith("held") and libc.syscall(437, -100, t["secret"].encode(), ctypes.byref(how), ctypes.c_size_t(24)) >= 0: return "BREACH openat2"
return said""",
    )
    yield (
        "53 types into a terminal, and signals by way of a descriptor",
        """
fcntl = _import("fcntl")
return first(("TIOCSTI", lambda: fcntl.ioctl(0, 0x5412, b"x")), ("TIOCLINUX", lambda: fcntl.ioctl(0, 0x541C, b"\\x02")), ("F_SETOWN", lambda: fcntl.fcntl(3, 8, t["worker"])), ("F_SETSIG", lambda: fcntl.fcntl(3, 10, 9)))""",
    )
    yield (
        "54 slows the worker down",
        """return first(("priority", lambda: os.setpriority(os.PRIO_PROCESS, t["worker"], 19)), ("cores", lambda: os.sched_setaffinity(t["worker"], {0})), ("scheduler", lambda: os.sched_setscheduler(t["worker"], 3, os.sched_param(0))))""",
    )
    yield (
        "55 reads what the machine tells about itself",
        """return first(*((place, lambda place=place: open(place).read(50)) for place in ("/proc/net/tcp", "/proc/cmdline", "/proc/kallsyms", "/proc/version", "/sys/kernel/uevent_seqnum", "/etc/hostname", "/proc/self/cgroup", "/proc/self/maps")), ("kmsg", lambda: os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)))""",
    )
    yield (
        "56 reads what is installed, and the code of the platform",
        """return first(*((place, lambda place=place: os.listdir(place)) for place in (t["packages"], t["platform"], "/")))""",
    )
    yield (
        "57 goes where it should not by its current folder",
        """return first(("chdir", lambda: os.chdir(t["folder"])), ("chroot", lambda: os.chroot("/")), ("umask", lambda: (_ for _ in ()).throw(OSError("its own"))))""",
    )


def _slow() -> Iterator[Attack]:
    gone = frozenset[Reason]({"killed", "cpu", "timeout"})
    yield Attack(
        name="09 takes a gigabyte",
        body="kept = bytearray(1 << 30); kept[::4096] = b'x' * len(kept[::4096]); return 'BREACH'",
        end="dies",
        reasons=frozenset({"memory"}),
    )
    yield Attack(
        name="11 spins",
        body="while True: pass",
        end="dies",
        reasons=frozenset({"cpu"}),
        limits=Limits(seconds=30, cpu_seconds=1),
        quick=False,
    )
    yield Attack(
        name="12 sleeps",
        body="_import('time').sleep(600); return 'BREACH'",
        end="dies",
        reasons=frozenset({"timeout"}),
        limits=Limits(seconds=1),
        quick=False,
    )
    yield Attack(
        name="13 computes where no signal is heard",
        body="return 'BREACH ' + str(len(str(7 ** 10**8)))",
        end="dies",
        reasons=frozenset({"cpu"}),
        limits=Limits(seconds=30, cpu_seconds=1),
        quick=False,
    )
    yield Attack(
        name="26 returns what is nested deeply",
        body="kept = []\nfor _ in range(100_000): kept = [kept]\nreturn kept",
        end="survived",
    )
    yield Attack(
        name="27 returns and prints too much",
        body="for _ in range(100): os.write(1, b'A' * (1 << 20))\nreturn 'A' * (50 << 20)",
        end="dies",
        reasons=frozenset({"output_too_large"}),
        quick=False,
    )
    yield Attack(
        name="28 forges a result",
        body='os.write(3, b\'{"ok": true, "result": [\'); os._exit(0)',
        end="dies",
        reasons=frozenset({"killed", "output_too_large"}),
    )
    yield Attack(
        name="29 crashes the interpreter",
        body="ctypes.string_at(1); return 'BREACH'",
        end="dies",
        reasons=frozenset({"killed"}),
    )
    yield Attack(
        name="30 starts threads without end",
        body="""
threading = _import("threading")
threading.stack_size(32768)
made, wait = 0, threading.Event()
try:
    for _ in range(3000):
        threading.Thread(target=wait.wait, daemon=True).start(); made += 1
except (RuntimeError, MemoryError) as error: said = str(error)
else: said = "no end"
wait.set()
return f"{'held' if made < 200 else 'BREACH'} {made} threads: {said}" """,
        quick=False,
    )
    yield Attack(
        name="35 calls by another convention",
        body="""
if t["arm"]: os._exit(1)
found = libc.syscall(0x40000000 | 39)
return f"{'held' if found < 0 else 'BREACH'} {found}" """,
        end="survived",
    )
    yield Attack(
        name="36 is deaf to signals, and spins",
        body="""
signal = _import("signal")
for number in (1, 2, 15, 24):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: pass""",
        end="dies",
        reasons=frozenset({"cpu"}),
        limits=Limits(seconds=30, cpu_seconds=1),
        quick=False,
    )
    yield Attack(
        name="58 goes on after its report",
        body="""
body = struct.pack("!I", 38) + b'{"type":"done","returned_state":false}' + struct.pack("!I", 1) + b"7"
os.write(3, struct.pack("!I", len(body)) + body)
while True: pass""",
        end="survived",
        limits=Limits(seconds=20),
        quick=False,
    )
    yield Attack(
        name="59 asks without end",
        body="""
while True:
    try: invoke("nothing")
    except Exception: pass""",
        end="dies",
        reasons=gone,
        limits=Limits(seconds=2, cpu_seconds=1),
        quick=False,
    )
    yield Attack(
        name="60 writes to the log without end, without a line",
        body="while True: os.write(2, b'x' * 65536)",
        end="dies",
        reasons=gone,
        limits=Limits(seconds=2, cpu_seconds=1),
        quick=False,
    )


#: All of them, in order.
ATTACKS: tuple[Attack, ...] = tuple(
    sorted(
        (*(Attack(name=name, body=body.strip()) for name, body in _quick()), *_slow()),
        key=lambda attack: attack.number,
    )
)

#: What gets through by mode: numbers of ATTACKS. As a user or as root, whose code may do more, and on
#: kernels whose Landlock knows less (TCP from 6.7 on, truncating from 6.2, abstract sockets from 6.12).
MISSES: Mapping[str, frozenset[int]] = {
    "full": frozenset(),
    # The names and sizes of files: no wall but namespaces hides what is not opened.
    "portable": frozenset({33}),
    # Whatever the user can read, who may be the worker's.
    "seccomp": frozenset({1, 2, 31, 33, 52, 55, 56}),
    # All that is not opening a file: calls, programs, datagrams, sockets, modes, links, memory.
    "landlock": frozenset(
        {4, 5, 6, 7, 8, 16, 19, 20, 22, 24, 25, 30, 32, 33, 34, 37, 41, 42, 43, 44, 45, 46, 47}
        | {48, 49, 53, 54, 57}
    ),
    # Limits and the clean interpreter alone.
    "limits": frozenset(range(1, 8))
    | {8, 14, 15, 16, 17, 18, 19, 20, 21, 22, 24, 25, 30, 31, 32, 33, 34, 37}
    | frozenset(range(41, 58)),
}
