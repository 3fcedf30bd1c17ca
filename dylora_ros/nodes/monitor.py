"""Monitor node: measures the agent and shows it (dashboard, markers, diagnostics, report)."""

from collections import deque
import json
import time

import numpy as np
from std_srvs.srv import Trigger

from dylora_ros.core.context import FLAG_DREAM, FLAG_LATE
from dylora_ros.core.phases import Phase
from dylora_ros.core.spread import Spread
from dylora_ros.modalities import registry
from dylora_ros.nodes.actuator import JOINTS, RATE
from dylora_ros.nodes.sense import WEIGHTS, weights_dir
from dylora_ros.ros import messages
from dylora_ros.ros.dashboard import draw, View
from dylora_ros.ros.interfaces import MODALITIES
from dylora_ros.ros.markers import MarkerFactory
from dylora_ros.ros.node import AgentNode
from dylora_ros.ros.parameters import Param

_CURVE = 280
_SILENT = 2.0         # s awake without a row, which is many cycles


class MonitorNode(AgentNode):
    """Watch. Every figure is computed from what the nodes really sent."""

    NAME = 'monitor'
    DOC = 'Measures the agent; dashboard, rviz markers, diagnostics.'
    PARAMETERS = (
        RATE, JOINTS, WEIGHTS,
        Param('dashboard_rate', 2.0, 'Dashboard pictures a second, Hz.', 0.1, 25.0))
    PUBLISHES = ('dashboard', 'markers', 'diagnostics')
    SUBSCRIBES = ('context/row', 'body/applied', 'phase', 'reward', 'value', 'context/fill',
                  'context/tiredness', 'sleep/progress', 'sleep/time_left', 'sleep/report',
                  'dream/image', 'vision/expected', 'camera/image_raw')
    SERVICES = {'~/report': 'Trigger: all measured figures of this life, JSON.'}

    def setup(self):
        """Make the counters."""
        schema = registry.row_schema(len(self.values['joints']),
                                     weights_dir(self.values['weights']))
        self.schema = schema
        self.view = View(surprise={m: [] for m in MODALITIES},
                         heat=np.zeros((schema.width, 250), np.float32))
        self._cycle_ms, self._sensor_ms = Spread(), Spread()
        self._late = self._awake_rows = self._rows = self._dreams = 0
        self._phases = {p.name.lower(): 0.0 for p in Phase}
        self._transitions: list[dict] = []
        self._reports: list[dict] = []
        self._surprise = {m: [0.0, 0] for m in MODALITIES}
        self._reward = [0.0, 0]
        self._recent: deque = deque(maxlen=50)        # stamps of awake rows
        self._heard_at = time.monotonic()             # of the newest row, or of the phase
        self._gaps = [0.0, 0]                         # seconds awake, cycles in them
        self._newest_ms: deque = deque(maxlen=50)
        self._waiting: dict[int, float] = {}
        self._first_row = None
        self._born = time.monotonic()
        self._since = time.monotonic()
        self.markers = MarkerFactory()
        if not getattr(self, '_service', None):
            self._service = self.create_service(Trigger, '~/report', self._on_report_asked)

    def start(self):
        """Listen to everything that is shown."""
        self.follow_phase(self._on_phase)
        self.listen('context/row', self._on_row)
        self.listen('body/applied', self._on_applied)
        view = self.view

        def keep(name):
            return lambda m: setattr(view, name, float(m.data))

        self.listen('reward', self._on_reward)
        self.listen('value', lambda m: self._push(view.value, m.data))
        self.listen('context/fill', keep('fill'))
        self.listen('context/tiredness', keep('tiredness'))
        self.listen('sleep/progress', keep('progress'))
        self.listen('sleep/time_left', keep('time_left'))
        self.listen('sleep/report', self._on_sleep_report)
        self.listen('dream/image', lambda m: setattr(view, 'dream', messages.rgb(m)))
        self.every(1 / self.values['dashboard_rate'], self._show)
        self.every(0.25, self._show_markers)
        self.every(1.0, self._diagnose)
        self._pictures: list = []

    def stop(self):
        """Account for the running phase."""
        self._count_phase()

    # -- what comes in -------------------------------------------------------------------------
    @staticmethod
    def _push(values: list, value: float):
        values.append(float(value))
        del values[:-_CURVE]

    def _count_phase(self):
        now = time.monotonic()
        if getattr(self, '_phases', None) is not None:
            self._phases[self.view.phase.lower()] += now - self._since
            self._since = now

    def _on_phase(self, phase: Phase):
        if phase.name == self.view.phase:
            return
        self._count_phase()
        self._transitions.append({'t': round(time.monotonic() - self._born, 2),
                                  'from': self.view.phase, 'to': phase.name})
        self.view.phase = phase.name
        self._recent.clear()
        self._heard_at = time.monotonic()
        self._last_row = None

    _last_row = None

    def _on_row(self, message):
        row = messages.row(message, self.schema.dtype)
        self._heard_at = time.monotonic()
        self._rows += 1
        self.view.rows += 1
        self.view.heat = np.roll(self.view.heat, -1, 1)
        self.view.heat[:, -1] = row['x']
        if row['flags'] & FLAG_DREAM:
            self._dreams += 1
            return
        if self._first_row is None:
            self._first_row = time.monotonic() - self._born
        self._awake_rows += 1
        self._late += bool(row['flags'] & FLAG_LATE)
        stamp = int(row['stamp'])
        if self._last_row is not None:
            self._gaps[0] += (stamp - self._last_row) * 1e-9
            self._gaps[1] += 1
        self._last_row = stamp
        self._recent.append(stamp)
        mask = int(row['mask'])
        present = [i for i in range(len(MODALITIES)) if mask >> i & 1]
        for i in present:
            value = float(row['surprise'][i])
            total = self._surprise[MODALITIES[i]]
            total[0] += value
            total[1] += 1
            self._push(self.view.surprise[MODALITIES[i]], value)
        applied = self._waiting.pop(stamp, None)
        if applied is not None and present:
            newest = min(float(row['age'][i]) for i in present)
            self._sensor_ms.add(1e3 * newest + applied)

    def _on_applied(self, message):
        spent = float(messages.tensor(message)[0, -1])
        self._cycle_ms.add(spent)
        self._newest_ms.append(spent)
        self._waiting[messages.stamp_ns(message)] = spent
        while len(self._waiting) > 50:
            self._waiting.pop(next(iter(self._waiting)))

    def _on_reward(self, message):
        self._reward[0] += message.data
        self._reward[1] += 1
        self._push(self.view.reward, message.data)

    def _on_sleep_report(self, message):
        report = messages.report(message)
        self._reports.append(report)
        if report.get('phase') == 'NREM' and report.get('after') is not None:
            self.view.report = (f'last sleep: next-state loss {report["before"]:.4f} -> '
                                f'{report["after"]:.4f} on held-out rows')
            will = report.get('will') or {}
            if will.get('after') is not None:
                self.view.report = (f'last sleep: q {report["before"]:.4f} -> '
                                    f'{report["after"]:.4f}, will {will["before"]:.4f} -> '
                                    f'{will["after"]:.4f} (held-out)')

    # -- what goes out -------------------------------------------------------------------------
    def hz(self) -> float:
        """Return the rate of the newest cycles."""
        if len(self._recent) < 2:
            return 0.0
        return (len(self._recent) - 1) / max(1e-6, (self._recent[-1] - self._recent[0]) * 1e-9)

    def report(self) -> dict:
        """Return all figures of this life."""
        self._count_phase()

        def mean(pair):
            return round(pair[0] / pair[1], 4) if pair[1] else None

        seconds, cycles = self._gaps
        return {
            'phase': self.view.phase, 'cycles': self._awake_rows,
            'hz': round(cycles / seconds, 3) if seconds else 0.0, 'hz_now': round(self.hz(), 2),
            'cycle_ms': self._cycle_ms.summary(),
            'sensor_to_command_ms': self._sensor_ms.summary(),
            'deadline_miss_fraction': round(self._late / max(1, self._awake_rows), 5),
            'rows': self._rows, 'dreamt_rows': self._dreams,
            'first_row_s': self._first_row and round(self._first_row, 2),
            'phases': {k: round(v, 2) for k, v in self._phases.items()},
            'transitions': self._transitions, 'sleep_reports': self._reports,
            'surprise': {m: mean(p) for m, p in self._surprise.items()},
            'surprise_now': {m: (v[-1] if v else None) for m, v in self.view.surprise.items()},
            'reward': mean(self._reward),
            'reward_now': self.view.reward[-1] if self.view.reward else None,
            'value_now': self.view.value[-1] if self.view.value else None,
            'context_fill': self.view.fill, 'tiredness': self.view.tiredness,
            'sleep': {'progress': self.view.progress, 'time_left': self.view.time_left}}

    def _on_report_asked(self, _, response):
        response.success, response.message = True, json.dumps(self.report())
        return response

    def _show(self):
        """Draw for whoever looks; pictures are only received while somebody does."""
        watching = self.wanted('dashboard')
        if watching and not self._pictures:
            before = len(self._living)
            self.listen('camera/image_raw', lambda m: setattr(
                self.view, 'camera', messages.rgb(m)))
            self.listen('vision/expected', lambda m: setattr(
                self.view, 'expected', messages.rgb(m)))
            self._pictures = self._living[before:]
        elif not watching and self._pictures:
            for subscription in self._pictures:
                self._living.remove(subscription)
                self.destroy_subscription(subscription)
            self._pictures = []
        if watching:
            self._fill_view()
            self.publish('dashboard', messages.rgb_msg(draw(self.view), self.now(), 'monitor'))

    def _fill_view(self):
        self.view.hz = self.hz()
        self.view.misses = self._late / max(1, self._awake_rows)
        self.view.cycle_ms = float(np.mean(self._newest_ms)) if self._newest_ms else 0.0

    def _show_markers(self):
        if self.wanted('markers'):
            self._fill_view()
            self.publish('markers', self.markers.make(self.view, self.now()))

    def _diagnose(self):
        figures = self.report()
        awake = self.view.phase == Phase.AWAKE.name
        slow = awake and len(self._recent) > 25 and self.hz() < 0.9 * self.values['rate']
        silent = awake and time.monotonic() - self._heard_at > _SILENT
        level = messages.WARN if slow or silent else messages.OK
        word = 'awake, but no cycles' if silent else 'slow' if slow else 'as planned'
        cycle = ('monitor: cycle', level, word,
                 {'hz': figures['hz_now'], 'late': figures['deadline_miss_fraction'],
                  'cycle p99 ms': figures['cycle_ms']['p99'], 'rows': figures['rows']})
        context = ('global_context: log', messages.OK, f'{100 * self.view.fill:.2f} % full',
                   {'tiredness': round(self.view.tiredness, 4)})
        self.publish('diagnostics', messages.diagnostics_msg([cycle, context], self.now()))
