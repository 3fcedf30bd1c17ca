"""A campaign against the reward, from the agent's side: nothing may change, all must be noted.

    python benchmarks/seal.py [--attempts 2400] [--seed 0] [--out docs/results/seal.json]

The reward node and the global context run in their own processes with the shipped weights, as the
supervisor starts them. An attacker in a third process, of the same user and without the right to
trace others, tries what ``seal_voice.py`` and ``seal_hand.py`` list; after each attempt it looks
whether the audit has grown. Meanwhile the same LR states are shown again and again, in blocks with
and without attack in turn. Changed counts: rewards that differ in any bit from those without
attack or from a judge made of untouched files, parameters, lifecycle states, forged rows that NREM
would learn from, honest ones that it would lose. The last line is one JSON object.
"""

import argparse
from collections import Counter
import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dylora_ros.nodes.process import prepare  # noqa: E402

prepare()

import numpy as np  # noqa: E402

from dylora_ros.core.context import GlobalContext  # noqa: E402
from dylora_ros.core.seal import RowTags, Secret, Sender, Ticket, Verdicts  # noqa: E402
from dylora_ros.modalities import registry  # noqa: E402
from dylora_ros.provenance import provenance, write  # noqa: E402
from dylora_ros.supervisor import Supervisor  # noqa: E402

STATES = 40           # LR states shown in a block
HOLD = 0.12           # s that each is shown: three cycles
BLOCKS = 12           # with attack; as many without
KILLS = (3, 7, 11)    # blocks after which the reward's process is killed, its files forged
NODES = ('global_context', 'reward')


class Person:
    """Who starts the agent and shows it things: the manager's and the senses' part."""

    def __init__(self, schema, seed: int, namespace: str):
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        from dylora_ros.ros import messages
        from dylora_ros.ros.interfaces import TOPICS
        rclpy.init(args=[])
        self.node = rclpy.create_node('person', namespace=namespace)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._messages, self._schema = messages, schema
        rng = np.random.default_rng(seed)
        self.states = rng.standard_normal((STATES, schema.width)).astype(np.float32)
        self._phase = self._voice('phase', TOPICS)
        self._senses = {m: self._voice(f'{m}/x', TOPICS) for m in schema.modalities}
        self._clients: dict = {}
        self._showing = True
        self._thread = threading.Thread(target=self._show, daemon=True)

    def _voice(self, topic, topics):
        return self.node.create_publisher(topics[topic].type, topic, topics[topic].qos)

    def call(self, name: str, kind, request, timeout: float = 5.0):
        """Call a service; None without an answer."""
        if name not in self._clients:        # kept: a first answer may be lost
            self._clients[name] = self.node.create_client(kind, name)
        client = self._clients[name]
        client.wait_for_service(timeout)
        future = client.call_async(request)
        self._executor.spin_until_future_complete(future, timeout)
        return future.result() if future.done() else None

    def state(self, node: str) -> str:
        """Return a node's lifecycle state."""
        from lifecycle_msgs.srv import GetState
        answer = self.call(f'{node}/get_state', GetState, GetState.Request(), 2.0)
        return '' if answer is None else answer.current_state.label

    def parameters(self, node: str) -> list:
        """Return all values of a node's parameters."""
        from rcl_interfaces.srv import GetParameters, ListParameters
        names = sorted(self.call(f'{node}/list_parameters', ListParameters,
                                 ListParameters.Request()).result.names)
        values = self.call(f'{node}/get_parameters', GetParameters,
                           GetParameters.Request(names=names)).values
        return [(n, str(v)) for n, v in zip(names, values, strict=True)]

    def bring_up(self, node: str, timeout: float = 400.0):
        """Configure and activate, as the lifecycle manager does."""
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState
        end = time.monotonic() + timeout
        while time.monotonic() < end and (state := self.state(node)) != 'active':
            number = {'unconfigured': Transition.TRANSITION_CONFIGURE,
                      'inactive': Transition.TRANSITION_ACTIVATE}.get(state)
            if number is not None:
                self.call(f'{node}/change_state', ChangeState, ChangeState.Request(
                    transition=Transition(id=number)), 60.0)
        if self.state(node) != 'active':
            raise RuntimeError(f'{node} did not come up')

    def wake(self):
        """Begin the day; the states are shown from now on."""
        self._phase.publish(self._messages.text_msg('AWAKE'))
        self._thread.start()

    def _show(self):
        k = 0
        while self._showing:
            state = self.states[k % STATES]
            now = self.node.get_clock().now().nanoseconds
            for name, voice in self._senses.items():
                part = state[self._schema.slices[name]].reshape(self._schema.modalities[name])
                voice.publish(self._messages.tensor_msg(part, now, name))
            k += 1
            time.sleep(HOLD)

    def close(self):
        """End."""
        import rclpy
        self._showing = False
        self._thread.join()
        self.node.destroy_node()
        rclpy.try_shutdown()


def judge(weights: Path, statements: Path, schema):
    """Return a judge of untouched files, in this process."""
    from safetensors.torch import load_file

    from dylora_ros.core.reward import Projector, StatementReward, Statements
    from dylora_ros.modalities.text import SentenceEncoder
    projector = Projector.of(load_file(str(weights / 'projector.safetensors')), schema.width,
                             len(schema.modalities))
    return StatementReward.of(projector, Statements.load(statements), SentenceEncoder().embed,
                              0.02)


def verdicts(rows: np.ndarray) -> dict[int, bytes]:
    """Return number of the judged row -> the bits of its reward, as later rows tell."""
    at = {int(s): i for i, s in enumerate(rows['stamp'])}
    return {at[int(r['reward_stamp'])]: r['reward'].tobytes() for r in rows
            if int(r['reward_stamp']) in at}


def compare(rows, forged: set, attacked: list, reference, states: np.ndarray) -> dict:
    """Return how the logged rewards differ from what they must be.

    Args:
        rows: the whole log.
        forged: numbers of rows that another hand has written.
        attacked: (first, last) stamps of the blocks with attack, ns.
        reference: the judge of untouched files.
        states: (k, w) that were shown.

    """
    modalities = np.arange(rows['age'].shape[1])
    honest = np.array([i not in forged for i in range(len(rows))])
    found = verdicts(rows[honest])
    rows = rows[honest]
    known = {s.astype(np.float16).tobytes(): k for k, s in enumerate(states)}
    wrong, series = 0, {False: {}, True: {}}
    count = {False: 0, True: 0}
    for i, bits in found.items():
        row = rows[i]
        value = reference(row['x'].astype(np.float32), int(row['mask']) >> modalities & 1,
                          row['surprise'].astype(np.float32))
        wrong += np.float32(value).tobytes() != bits
        under = any(a <= row['stamp'] <= b for a, b in attacked)
        count[under] += 1
        if row['x'].tobytes() in known and int(row['mask']) == (1 << len(modalities)) - 1:
            series[under].setdefault(known[row['x'].tobytes()], set()).add(bits)
    shared = set(series[False]) & set(series[True])
    return {'rewards_without_attack': count[False], 'rewards_under_attack': count[True],
            'differ_from_the_untouched_judge': int(wrong),
            'states_compared': len(shared),
            'states_judged_differently': sum(series[False][k] != series[True][k]
                                             for k in shared)}


def cost(schema) -> dict:
    """Return what the seal adds to a row, microseconds (median of 2000)."""
    secret = Secret()
    sender, verdict, row = Sender(secret, 'context'), Verdicts(secret), np.zeros((), schema.dtype)
    with tempfile.TemporaryDirectory() as folder, \
            GlobalContext.open(Path(folder) / 'context.gc', schema, 10_000) as log:
        tags = RowTags.create(Path(folder) / 'context.tags', secret, log, False)
        spent = {'tag_of_the_row': [], 'seal_of_the_message': [], 'check_of_the_reward': []}
        for n in range(2000):
            value, stamp = float(np.float32(0.1 * n)), n
            judged = verdict.seal(Ticket(sender.session, n + 1), value, stamp)
            start = time.perf_counter()
            tags.put(n, row)
            put = time.perf_counter()
            sender.seal(row.tobytes())
            sealed = time.perf_counter()
            verdict.open(judged, value, stamp, sender)
            end = time.perf_counter()
            for name, a, b in zip(spent, (start, put, sealed), (put, sealed, end), strict=True):
                spent[name].append(1e6 * (b - a))
        tags.close()
    out = {name: round(float(np.median(times)), 1) for name, times in spent.items()}
    return {**out, 'sum': round(sum(out.values()), 1)}


def audited(folder: Path) -> Counter:
    """Count the lines of the audits by kind."""
    lines = [json.loads(line) for path in sorted((folder / 'seal').glob('*.log'))
             for line in path.read_text().splitlines()]
    return Counter(line['kind'] for line in lines)


def strike(attacker, order: dict) -> dict:
    """Have the attacker do a block of attempts; returns what it tells."""
    attacker.stdin.write(json.dumps(order) + '\n')
    attacker.stdin.flush()
    line = attacker.stdout.readline()
    if not line:
        raise RuntimeError('the attacker died')
    return json.loads(line)


def kill_with_forged_files(supervisor, person, statements: Path, projector: Path):
    """Kill the reward's process while other statements and another projector lie there."""
    kept = statements.read_bytes(), projector.read_bytes()
    statements.write_text('good:\n- I do nothing at all.\n')
    projector.write_bytes(kept[1][:-4] + b'\x7f\x7f\x7f\x7f')
    os.kill(supervisor.running['reward'].pid, signal.SIGKILL)
    time.sleep(0.5)
    while 'reward' not in supervisor.running or supervisor.running['reward'].poll() is not None:
        supervisor.poll()
        time.sleep(0.1)
    person.bring_up('reward')
    time.sleep(2.0)                       # judged with the forged files in place
    statements.write_bytes(kept[0])
    projector.write_bytes(kept[1])


def campaign(options, folder: Path) -> dict:
    """Run all; returns the figures."""
    weights, memory = folder / 'weights', folder / 'memory'
    shutil.copytree(registry.SHIPPED, weights)
    shutil.copytree(registry.SHIPPED, folder / 'untouched')
    for name in ('statements.yaml', 'untouched.yaml'):
        shutil.copy(ROOT / 'config/statements.yaml', folder / name)
    statements, projector = folder / 'statements.yaml', weights / 'projector.safetensors'
    schema = registry.row_schema(2, weights)
    namespace = f'/seal_{os.getpid()}'
    arguments = ['-r', f'__ns:={namespace}']
    for node, name, value in (
            *((n, 'memory', memory) for n in NODES), *((n, 'weights', weights) for n in NODES),
            ('global_context', 'capacity', 100_000), ('global_context', 'window', 50_000),
            ('reward', 'statements', statements)):
        arguments += ['-p', f'{node}:{name}:={value}']
    supervisor = Supervisor({'control': ('global_context',), 'reward': ('reward',)}, arguments,
                            folder / 'log')
    supervisor.start()
    person = Person(schema, options.seed, namespace)
    for node in NODES:
        person.bring_up(node)
    before = {n: person.parameters(n) for n in NODES}
    person.wake()
    attacker = subprocess.Popen(
        [sys.executable, str(ROOT / 'benchmarks/seal_attacks.py'), str(folder),
         str(options.seed), namespace, str(supervisor.running['reward'].pid),
         str(supervisor.running['control'].pid)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    attempts, logged, hidden, blocks = Counter(), Counter(), Counter(), []
    missed: list[str] = []
    written: set[int] = set()
    for block in range(BLOCKS):
        time.sleep(STATES * HOLD)         # without attack
        start = time.time_ns()
        told = strike(attacker, {'attempts': -(-options.attempts // BLOCKS)})
        attempts.update(told['attempts'])
        logged.update(told['logged'])
        hidden.update(told['hidden'])
        missed += told['missed']
        written |= set(told['rows'])
        if block in KILLS:
            events = len(supervisor.events)
            kill_with_forged_files(supervisor, person, statements, projector)
            attempts['kill'] += 1
            logged['kill'] += len(supervisor.events) > events
        blocks.append((start, time.time_ns()))
        supervisor.poll()
        print(f'block {block + 1}/{BLOCKS}: {sum(attempts.values())} attempts, '
              f'{sum(logged.values())} noted', flush=True)
    time.sleep(STATES * HOLD)
    attacker.stdin.close()
    attacker.wait()
    changed = {'parameters': sum(person.parameters(n) != before[n] for n in NODES),
               'lifecycle': sum(person.state(n) != 'active' for n in NODES)}
    time.sleep(1.5)                       # the audits repair themselves once a second
    lines = audited(memory)
    with GlobalContext.read(memory / 'context.gc') as log:
        numbers = np.arange(log.committed)           # it goes on
        rows = log.rows(0, len(numbers))
        tags = RowTags(memory / 'context.tags', supervisor.secret, log)
        withheld = set(numbers[~tags.genuine(rows, numbers)].tolist())
        tags.close()
    person.close()
    supervisor.stop()
    figures = compare(rows, withheld, blocks, judge(folder / 'untouched',
                                                    folder / 'untouched.yaml', schema),
                      person.states)
    changed['rewards'] = figures['differ_from_the_untouched_judge'] \
        + figures['states_judged_differently']
    changed['forged_rows_learned'] = len(written - withheld)
    changed['honest_rows_lost'] = len(withheld - written)
    return {'attempts': sum(attempts.values()), 'attempts_by_kind': dict(sorted(attempts.items())),
            'changed': sum(changed.values()), 'changed_by_kind': changed,
            'logged': sum(logged.values()), 'logged_by_kind': dict(sorted(logged.items())),
            'not_logged': missed[:20], 'audit_lines_by_kind': dict(sorted(lines.items())),
            'looks_for_the_secret': dict(hidden), 'forged_rows_withheld': len(withheld),
            **figures, 'process_events': supervisor.events}


def main():
    """Run; see the module."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--attempts', type=int, default=2400)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            figures = campaign(options, Path(folder))
        except RuntimeError:
            for path in sorted((Path(folder) / 'log').glob('*.log')):
                print(path.name, path.read_text()[-3000:], file=sys.stderr)
            raise
    figures['microseconds_a_row'] = cost(registry.row_schema(2, registry.SHIPPED))
    command = f'python benchmarks/seal.py --attempts {options.attempts} --seed {options.seed}'
    result = {**provenance(command, ('torch', 'numpy', 'ros-rclpy'), seed=options.seed),
              **figures}
    if options.out:
        write(options.out, result)
    print(json.dumps(result))


if __name__ == '__main__':
    main()
