"""The program that runs probes in a sandbox: each in a process and a folder of its own.

Prints a line for each: its name, and "held", "escaped", or what broke.
"""

PROGRAM = r"""
import ctypes, errno, gzip, io, json, mmap, os, platform, resource, shutil, signal, socket, stat
import struct, subprocess, sys, threading, time, traceback

given = json.load(sys.stdin)
world = given['world']
CANARY = world['canary'].encode()
DEVICES = {'null', 'zero', 'full', 'random', 'urandom', 'shm', 'fd', 'stdin', 'stdout', 'stderr'}
LIBC = ctypes.CDLL(None, use_errno=True)


def raw(number, *arguments):
    ctypes.set_errno(0)
    # Six arguments: an unset register would be whatever was left in it.
    padded = (arguments + (0,) * 6)[:6]
    longs = [value if isinstance(value, bytes) else ctypes.c_long(value) for value in padded]
    return LIBC.syscall(ctypes.c_long(number), *longs), ctypes.get_errno()


def outside(name):
    return f"/proc/{world['pid']}/{name}"


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def memory(descriptor):
    return os.readlink(f'/proc/self/fd/{descriptor}').startswith('/memfd:')


def status(key):
    for line in open('/proc/self/status'):
        if line.startswith(key + ':'):
            return line.split()[1]


def attempt(number, code):
    os.mkdir(f'probe{number}')
    os.chdir(f'probe{number}')
    found = {'escaped': False}
    try:
        exec(code, globals(), found)
    except (OSError, MemoryError, ValueError):
        pass
    return 1 if found['escaped'] else 0


# Before the probes' own stdout leads to nothing.
world['output'] = os.readlink('/proc/self/fd/1')
for number, (name, code) in enumerate(given['probes']):
    sys.stdout.flush()
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open('errors', os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), 2)
        try:
            code = attempt(number, code)
        except BaseException:
            traceback.print_exc()
            code = 2
        sys.stderr.flush()
        os._exit(code)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    words = {0: 'held', 1: 'escaped', -signal.SIGSYS: 'held', -signal.SIGKILL: 'held'}
    verdict = words.get(ended) or f'broken: {ended}: ' + open('errors').read()[-300:]
    print(json.dumps([name, verdict]), flush=True)
"""
