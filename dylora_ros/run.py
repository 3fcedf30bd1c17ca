"""``python -m dylora_ros run``: an agent in simulation, with a terminal view or bounded."""

import argparse
import json
import os
from pathlib import Path
import signal
import sys
import time

from dylora_ros import graph
from dylora_ros.nodes.process import prepare
from dylora_ros.paths import memory_dir, share_file
from dylora_ros.supervisor import Supervisor

_START_LIMIT = 180.0       # s until the agent must be awake (the first time converts weights)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    p = argparse.ArgumentParser(prog='dylora_ros run', description=__doc__)
    p.add_argument('--duration', type=float, metavar='S',
                   help='live this many seconds, counted from the first waking, then end')
    p.add_argument('--headless', action='store_true',
                   help='no terminal view; the last line is a JSON object with all figures')
    p.add_argument('--sleep-after', type=float, metavar='S',
                   help='fall asleep after S seconds awake, with short budgets')
    p.add_argument('--memory', default='', metavar='DIR',
                   help='folder of the agent\'s memory (default: the XDG data folder)')
    p.add_argument('--composed', action='store_true', help='all nodes in one process')
    p.add_argument('--scene', help='world to live in: gaze (default), or nudged (docs/worlds.md)')
    p.add_argument('--params-file', default='', help='YAML of parameters (config/agent.yaml)')
    p.add_argument('--namespace', default='', help='of all nodes')
    p.add_argument('--seed', type=int, help='of the world and of exploration (default: 0)')
    return p


def ros_arguments(options: argparse.Namespace) -> list[str]:
    """Turn the options into what follows ``--ros-args``.

    What was given on the command line wins over the parameter file; what was not is left to it.
    """
    values = []
    if options.scene is not None:
        values.append(('simulator', 'scene', options.scene))
    if options.seed is not None:
        values += [(node, 'seed', options.seed) for node in ('simulator', 'predictor')]
    if options.memory:
        values.append(('/**', 'memory', json.dumps(str(memory_dir(options.memory)))))
    if options.sleep_after:
        values.append(('lifecycle_manager', 'sleep_after', float(options.sleep_after)))
        for node in ('lifecycle_manager', 'predictor'):
            values += [(node, 'rem_seconds', 6.0), (node, 'nrem_seconds', 14.0)]
    out = ['--params-file', options.params_file] if options.params_file else []
    if options.namespace:
        out += ['-r', f'__ns:=/{options.namespace.strip("/")}']
    for node, name, value in values:
        out += ['-p', f'{node}:{name}:={value}']
    return out


class Observer:
    """Ask the monitor and the simulator for their figures, from outside the graph."""

    def __init__(self, namespace: str):
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.signals import SignalHandlerOptions
        from std_srvs.srv import Trigger
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        self._type = Trigger
        self.node = rclpy.create_node('dylora_observer', namespace=namespace)
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self._clients = {n: self.node.create_client(Trigger, f'{n}/report')
                         for n in ('monitor', 'simulator')}

    def ask(self, name: str, timeout: float = 1.0) -> dict:
        """Return a node's report, empty where it gives none in time."""
        client = self._clients[name]
        if not client.service_is_ready():
            self.executor.spin_once(timeout_sec=min(timeout, 0.2))
            return {}
        future = client.call_async(self._type.Request())
        self.executor.spin_until_future_complete(future, timeout)
        if not future.done():
            client.remove_pending_request(future)
            return {}
        return json.loads(future.result().message)

    def neighbour(self, seconds: float = 1.0) -> bool:
        """Look for a moment whether an agent lives in this namespace already."""
        end, own = time.monotonic() + seconds, self.node.get_namespace()
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.1)
            if ('lifecycle_manager', own) in self.node.get_node_names_and_namespaces():
                return True
        return False

    def nodes(self) -> list[str]:
        """Return the names of the agent's nodes seen."""
        return sorted(n for n, _ in self.node.get_node_names_and_namespaces() if n in graph.NODES)

    def close(self):
        """Leave the graph."""
        import rclpy
        self.node.destroy_node()
        rclpy.try_shutdown()


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit code."""
    options = parser().parse_args(arguments)
    prepare()
    from dylora_ros.ros.parameters import overrides, ParameterError
    arguments = ros_arguments(options)
    try:
        given = overrides(arguments, graph.tables())[1]
    except ParameterError as error:
        print(error, file=sys.stderr)
        return 2
    memory = memory_dir(given.get('global_context', {}).get('memory', ''))
    window = not options.headless and os.environ.get('DISPLAY')
    if window and 'viewer' not in given.get('simulator', {}):
        arguments += ['-p', 'simulator:viewer:=true']
    try:
        memory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f'cannot make the memory folder {memory}: {error}; give another with --memory',
              file=sys.stderr)
        return 2
    view = not options.headless and sys.stdout.isatty()
    supervisor = Supervisor(graph.processes(composed=options.composed),
                            arguments, memory / 'log' if view else None)
    stop = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.append(True))
    observer = Observer(options.namespace)
    if observer.neighbour():
        observer.close()
        print('another agent lives here already, and would be mixed with this one; stop it, or '
              'give this one a --namespace and a --memory of its own', file=sys.stderr)
        return 2
    supervisor.start()
    started = time.monotonic()
    live = _View(memory, options) if view else None
    try:
        report, seen, awake_at, cpu_at = {}, [], None, 0.0
        while not stop:
            time.sleep(0.05 if view else 0.2)
            supervisor.poll()
            answer = observer.ask('monitor')
            report = answer or report
            seen = sorted(set(seen) | set(observer.nodes()))
            now = time.monotonic()
            if awake_at is None and report.get('cycles'):
                awake_at, cpu_at = now, supervisor.cpu_seconds
                first_row = now - started
            if live:
                live.show(report, supervisor, now - started)
            if awake_at is None and now - started > _START_LIMIT:
                print(f'the agent did not wake within {_START_LIMIT:.0f} s; its log says why',
                      file=sys.stderr)
                return 1
            if {'agent', 'control', 'manager', 'world'} & set(supervisor.dead_for_good):
                print('; '.join(supervisor.events), file=sys.stderr)
                return 1
            if awake_at and options.duration and now - awake_at >= options.duration:
                break
        world = observer.ask('simulator', 2.0)
        report = observer.ask('monitor', 2.0) or report
        lived = time.monotonic() - awake_at if awake_at else 0.0
        figures = {**{k: v for k, v in report.items() if not k.endswith('_now')},
                   'real_time_factor': round(world.get('real_time_factor', 0.0), 4),
                   'task_success': round(world.get('success', 0.0), 4),
                   'nodes': seen,
                   'start_to_first_row_s': round(first_row, 1) if awake_at else None,
                   'cpu_cores': round((supervisor.cpu_seconds - cpu_at) / max(lived, 1e-6), 3),
                   'rss_mb': round(supervisor.peak_rss / 2**20, 1),
                   'process_events': supervisor.events, 'memory': str(memory)}
    finally:
        if live:
            live.close()
        supervisor.stop()
        observer.close()
    if not view:
        print(json.dumps(figures), flush=True)
    else:
        print(f'The agent sleeps on disk in {memory}; the next run goes on from there.')
    return 0


class _View:
    """The live terminal view."""

    def __init__(self, memory: Path, options):
        from rich.console import Console
        from rich.live import Live
        self._memory = memory
        self._last = 0.0
        namespace = f'/{options.namespace.strip("/")}' if options.namespace else ''
        self._hints = '\n'.join((
            f'Memory:       {memory}   Logs: {memory / "log"}',
            f'Richer views: rviz2 -d {share_file("config/agent.rviz")}',
            f'              ros2 topic echo {namespace}/reward',
            '              .venv/bin/python -m dylora_ros dashboard out.png',
            f'Talk to it:   ros2 topic pub --once {namespace}/text/words std_msgs/msg/String '
            '"data: the red ball"',
            f'To bed:       ros2 service call {namespace}/lifecycle_manager/sleep '
            'std_srvs/srv/Trigger',
            'The end:      Ctrl-C'))
        self._live = Live(console=Console(), refresh_per_second=4, transient=False)
        self._live.start()

    def show(self, report: dict, supervisor: Supervisor, seconds: float):
        """Redraw at most twice a second."""
        if seconds - self._last < 0.5:
            return
        self._last = seconds
        self._live.update(render(report, supervisor.events, seconds, self._hints))

    def close(self):
        """Leave the last view on the screen."""
        self._live.stop()


def render(report: dict, events: list[str], seconds: float, hints: str):
    """Return the terminal view of a report as a rich renderable."""
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text
    phase = report.get('phase', 'starting')
    colour = {'AWAKE': 'green', 'REM': 'magenta', 'NREM': 'blue'}.get(phase, 'red')
    table = Table.grid(padding=(0, 2))
    table.add_column(style='dim', justify='right')
    table.add_column()

    def number(value, fmt='.3f'):
        return '-' if value is None else format(value, fmt)

    table.add_row('phase', Text(phase, style=f'bold {colour}'))
    cycle, sensor = report.get('cycle_ms') or {}, report.get('sensor_to_command_ms') or {}
    table.add_row('cycles', f'{report.get("hz_now", 0):.1f} Hz   late '
                  f'{100 * report.get("deadline_miss_fraction", 0):.2f} %   cycle p50 '
                  f'{number(cycle.get("p50"), ".1f")} p99 {number(cycle.get("p99"), ".1f")} ms   '
                  f'sensor to command p99 {number(sensor.get("p99"), ".0f")} ms')
    table.add_row('context', f'{report.get("rows", 0)} rows this life   '
                  f'{100 * report.get("context_fill", 0):.2f} % full   tired '
                  f'{100 * report.get("tiredness", 0):.1f} %')
    table.add_row('reward', f'{number(report.get("reward_now"), "+.3f")}   happiness '
                  f'{number(report.get("value_now"), "+.3f")}')
    now = report.get('surprise_now') or {}
    table.add_row('surprise', '   '.join(f'{k} {number(v, ".2f")}' for k, v in now.items())
                  or '-')
    if phase in ('REM', 'NREM'):
        sleep = report['sleep']
        filled = int(24 * sleep['progress'])
        table.add_row('sleep', Text(f'{"█" * filled}{"░" * (24 - filled)} '
                                    f'{sleep["time_left"]:.0f} s left', style=colour))
    for done in (report.get('sleep_reports') or [])[-2:]:
        if done.get('after') is not None:
            loss = f'{done["before"]:.4f} -> {done["after"]:.4f}' if done['steps'] else \
                f'{done["before"]:.4f} (q rests until more was lived)'
            table.add_row('learned', f'next-state loss {loss} on held-out rows '
                          f'({done["rows"]} rows)')
            will = done.get('will') or {}
            if will.get('after') is not None:
                table.add_row('wishes', f'value error {will["before"]:.4f} -> '
                              f'{will["after"]:.4f}, happiness {will["value"]:+.3f}'
                              + ('' if will['kept'] else ', not kept'))
        elif 'cycles' in done:
            table.add_row('dreamt', f'{done["cycles"]} cycles in {done["episodes"]} dreams')
        elif 'error' in done:
            table.add_row('sleep', Text(done['error'], style='red'))
    for event in events[-2:]:
        table.add_row('event', Text(event, style='yellow'))
    table.add_row('', Text(hints, style='dim'))
    return Panel(table, title=f'dylora_ros  {seconds:.0f} s  pid {os.getpid()}',
                 border_style=colour)
