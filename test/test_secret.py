"""How a process comes by the secret of its life."""

import json
import os
import subprocess
import sys

from dylora_ros import secret
from dylora_ros.core.seal import Secret

TOLD = """
import json, sys
from dylora_ros import secret
secret.receive(int(sys.argv[1]) if sys.argv[1:] else None)
life = secret.life()
import ctypes, os
print(json.dumps([life.secret.key.hex(), life.again, ctypes.CDLL(None).prctl(3),
                  secret.VARIABLE in os.environ]))
"""
KEY = Secret(bytes(range(32)))


def told(*arguments, **options):
    out = subprocess.run([sys.executable, '-c', TOLD, *arguments], capture_output=True, text=True,
                         check=True, **options)
    return json.loads(out.stdout)


def test_through_an_inherited_socket():
    for again in (False, True):
        with secret.give(KEY, again) as given:
            assert told(str(given.fileno()), pass_fds=[given.fileno()]) == \
                [KEY.key.hex(), again, 0, False]


def test_through_the_environment_of_a_launch_file():
    assert told(env={**os.environ, **secret.variable(KEY)}) == [KEY.key.hex(), False, 0, False]


def test_a_process_that_a_launch_file_starts_later_is_not_the_first():
    name, value = next(iter(secret.variable(KEY).items()))
    key, born = value.split(':')
    assert told(env={**os.environ, name: f'{key}:{float(born) - 60}'})[:2] == [key, True]


def test_a_process_that_was_given_none_has_one_of_its_own():
    first, second = told(), told()
    assert first[0] != second[0]
    assert first[1:] == [False, 1, False]
