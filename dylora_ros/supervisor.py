"""Start the graph's processes, watch them, restart what died, end them in order."""

import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import psutil

from dylora_ros import graph
from dylora_ros.core.seal import Secret
from dylora_ros.nodes.process import WRONG_PARAMETER
from dylora_ros.secret import give, HOLDERS
from dylora_ros.wish import new_run

_RESPAWN_DELAY = 1.0
_RESPAWNS = 5          # of one process within _FORGIVE seconds; then it stays down
_FORGIVE = 120.0


class Supervisor:
    """The processes of one agent.

    Args:
        processes: name -> nodes, from :func:`dylora_ros.graph.processes`.
        ros_args: passed to every process after ``--ros-args``.
        log_dir: where their output goes; None: to our standard error.
    """

    def __init__(self, processes: dict[str, tuple[str, ...]], ros_args: list[str],
                 log_dir: Path | None):
        self._nodes = processes
        self._ros_args = ros_args
        self._log_dir = log_dir
        self.running: dict[str, subprocess.Popen] = {}
        self._died: dict[str, list[float]] = {name: [] for name in processes}
        self._restart: dict[str, float] = {}
        self.secret = Secret()
        self._run = new_run()
        self._born: set[str] = set()           # processes that have been there
        self.events: list[str] = []
        self._cpu: dict[int, float] = {}
        self.cpu_seconds = 0.0
        self.peak_rss = 0

    def start(self):
        """Start everything."""
        for name in self._nodes:
            self._spawn(name)

    def _spawn(self, name: str):
        command = [sys.executable, '-m', 'dylora_ros.nodes.process',
                   '--nodes', ','.join(self._nodes[name]), '--die-with-parent',
                   '--nice', str(graph.NICE.get(name, 0))]
        sealed = None
        if HOLDERS & set(self._nodes[name]):
            sealed = give(self.secret, again=name in self._born)
            command += ['--seal-fd', str(sealed.fileno())]
        self._born.add(name)
        command += ['--ros-args', *self._ros_args]
        out = sys.stderr
        if self._log_dir is not None:
            self._log_dir.mkdir(parents=True, exist_ok=True)
            out = open(self._log_dir / f'{name}.log', 'ab')     # noqa: SIM115 the child's
        package = Path(__file__).resolve().parents[1]
        path = os.pathsep.join(filter(None, [str(package), os.environ.get('PYTHONPATH')]))
        self.running[name] = subprocess.Popen(
            command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True,
            pass_fds=[sealed.fileno()] if sealed else (),
            env={**os.environ, **self._run, 'PYTHONPATH': path})
        if sealed:
            sealed.close()

    def poll(self):
        """Restart what died; take the resource figures. Call about once a second."""
        now = time.monotonic()
        for name, process in list(self.running.items()):
            code = process.poll()
            if code is None:
                continue
            del self.running[name]
            self._died[name] = [t for t in self._died[name] if now - t < _FORGIVE] + [now]
            if code == WRONG_PARAMETER or len(self._died[name]) > _RESPAWNS:
                self.events.append(f'{name} ended with code {code} and stays down')
            else:
                self.events.append(f'{name} ended with code {code}; starting it again')
                self._restart[name] = now + _RESPAWN_DELAY
        for name, when in list(self._restart.items()):
            if now >= when:
                del self._restart[name]
                self._spawn(name)
        self._measure()

    def _measure(self):
        total = 0
        for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
            try:
                times = process.cpu_times()
                spent = times.user + times.system
                total += process.memory_info().rss
            except psutil.Error:
                continue
            # a first sight counts nothing: loading is not living
            self.cpu_seconds += max(0.0, spent - self._cpu.get(process.pid, spent))
            self._cpu[process.pid] = spent
        self.peak_rss = max(self.peak_rss, total)

    @property
    def dead_for_good(self) -> list[str]:
        """Processes that are down and will not be started again."""
        return [n for n in self._nodes if n not in self.running and n not in self._restart]

    def stop(self, patience: float = 8.0):
        """Interrupt all, the control process first; kill what does not end."""
        order = sorted(self.running, key=lambda n: n not in ('control', 'agent'))
        for name in order:
            self._signal(name, signal.SIGINT)
        end = time.monotonic() + patience
        for name in order:
            try:
                self.running[name].wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._signal(name, signal.SIGKILL)
        self.running.clear()

    def _signal(self, name: str, number: int):
        try:
            os.killpg(self.running[name].pid, number)
        except ProcessLookupError:
            pass
