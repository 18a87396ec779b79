"""Attempts to get out of a sandbox, by kind. Each is a few lines of Python.

A probe escapes where its code sets `escaped`, and is held where it raises OSError or the like, or
is killed by the kernel. `world` says what is outside. `free` says what happens without a sandbox:
None for an escape, else why not, or why it is not run there.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Probe:
    name: str
    code: str
    free: str | None = None


def reads(path: str) -> str:
    """Code that escapes where it can read the canary by this expression for a path."""
    return f"escaped = CANARY in open({path}, 'rb').read(100_000)"


def opens(path: str, mode: str) -> str:
    return f"open({path}, {mode!r}).close(); escaped = True"


def makes(path: str) -> str:
    return f"open({path}, 'x').close(); os.unlink({path}); escaped = True"


def call(name: str, *arguments: str) -> str:
    """Code that escapes where the kernel at least looks at the arguments of a system call.

    Addresses are invalid ones (8), so that even a call that is allowed does nothing.
    """
    given = ", ".join(arguments or ["8"] * 6)
    return f"""
number = world['calls'].get({name!r})
if number is None:
    raise OSError('this processor has no such call')
result, error = raw(number, {given})
escaped = result >= 0 or error not in (errno.EPERM, errno.ENOSYS)
"""


def connects(family: str, address: str, kind: str = "SOCK_STREAM") -> str:
    return f"""
made = socket.socket(socket.{family}, socket.{kind})
made.settimeout(1)
made.connect({address})
made.send(b'x')
escaped = True
"""


CLEAN = "the plain backend too starts programs with a clean environment and closed descriptors"
HARMFUL = "not run without a sandbox: it would take memory or disk of this machine"
KERNEL = "depends on how the kernel was built"
FIRST = "depends on what the machine's process 1 is"
OWN = "without a sandbox it is refused as well"

FILES = [
    Probe("the path", reads("world['file']")),
    Probe("a path with dots", reads("'../' * 30 + world['file'][1:]")),
    Probe("/proc/self/root", reads("'/proc/self/root' + world['file']")),
    Probe("/proc/1/root", reads("'/proc/1/root' + world['file']"), FIRST),
    Probe("/proc/1/cwd", reads("'/proc/1/cwd/' + '../' * 30 + world['file'][1:]"), FIRST),
    Probe("/proc/self/cwd", reads("'/proc/self/cwd/' + '../' * 30 + world['file'][1:]")),
    Probe("/proc/thread-self/root", reads("'/proc/thread-self/root' + world['file']")),
    Probe("a symlink", "os.symlink(world['file'], 'link')\n" + reads("'link'")),
    Probe("a symlink made outside before", reads("'../planted'")),
    Probe("a folder's symlink", "os.symlink('/', 'all')\n" + reads("'all' + world['file']")),
    Probe("a hard link", "os.link(world['file'], 'hard')\n" + reads("'hard'")),
    Probe(
        "a rename race on a symlink",
        """
open('own', 'w').close()
os.symlink(world['file'], 'aside')
child = os.fork()
if not child:
    while True:
        os.rename('own', 'third'); os.rename('aside', 'own')
        os.rename('own', 'aside'); os.rename('third', 'own')
until = time.monotonic() + 0.3
found = False
while time.monotonic() < until and not found:
    try:
        found = CANARY in open('own', 'rb').read()
    except OSError:
        pass
os.kill(child, signal.SIGKILL)
escaped = found
""",
    ),
    Probe("the service's code", opens("world['source']", "rb")),
    Probe("the users of the machine", opens("'/etc/passwd'", "rb")),
    Probe("/sys", "escaped = bool(os.listdir('/sys'))"),
    Probe("/var", "escaped = bool(os.listdir('/var'))"),
    Probe("/run", "escaped = bool(os.listdir('/run'))"),
    Probe("the host's /tmp", "escaped = len(os.listdir('/tmp')) > 0"),
    Probe("devices", "escaped = bool(set(os.listdir('/dev')) - DEVICES)"),
    Probe(
        "a new block device",
        "os.mknod('disk', 0o60600, os.makedev(*world['disk'])); open('disk', 'rb'); escaped = True",
        KERNEL,
    ),
    Probe("a file in /usr", makes("'/usr/left-over'")),
    Probe("a file in /etc", makes("'/etc/left-over'")),
    Probe("a file in /", makes("'/left-over'")),
    Probe("a file beside Python", makes("sys.base_prefix + '/lib/left-over'")),
    Probe("the kernel's settings", opens("'/proc/sys/kernel/core_pattern'", "r+")),
    Probe("the magic key", opens("'/proc/sysrq-trigger'", "r+"), KERNEL),
    Probe("the out-of-memory score", opens("'/proc/self/oom_score_adj'", "r+")),
    Probe("memory of the kernel", "escaped = bool(open('/proc/kcore', 'rb').read(4))", KERNEL),
    # Where the service is root, a program owns what root owns. Each mode is set to what it is.
    *(
        Probe(f"the mode of {path}", f"os.chmod('{path}', mode({path!r})); escaped = True", free)
        for path, free in (
            ("/dev/null", None),
            ("/dev/urandom", None),
            ("/usr", None),
            ("/usr/bin/env", None),
            ("/proc/self/exe", None),
            ("/proc/1/exe", FIRST),
        )
    ),
    Probe(
        "the mode of stdin", "os.fchmod(0, mode('/proc/self/fd/0')); escaped = not memory(0)", CLEAN
    ),
    Probe(
        "a lease on a file of the system",
        """
import fcntl
fcntl.fcntl(os.open('/usr/bin/env', os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_RDLCK)
escaped = True
""",
    ),
    Probe(
        "the time of /dev/null",
        "now = os.stat('/dev/null')\n"
        "os.utime('/dev/null', ns=(now.st_atime_ns, now.st_mtime_ns)); escaped = True",
    ),
    Probe("the owner of /dev/null", "os.chown('/dev/null', -1, os.getgid()); escaped = True"),
    Probe(
        "files that process 1 has mapped",
        """
for name in os.listdir('/proc/1/map_files'):
    os.stat(f'/proc/1/map_files/{name}')
    escaped = True
""",
        FIRST,
    ),
    Probe(
        "a shell",
        "escaped = CANARY in subprocess.run(['sh', '-c', 'cat \"$1\"; cat < \"$1\"', 'sh',"
        " world['file']], capture_output=True).stdout",
    ),
]

PROCESSES = [
    Probe(
        "descriptors of other processes",
        """
for descriptor in os.listdir(outside('fd')):
    path = outside(f'fd/{descriptor}')
    if stat.S_ISREG(os.stat(path).st_mode) and CANARY in open(path, 'rb').read(1000):
        escaped = True
""",
    ),
    Probe("the service's environment", "escaped = bool(open(outside('environ'), 'rb').read())"),
    Probe("the service's memory", "escaped = bool(open(outside('mem'), 'rb+'))"),
    Probe("the service's root", "escaped = bool(os.listdir(outside('root')))"),
    Probe("the service's command line", "escaped = bool(open(outside('cmdline'), 'rb').read())"),
    Probe(
        "the environment of process 1",
        """
own = {f'{name}={value}' for name, value in os.environ.items()} | {''}
escaped = not set(open('/proc/1/environ').read().split('\\0')) <= own
""",
        FIRST,
    ),
    Probe("the memory of process 1", "open('/proc/1/mem', 'rb+'); escaped = True", FIRST),
    Probe(
        "descriptors of process 1",
        """
own = {os.readlink(f'/proc/self/fd/{n}') for n in range(2)} | {world['output']}
for descriptor in os.listdir('/proc/1/fd'):
    if os.readlink(f'/proc/1/fd/{descriptor}') not in own:
        escaped = True
""",
        FIRST,
    ),
    Probe("a key in the environment", "escaped = 'CANARY_KEY' in os.environ", CLEAN),
    Probe(
        "inherited descriptors",
        """
for descriptor in range(3, 1000):
    try:
        escaped = escaped or CANARY in os.pread(descriptor, 1000, 0)
    except OSError:
        pass
""",
        CLEAN,
    ),
    Probe(
        "writing to stdin's file",
        "os.write(os.open('/proc/self/fd/0', os.O_WRONLY), b'x'); escaped = True",
        CLEAN,
    ),
    Probe("other processes are seen", "os.stat(f\"/proc/{world['victim']}\"); escaped = True"),
    Probe("a signal to the service", "os.kill(world['pid'], 0); escaped = True"),
    Probe("a signal to another process", "os.kill(world['victim'], 0); escaped = True"),
    Probe(
        "a descriptor of another process",
        "os.pidfd_open(world['victim']); escaped = True",
    ),
    Probe(
        "the priority of another process",
        "os.setpriority(os.PRIO_PROCESS, world['victim'], 1); escaped = True",
    ),
    Probe("ptrace of another process", call("ptrace", "0x4206", "world['victim']", "0", "0")),
    Probe("ptrace of itself", call("ptrace", "0", "0", "0", "0")),
    Probe("reading another's memory", call("process_vm_readv", "world['victim']", *["0"] * 5)),
    Probe("writing another's memory", call("process_vm_writev", "world['victim']", *["0"] * 5)),
    Probe("another's descriptors", call("pidfd_getfd", "-1", "0", "0")),
    Probe("comparing with another", call("kcmp", "world['pid']", "world['pid']", "2", "0", "0")),
    *(
        Probe(
            f"the machine's namespace: {kind}",
            f"escaped = os.readlink('/proc/self/ns/{kind}') == world['namespaces']['{kind}']",
        )
        for kind in ("user", "pid", "net", "mnt", "ipc", "uts", "cgroup")
    ),
    Probe("the host's name", "escaped = os.uname().nodename == world['host']"),
    Probe("being root", "escaped = os.geteuid() == 0"),
    Probe("becoming root", "os.setuid(0); escaped = True"),
    Probe("capabilities", "escaped = bool(int(status('CapEff'), 16))"),
    Probe("capabilities of programs", "escaped = bool(int(status('CapBnd'), 16))"),
    Probe("setuid programs", "escaped = not os.statvfs('/usr').f_flag & os.ST_NOSUID"),
    Probe("new rights", "escaped = status('NoNewPrivs') != '1'"),
    Probe("a higher priority", "os.nice(-5); escaped = True"),
    Probe(
        "higher limits",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (10**5, 10**5)); escaped = True",
        "depends on the rights of the service",
    ),
    Probe("a real-time priority",
          "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)); escaped = True", KERNEL),
    Probe("capabilities of a file", "open('own', 'w').close()\nos.setxattr('own', "
          "'security.capability', struct.pack('=5I', 0x2000001, 1, 0, 0, 0)); escaped = True"),
    Probe("core dumps", "escaped = resource.getrlimit(resource.RLIMIT_CORE)[0] != 0", OWN),
    Probe("processor time", "escaped = resource.getrlimit(resource.RLIMIT_CPU)[1] < 0"),
]  # fmt: skip
for _mode in (
    "os.chmod('own', 0o4755)",
    "os.chmod('own', 0o2755)",
    "os.fchmod(os.open('own', os.O_RDONLY), 0o4755)",
    "os.chmod('own', 0o4755, follow_symlinks=True)",
    "os.close(os.open('made', os.O_CREAT | os.O_WRONLY, 0o4755))",
    "os.mknod('node', 0o104755)",
    "raw(world['calls']['fchmodat2'], -100, b'own', 0o4755, 0)",
    "raw(world['calls'].get('creat', 9999), b'created', 0o4755)",
    "raw(world['calls'].get('chmod', 9999), b'own', 0o6777)",
    "raw(world['calls']['openat'], -100, b'raw', 0o101, 0o6755)",
    "raw(world['calls']['openat'], -100, b'.', 0o20200002, 0o4755) and os.stat('.')",
    "subprocess.run(['chmod', 'u+s', 'own'], stderr=subprocess.DEVNULL)",
):
    _after = "[name for name in os.listdir('.') if os.lstat(name).st_mode & 0o6000]"
    PROCESSES.append(
        Probe(
            f"setuid: {_mode}",
            f"open('own', 'w').close()\n{_mode}\nescaped = bool({_after})",
            KERNEL if "fchmodat2" in _mode or "20200002" in _mode else None,
        )
    )

NETWORK = [
    Probe("TCP", connects("AF_INET", "tuple(world['port'])")),
    Probe("TCP over IPv6", connects("AF_INET6", "('::1', world['port6'])")),
    Probe("UDP", connects("AF_INET", "tuple(world['port'])", "SOCK_DGRAM")),
    Probe("an abstract socket", connects("AF_UNIX", "'\\0' + world['abstract']")),
    Probe("a socket's file outside", connects("AF_UNIX", "world['socket']")),
    Probe("a socket's file in the workspace", connects("AF_UNIX", "'../socket'")),
    *(
        Probe(f"{name} from one of a pair",
              "one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
              f"one.{code}\nescaped = True")
        for name, code in (
            ("sending to a socket in the workspace", "sendto(b'x', '../datagrams')"),
            ("connecting to a socket in the workspace", "connect('../datagrams')"),
        )
    ),
    Probe("a listening port", "socket.create_server(('127.0.0.1', 0)); escaped = True"),
    Probe("a pair of TCP sockets", "socket.socketpair(socket.AF_INET); escaped = True", OWN),
    Probe("netlink", "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW); escaped = True"),
    Probe("raw IP", "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); escaped = True"),
    Probe("packets", "socket.socket(socket.AF_PACKET, socket.SOCK_RAW); escaped = True", KERNEL),
    Probe("VSOCK", "socket.socket(socket.AF_VSOCK); escaped = True", KERNEL),
    Probe("AF_ALG", "socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET); escaped = True", KERNEL),
    Probe("network devices", "escaped = open('/proc/net/dev').read().count(':') > 1", KERNEL),
    Probe("bash", "escaped = not subprocess.run(['bash', '-c', f'echo > /dev/tcp/127.0.0.1/'"
          " f\"{world['port'][1]}\"], stderr=subprocess.DEVNULL).returncode"),
    Probe("a pair of Unix sockets is allowed",
          "a, b = socket.socketpair(); a.send(b'x'); assert b.recv(1) == b'x'", OWN),
]  # fmt: skip

NAMES = """
    mount umount2 pivot_root chroot open_tree move_mount fsopen fsconfig fsmount fspick
    mount_setattr setns bpf perf_event_open userfaultfd keyctl add_key request_key
    io_uring_setup io_uring_enter io_uring_register memfd_create memfd_secret shmget
    open_by_handle_at name_to_handle_at init_module finit_module delete_module swapon
    swapoff quotactl acct fanotify_init clock_adjtime adjtimex sethostname setdomainname
    vmsplice process_madvise move_pages personality openat2
"""
CALLS = [
    Probe(name, call(name), None if name in {"mount", "umount2", "chroot", "setns"} else KERNEL)
    for name in NAMES.split()
]
CALLS += [
    Probe("unshare users", call("unshare", "0x10000000")),
    Probe("unshare mounts", call("unshare", "0x20000")),
    Probe("unshare network", call("unshare", "0x40000000")),
    Probe(
        "clone into a user namespace",
        "result, error = raw(world['calls']['clone'], 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)\n"
        "if not result: os._exit(0)\n"
        "escaped = result > 0",
    ),
    Probe(
        "clone3 into a user namespace",
        "arguments = struct.pack('=8Q', 0x10000000, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)\n"
        "result, error = raw(world['calls']['clone3'], arguments, 64)\n"
        "if not result: os._exit(0)\n"
        "escaped = result > 0",
    ),
    Probe("a namespace outside", "os.open(outside('ns/net'), os.O_RDONLY); escaped = True"),
    Probe("another personality", call("personality", "0x0040000")),
    Probe("typing into a terminal", call("ioctl", "0", "0x5412", "8")),
    Probe("typing, with a high half", call("ioctl", "0", "(1 << 32) | 0x5412", "8")),
    Probe("remounting /usr", "raw(world['calls']['mount'], b'none', b'/usr', 0, 4096 | 32, 0)\n"
          "open('/usr/left-over', 'x'); os.unlink('/usr/left-over'); escaped = True"),
    Probe("a call that no table knows", "escaped = raw(4000)[1] != errno.ENOSYS", OWN),
    Probe("x32 calls", "escaped = raw(0x40000000 | 39)[0] > 0", KERNEL),
    Probe(
        "32-bit calls",
        """
if platform.machine() != 'x86_64':
    raise OSError('only this processor has two kinds of calls')
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes.fromhex('b814000000' 'cd80' 'c3'))
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
escaped = ctypes.CFUNCTYPE(ctypes.c_int)(address)() > 0
""",
        KERNEL,
    ),
    Probe("the filter is on", "escaped = status('Seccomp') != '2'"),
]  # fmt: skip

RESOURCES = [
    Probe(
        "processes",
        """
children = []
try:
    for _ in range(world['processes'] + 16):
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
        children.append(child)
    escaped = True
finally:
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
""",
    ),
    Probe(
        "threads",
        """
threading.stack_size(65536)
gate = threading.Event()
for _ in range(world['processes'] + 16):
    try:
        threading.Thread(target=gate.wait, daemon=True).start()
    except RuntimeError as error:
        raise OSError from error
escaped = True
""",
    ),
    Probe("memory of one process", "bytearray(world['memory'] + (64 << 20)); escaped = True"),
    Probe("a memory file", "os.memfd_create('x'); escaped = True"),
    Probe(
        "/dev/shm",
        "file = open('/dev/shm/x', 'wb')\nfor _ in range(48): file.write(bytes(1 << 20))\n"
        "escaped = True",
        HARMFUL,
    ),
    Probe(
        "/tmp",
        "for name in 'ab':\n  with open(f'/tmp/{name}', 'wb') as file:\n"
        "    for _ in range(40): file.write(bytes(1 << 20))\n"
        "escaped = True",
        HARMFUL,
    ),
    Probe("a sparse file", "open('x', 'w').close(); os.truncate('x', 1 << 30); escaped = True"),
    Probe("a far seek", "file = open('y', 'wb'); file.seek(1 << 30); file.write(b'x'); "
          "file.flush(); escaped = True"),
    Probe("fallocate", "os.posix_fallocate(os.open('z', os.O_CREAT | os.O_RDWR), 0, 1 << 27); "
          "escaped = True", HARMFUL),
    Probe("descriptors", "kept = [os.dup(0) for _ in range(5000)]; escaped = True",
          "this machine's own limit may be low"),
    Probe(
        "an archive bomb",
        """
packed = io.BytesIO()
with gzip.open(packed, 'wb', compresslevel=1) as file:
    for _ in range(80):
        file.write(bytes(1 << 20))
packed.seek(0)
with gzip.open(packed) as file, open('unpacked', 'wb') as target:
    shutil.copyfileobj(file, target, 1 << 20)
escaped = True
""",
        HARMFUL,
    ),
]  # fmt: skip

TOTALS = [
    Probe(
        "memory of many processes",
        """
children = []
for _ in range(4):
    child = os.fork()
    if not child:
        held = bytearray(b'x') * (world['memory'] // 2)
        time.sleep(0.5)
        os._exit(0)
    children.append(child)
escaped = not any(os.waitpid(child, 0)[1] for child in children)
""",
        HARMFUL,
    ),
]

GIT = """
def git(*words):
    return subprocess.run(['git', '-c', 'init.defaultBranch=main', '-c', 'user.name=a',
        '-c', 'user.email=a@b', *words], capture_output=True).stdout

def script(path):
    with open(path, 'w') as file:
        file.write(f'#!/bin/sh\\ntouch "{world["folder"]}/reached"\\n')
    os.chmod(path, 0o755)

mark = world['folder'] + '/reached'
git('init', 'repository')
os.chdir('repository')
open('file', 'w').close()
git('add', 'file')
"""
GIT_TRICKS = [
    Probe("a hook", GIT + "script('.git/hooks/pre-commit'); git('commit', '-m', 'x')\n"
          "escaped = os.path.exists(mark)"),
    Probe("a file system monitor", GIT + "script('monitor')\n"
          "git('config', 'core.fsmonitor', os.path.abspath('monitor')); git('status')\n"
          "escaped = os.path.exists(mark)"),
    Probe("ext:: as a protocol", GIT + "git('-c', 'protocol.ext.allow=always', 'clone',"
          " f'ext::touch {mark}', 'copy')\nescaped = os.path.exists(mark)"),
    Probe("an external diff", GIT + "script('differ')\ngit('commit', '-m', 'x')\n"
          "open('file', 'w').write('y')\ngit('-c', 'diff.external=./differ', 'diff')\n"
          "escaped = os.path.exists(mark)"),
    Probe("a repository outside", GIT + "git('clone', world['repository'], 'copy')\n"
          "escaped = os.path.exists('copy/secret')"),
    Probe("a fetch of a missing object", GIT + "git('commit', '-m', 'x')\n"
          "for key, value in (('core.repositoryFormatVersion', '1'),\n"
          "        ('extensions.partialClone', 'o'), ('remote.o.promisor', 'true'),\n"
          "        ('remote.o.url', f'ext::touch {mark}'), ('protocol.ext.allow', 'always')):\n"
          "    git('config', key, value)\n"
          "name = git('rev-parse', 'HEAD:file').decode().strip()\n"
          "os.remove(f'.git/objects/{name[:2]}/{name[2:]}')\n"
          "git('show', 'HEAD:file')\nescaped = os.path.exists(mark)"),
    Probe("a filter of another configuration file", GIT + "script('filter')\n"
          "git('config', 'extensions.worktreeConfig', 'true')\n"
          "git('config', '-f', '.git/config.worktree', 'filter.x.clean',"
          " os.path.abspath('filter'))\n"
          "open('.gitattributes', 'w').write('* filter=x')\ngit('add', '.')\n"
          "escaped = os.path.exists(mark)"),
    Probe("a filter of a repository within", GIT + "git('init', 'within'); os.chdir('within')\n"
          "open('file', 'w').write('x'); open('.gitattributes', 'w').write('* filter=x')\n"
          "git('add', '.'); git('commit', '-m', 'x'); git('-C', '..', 'add', 'within')\n"
          "script('filter'); git('config', 'filter.x.clean', os.path.abspath('filter'))\n"
          "open('file', 'w').write('y'); git('-C', '..', 'status')\n"
          "escaped = os.path.exists(mark)"),
    Probe("a hook of a template", GIT + "os.makedirs('template/hooks')\n"
          "script('template/hooks/pre-commit'); git('init', '--template=template', 'other')\n"
          "git('-C', 'other', 'commit', '--allow-empty', '-m', 'x')\n"
          "escaped = os.path.exists(mark)"),
    Probe("a difference from a file outside", GIT + "found = git('diff', '--no-index', '/dev/null',"
          " world['file'])\nescaped = CANARY in found"),
    Probe("git works", GIT + "git('commit', '-m', 'x'); assert b'x' in git('log')", OWN),
]  # fmt: skip

KINDS = {
    "files": FILES,
    "processes": PROCESSES,
    "network": NETWORK,
    "calls": CALLS,
    "resources": RESOURCES,
    "totals": TOTALS,
    "git": GIT_TRICKS,
}
