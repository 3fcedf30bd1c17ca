"""The whole graph in its own processes: one short life through all phases, one with murders."""

import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

rclpy = pytest.importorskip('rclpy')
pytestmark = [pytest.mark.graph, pytest.mark.weights]

ROOT = Path(__file__).resolve().parents[2]


def start(memory, *options):
    """Start an agent that tires as late as the grown; its output is JSON on the last line."""
    grown = memory / 'grown.yaml'
    grown.write_text('/**/global_context:\n  ros__parameters:\n    young_tired_after: 90000\n')
    return subprocess.Popen(
        [sys.executable, '-m', 'dylora_ros', 'run', '--headless', '--memory', str(memory),
         '--params-file', str(grown), *options], cwd=ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True)


def finish(process, timeout):
    """Return (figures, standard error) of an agent that ends by itself."""
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out.strip().splitlines()[-1]), err


@pytest.mark.timeout(240)
def test_a_short_life_goes_through_all_phases_and_is_remembered(tmp_path):
    figures, err = finish(start(tmp_path, '--duration', '55', '--sleep-after', '12'), 200)
    ways = [(t['from'], t['to']) for t in figures['transitions']]
    assert ways[:4] == [('SAFE', 'AWAKE'), ('AWAKE', 'REM'), ('REM', 'NREM'), ('NREM', 'AWAKE')]
    assert all(figures['phases'][p] > 3 for p in ('awake', 'rem', 'nrem'))
    assert set(figures['nodes']) >= {'camera', 'microphone', 'text', 'actuator', 'predictor',
                                     'global_context', 'reward', 'lifecycle_manager', 'monitor',
                                     'simulator'}
    assert figures['cycles'] > 200
    assert figures['dreamt_rows'] > 20
    assert all(v is not None for v in figures['surprise'].values())
    rem, nrem = figures['sleep_reports'][:2]
    assert rem['phase'] == 'REM'
    assert nrem['phase'] == 'NREM'
    assert nrem['after'] <= nrem['before'] or not nrem['kept']
    from dylora_ros.core.context import FLAG_DREAM, GlobalContext
    from dylora_ros.core.phases import Phase
    with GlobalContext.read(tmp_path / 'context.gc') as log:
        # the figures were taken a moment before the end
        assert 0 <= log.committed - figures['rows'] < 100
        assert not log.verify()
        rows = log.rows(0, log.committed)
    committed = len(rows)
    dreams = rows['flags'] & FLAG_DREAM != 0
    # a life that ends in a dream has dreamt on since; any other has exactly these
    assert dreams[:figures['rows']].sum() <= figures['dreamt_rows'] <= dreams.sum()
    assert (rows['phase'][dreams] == Phase.REM).all()
    mask = np.bitwise_or.reduce(rows['mask'][~dreams])
    assert mask == 15, 'every modality has been in the global context'
    assert rows['q'][~dreams].astype(float).std() > 0

    again, err = finish(start(tmp_path, '--duration', '4'), 120)
    assert f'{committed} rows remembered' in err


class Witness:
    """Watches an agent from outside: phase, commands, joint velocities."""

    def __init__(self):
        from rclpy.executors import SingleThreadedExecutor

        from dylora_ros.ros import messages
        from dylora_ros.ros.interfaces import TOPICS
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node('witness', context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.phase, self.speed, self.command, self.heard = '', 0.0, None, 0.0
        self.phases = []

        def on_phase(m):
            self.phase = m.data
            self.phases.append(m.data)

        def on_joints(m):
            self.speed = float(np.abs(m.velocity).max())

        def on_command(m):
            self.command, self.heard = messages.commands(m), time.monotonic()

        for topic, call in (('phase', on_phase), ('joint_states', on_joints),
                            ('commands', on_command)):
            self.node.create_subscription(TOPICS[topic].type, topic, call, TOPICS[topic].qos)

    def until(self, done, timeout):
        """Spin until ``done()``; returns the seconds it took, or fails."""
        start = time.monotonic()
        while time.monotonic() - start < timeout:
            if done():
                return time.monotonic() - start
            self.executor.spin_once(timeout_sec=0.02)
        raise AssertionError(f'not within {timeout} s; phases {self.phases}, speed {self.speed}, '
                             f'command {self.command}')

    def close(self):
        self.node.destroy_node()
        self.executor.shutdown()
        rclpy.try_shutdown(context=self.context)


def process_of(agent, node):
    """Return the process of the agent that holds a node."""
    for child in psutil.Process(agent.pid).children(recursive=True):
        words = child.cmdline()
        if '--nodes' in words and node in words[words.index('--nodes') + 1].split(','):
            return child
    raise AssertionError(f'no process holds {node}')


@pytest.mark.timeout(300)
def test_murdered_nodes_stop_the_joints_are_reported_and_come_back(tmp_path):
    agent = start(tmp_path, '--duration', '600')
    witness = Witness()
    try:
        witness.until(lambda: witness.phase == 'AWAKE', 120)
        for victim in ('camera', 'global_context', 'simulator', 'lifecycle_manager'):
            witness.until(lambda: witness.phase == 'AWAKE' and witness.command is not None
                          and np.abs(witness.command).max() > 0, 90)
            known = len(witness.phases)
            os.kill(process_of(agent, victim).pid, signal.SIGKILL)
            dead = time.monotonic()
            # no command but a zero one: it has stopped, or whoever sends is dead and the
            # world stops by itself

            def quiet(dead=dead):
                fresh = witness.heard > dead + 0.05
                return not witness.command.any() if fresh else time.monotonic() - dead > 0.3

            assert witness.until(quiet, 3.0) <= 1.5
            if victim != 'simulator':
                witness.until(lambda: witness.speed < 0.15, 3.0)
            # a new manager may have left SAFE before we have found it: its word is enough
            news = {'SAFE', 'AWAKE'} if victim == 'lifecycle_manager' else {'SAFE'}
            witness.until(lambda k=known, n=news: n & set(witness.phases[k:]), 10)
        witness.until(lambda: witness.phase == 'AWAKE', 90)
        agent.send_signal(signal.SIGINT)
        figures, err = finish(agent, 60)
    except AssertionError:
        agent.send_signal(signal.SIGINT)
        print(agent.communicate(timeout=60)[1])         # what the nodes had to say
        raise
    finally:
        if agent.poll() is None:
            agent.kill()
        witness.close()
    assert 'lost camera' in err
    assert 'lost global_context' in err
    assert len(figures['process_events']) == 4
    from dylora_ros.core.context import GlobalContext
    with GlobalContext.read(tmp_path / 'context.gc') as log:
        assert log.committed > 0
        assert not log.verify()
