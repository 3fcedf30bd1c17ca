"""How the processes of one agent come to share the secret of this life.

Whoever starts the agent (``python -m dylora_ros run``, ``ros2 launch``) makes it and gives it to
the processes that judge, log and learn, and to no other: through a socket that is inherited, or,
from a launch file, which cannot pass one on, in their environment. It is never on the disk. Those
processes cannot be read or traced by others of the same user (Linux: not dumpable).
"""

import ctypes
from dataclasses import dataclass
import json
import os
import socket
import time

from dylora_ros.core.seal import Secret

VARIABLE = 'DYLORA_SEAL'
HOLDERS = frozenset({'global_context', 'predictor', 'reward'})      # nodes
_PR_SET_DUMPABLE = 4
_LAUNCH = 30.0        # s; a process that a launch file starts later than this is not its first


@dataclass(frozen=True)
class Life:
    """What a process knows of the life it belongs to.

    Attributes:
        secret: of this life.
        again: whether it takes the place of a process that has died.
    """

    secret: Secret
    again: bool = False


_life: Life | None = None


def life() -> Life:
    """Return this process's life; a process that was given none is one of its own."""
    global _life
    if _life is None:
        _life = Life(Secret())
    return _life


def give(secret: Secret, again: bool) -> socket.socket:
    """Return the socket to be inherited by a process; close it when the process is there."""
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(json.dumps({'key': secret.key.hex(), 'again': again}).encode())
    return theirs


def variable(secret: Secret) -> dict[str, str]:
    """Return the environment that a launch file gives to the holders."""
    return {VARIABLE: f'{secret.key.hex()}:{time.monotonic():.3f}'}


def hide():
    """Keep other processes of this user from reading this one's memory; exec undoes it."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)


def receive(fd: int | None):
    """Take the secret at the start of a process, and hide the process.

    Args:
        fd: of the inherited socket; None: look into the environment.

    """
    global _life
    text = os.environ.pop(VARIABLE, '')
    if fd is None and not text:
        return
    hide()
    if fd is not None:
        with socket.socket(fileno=fd) as theirs:
            told = json.loads(theirs.recv(4096))
        _life = Life(Secret(bytes.fromhex(told['key'])), told['again'])
    else:
        key, born = text.split(':')
        _life = Life(Secret(bytes.fromhex(key)), time.monotonic() - float(born) > _LAUNCH)
