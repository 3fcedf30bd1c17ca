"""Lifecycle manager: owns the phase and drives every node's lifecycle to fit it."""

import datetime
import time

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from std_srvs.srv import Trigger

from dylora_ros.core.phases import OPTIONAL_NODES, Phase, PHASE_NODES, PhaseError, plan
from dylora_ros.graph import PROCESSES
from dylora_ros.nodes.sense import MEMORY
from dylora_ros.paths import memory_dir
from dylora_ros.ros import messages
from dylora_ros.ros.calls import Caller
from dylora_ros.ros.node import AgentNode
from dylora_ros.ros.parameters import Param
from dylora_ros.wish import Wish

_WORLD = 'simulator'
_CONFIGURE_TIMEOUT = 120.0    # loading weights may take long, converting them once longer
_TIMEOUT = 8.0
_DROWSY = 2.0                  # s after waking; what was said of tiredness asleep is still heard
_ROUSED = 60.0                # s that a tired agent stays awake when somebody woke it
_GRACE = 30.0                 # s beyond a sleep phase's own budget


class LifecycleManagerNode(AgentNode):
    """Bring the agent up, let it sleep and wake, and make it safe when a node is lost."""

    NAME = 'lifecycle_manager'
    DOC = 'Owns the phase; drives lifecycle transitions; makes the agent safe.'
    PARAMETERS = (
        Param('nodes', ['simulator', *PHASE_NODES[Phase.AWAKE]], 'Nodes to manage.'),
        Param('hardware', False, 'The body is real: there is no simulator to manage.'),
        Param('autostart', True, 'Bring the agent up and wake it at start. A manager that was '
              'lost and comes again goes on with what was last asked for.'),
        Param('sleep_after', 0.0, 'Fall asleep after this many seconds awake; 0: only when '
              'tired, scheduled or asked.', 0.0, 1e6),
        Param('sleep_at', '', 'Time of day to fall asleep, HH:MM; empty: none.'),
        Param('recovery_seconds', 30.0, 'How long to wait for a lost node to come back.',
              0.0, 600.0),
        Param('rem_seconds', 60.0, 'Budget of REM (as the predictor has it), s.', 0.0, 36000.0),
        Param('nrem_seconds', 300.0, 'Budget of NREM (as the predictor has it), s.',
              0.0, 36000.0),
        MEMORY)
    PUBLISHES = ('phase', 'diagnostics')
    SUBSCRIBES = ('sleep/report', 'context/tiredness')
    SERVICES = {'~/start': 'Trigger: bring the agent up.', '~/sleep': 'Trigger: REM, then NREM.',
                '~/wake': 'Trigger: end the sleep, or leave SAFE.',
                '~/stop': 'Trigger: go SAFE; actuators and senses are deactivated.'}

    def setup(self):
        """Prepare clients, services and watches."""
        self.present: set[str] = set()
        self.lost: set[str] = set()
        self.failed: dict[str, str] = {}
        self._came_up = False            # once: what goes SAFE then is recovered
        self._vain = ''                  # why the last sleep brought nothing
        self._busy = False
        self._losses = 0
        self._goal: Phase | None = None
        self._stopped = False            # somebody wants it SAFE: no loss may wake it
        self._roused = False             # somebody wants it awake, tired or not
        self._bedtime = time_of_day(self.values['sleep_at'])
        self._nodes = tuple(n for n in self.values['nodes']
                            if not (n == _WORLD and self.values['hardware']))
        if not getattr(self, '_clients_made', False):
            self._clients_made = True
            self._caller = Caller(self)
            self._get = {n: self.create_client(GetState, f'{n}/get_state',
                                               callback_group=self.reentrant)
                         for n in self._nodes}
            self._change = {n: self.create_client(ChangeState, f'{n}/change_state',
                                                  callback_group=self.reentrant)
                            for n in self._nodes}
            for name, goal in (('start', Phase.AWAKE), ('sleep', Phase.REM),
                               ('wake', Phase.AWAKE), ('stop', Phase.SAFE)):
                self.create_service(Trigger, f'~/{name}',
                                    lambda _, r, g=goal: self._ask(g, r))
        for node in self._nodes:
            self.watch(node, self._on_lost, self._on_back)

    def start(self):
        """Begin; with autostart the agent wakes as soon as its nodes are there."""
        self._since = time.monotonic()
        self._slept_today = ''
        self._report: dict | None = None
        self._kept_wish = Wish(memory_dir(self.values['memory']))
        wish = self._kept_wish.read()
        self._stopped = wish is False
        if wish is not None:
            self.get_logger().info('what was asked for holds: ' + (
                'awake' if wish else 'stopped; call ~/start'))
        self._goal = Phase.AWAKE if (self.values['autostart'] if wish is None else wish) else None
        self.publish('phase', messages.text_msg(self.phase.name))
        self.listen('sleep/report', self._on_report)
        self.listen('context/tiredness', self._on_tired)
        self._living.append(self.create_timer(0.1, self._step, clock=self._steady,
                                              callback_group=self.reentrant))
        self.every(1.0, self._diagnose)

    # -- what happens --------------------------------------------------------------------------
    def _ask(self, goal: Phase, response):
        here = self.phase
        try:
            if goal != here:
                plan(here, goal, frozenset(self._nodes))
            response.success, response.message = True, f'{here.name} -> {goal.name}'
            self._goal, self._stopped = goal, goal == Phase.SAFE
            self._roused = goal == Phase.AWAKE and here in (Phase.REM, Phase.NREM)
            self._keep_wish()
            if here == Phase.SAFE and goal == Phase.AWAKE:
                self.failed.clear()      # all are brought up: what kept one away may be mended
        except PhaseError as error:
            response.success, response.message = False, str(error)
        return response

    def _keep_wish(self):
        try:
            self._kept_wish.set(not self._stopped)
        except OSError as error:
            self.get_logger().error(f'what was asked for could not be written down: {error}; a '
                                    'manager that comes again will not know it')

    def _on_lost(self, node: str):
        if node in self.lost or node not in self.present:
            return
        self.lost.add(node)
        self._losses += 1
        self.get_logger().error(f'lost {node}: no heartbeat')
        if node != _WORLD or self.phase == Phase.AWAKE:
            # what is lost may have been holding the loop: nothing moves until it is clear again
            self._make_safe(f'lost {node}')

    def _on_back(self, node: str):
        if node in self.lost:
            self.lost.discard(node)
            self.failed.pop(node, None)

    def _on_report(self, message):
        report = messages.report(message)
        if report.get('phase') == self.phase.name:
            self._report = report
            self._vain = str(report.get('error', ''))
            if self._vain:
                self.get_logger().error(f'{self.phase.name} brought nothing: {self._vain}')

    def _on_tired(self, message):
        rest = _ROUSED if self._roused else _DROWSY
        awake = self.phase == Phase.AWAKE and time.monotonic() - self._since > rest
        if message.data >= 1.0 and awake and self._goal is None:
            self.get_logger().info('tired')
            self._goal = Phase.REM

    def _make_safe(self, why: str):
        """Go SAFE for a fault, and wake from there unless somebody wants it to stay."""
        self._set_phase(Phase.SAFE, why)
        self._goal = None if self._stopped else Phase.AWAKE

    def _set_phase(self, phase: Phase, why: str = ''):
        if phase == self.phase:
            return
        self.get_logger().info(f'{self.phase.name} -> {phase.name}' + (f' ({why})' if why else ''))
        self._came_up = True
        if self.phase == Phase.AWAKE:
            self._roused = False         # it counts for one time awake
        self.phase = phase
        self._since = time.monotonic()
        self._report = None
        self.publish('phase', messages.text_msg(phase.name))

    async def _step(self):
        """Move one step towards the goal; one at a time."""
        if self._busy:
            return
        self._busy = True
        try:
            self._wish()
            if self._goal is not None and self._goal != self.phase:
                goal = self._goal
                if await self._go(goal) and self._goal == goal:
                    self._goal = None
            else:
                self._goal = None
        finally:
            self._busy = False

    def _wish(self):
        """Set the goal that time or a finished sleep phase asks for."""
        awake = time.monotonic() - self._since
        after = self.values['sleep_after']
        if self._goal is not None:
            return
        if self.phase == Phase.AWAKE:
            now = datetime.datetime.now()
            today, clock = now.date().isoformat(), (now.hour, now.minute)
            if after and awake >= after:
                self._goal = Phase.REM
            elif clock == self._bedtime and self._slept_today != today:
                self._slept_today = today
                self._goal = Phase.REM
        elif self.phase in (Phase.REM, Phase.NREM):
            following = Phase.NREM if self.phase == Phase.REM else Phase.AWAKE
            budget = self.values[f'{self.phase.name.lower()}_seconds'] + _GRACE
            if self._report is not None:
                self._goal = following
            elif awake > budget:
                self.get_logger().warning(f'{self.phase.name} gave no report in {budget:.0f} s')
                self._goal = following

    # -- transitions ---------------------------------------------------------------------------
    async def _go(self, goal: Phase) -> bool:
        """Drive every node to fit the goal; SAFE on failure."""
        source, losses = self.phase, self._losses
        if source == Phase.SAFE and goal == Phase.AWAKE and not await self._bring_up():
            return False
        if goal == Phase.AWAKE and not await self._world_is_up():
            return self._fail(_WORLD, 'activate')
        steps = plan(source, goal, frozenset(self.present))
        if source == Phase.AWAKE:
            self._set_phase(goal)         # the actuator stops on this word already
        for node in steps.deactivate:
            if not await self._drive(node, State.PRIMARY_STATE_INACTIVE):
                return self._fail(node, 'deactivate')
        for node in steps.activate:
            if self._goal != goal:        # something else was asked for meanwhile
                return False
            if not await self._drive(node, State.PRIMARY_STATE_ACTIVE):
                if node not in OPTIONAL_NODES:
                    return self._fail(node, 'activate')
                self._without(node, 'could not be activated')
        if self._losses != losses or self._goal != goal:
            return False         # a node was lost (the agent is SAFE now), or another goal set
        self._set_phase(goal)
        return True

    async def _bring_up(self) -> bool:
        """Configure every node; critical ones must come, others are done without."""
        patience = self.values['recovery_seconds'] if self._came_up else _CONFIGURE_TIMEOUT
        if self._came_up:     # senses and joints down first, whatever they think they are
            for node in reversed(PHASE_NODES[Phase.AWAKE]):
                if node in self.present and node not in PHASE_NODES[Phase.SAFE]:
                    await self._drive(node, State.PRIMARY_STATE_INACTIVE, quick=True)
        # processes load at the same time, the nodes of one process one after the other
        groups = [[n for n in nodes if n in self._nodes and n not in self.failed]
                  for nodes in PROCESSES.values()]
        tasks = [self.executor.create_task(self._configure_all(group, patience))
                 for group in groups if group]
        came: set[str] = set()    # present once all have come: who loads weights is silent
        for task in tasks:
            came |= await task
        missing = [n for n in self._nodes if n not in came and n not in OPTIONAL_NODES]
        if missing:
            self.get_logger().error(f'{", ".join(missing)} did not come up; the agent stays SAFE',
                                    throttle_duration_sec=5.0)
            return False
        self.lost -= came
        self.present |= came
        return True

    async def _world_is_up(self) -> bool:
        """Let the world run; one that was lost while the agent slept is brought back for that."""
        return _WORLD not in self.present or (
            await self._configure(_WORLD, self.values['recovery_seconds'])
            and await self._drive(_WORLD, State.PRIMARY_STATE_ACTIVE))

    async def _configure_all(self, nodes: list[str], patience: float) -> set[str]:
        """Configure nodes in order; return those that are up. Optional ones are done without."""
        came = set()
        for node in nodes:
            if await self._configure(node, patience):
                came.add(node)
            elif node in OPTIONAL_NODES:
                self._without(node, self.failed.get(node, 'is not there'))
        return came

    async def _configure(self, node: str, patience: float) -> bool:
        end = time.monotonic() + patience
        while True:                      # it is asked once at least
            state = await self._state(node, 1.0)
            if state == State.PRIMARY_STATE_UNCONFIGURED:
                if await self._transition(node, Transition.TRANSITION_CONFIGURE,
                                          State.PRIMARY_STATE_INACTIVE, _CONFIGURE_TIMEOUT):
                    return True
                self.failed[node] = 'could not be configured (its log says why)'
                return False
            if state in (State.PRIMARY_STATE_INACTIVE, State.PRIMARY_STATE_ACTIVE):
                return True
            if time.monotonic() >= end:
                return False

    def _without(self, node: str, why: str):
        self.failed[node] = why
        self.present.discard(node)
        self.get_logger().warning(f'{node} {why}: the agent lives on without it')

    def _fail(self, node: str, step: str) -> bool:
        self.get_logger().error(f'{node}: {step} failed; going SAFE')
        self._make_safe(f'{node} {step} failed')
        return False

    async def _drive(self, node: str, wanted: int, quick: bool = False) -> bool:
        """Activate or deactivate a node and verify its state."""
        timeout = 1.0 if quick else _TIMEOUT
        state = await self._state(node, timeout)
        if state == wanted:
            return True
        if wanted == State.PRIMARY_STATE_INACTIVE and state != State.PRIMARY_STATE_ACTIVE:
            return state is not None or node in self.lost    # nothing of it is up
        transition = Transition.TRANSITION_ACTIVATE if wanted == State.PRIMARY_STATE_ACTIVE \
            else Transition.TRANSITION_DEACTIVATE
        return await self._transition(node, transition, wanted, timeout)

    async def _state(self, node: str, timeout: float) -> int | None:
        response = await self._caller.call(self._get[node], GetState.Request(), timeout,
                                           again=1.0)
        return None if response is None else response.current_state.id

    async def _transition(self, node: str, transition: int, wanted: int, timeout: float) -> bool:
        """Ask for a transition and verify the state that it leads to.

        A response can be lost when the two have only just found each other, so the state is asked
        for as well while we wait.
        """
        request = ChangeState.Request(transition=Transition(id=transition))
        answer = self.executor.create_task(
            self._caller.call(self._change[node], request, timeout))
        while not answer.done():
            await self._caller.pause(0.1)
            if not answer.done() and await self._state(node, 1.0) == wanted:
                return True
        return await self._state(node, timeout) == wanted

    def _diagnose(self):
        level = messages.OK if self.phase != Phase.SAFE else messages.ERROR
        if level == messages.OK and (self.failed or self.lost or self._vain):
            level = messages.WARN
        entry = ('lifecycle_manager: phase', level, self.phase.name,
                 {'lost': ', '.join(sorted(self.lost)), 'last sleep': self._vain, **self.failed,
                  'seconds in phase': f'{time.monotonic() - self._since:.1f}'})
        self.publish('diagnostics', messages.diagnostics_msg([entry], self.now()))


def time_of_day(text: str) -> tuple[int, int] | None:
    """Read HH:MM; None where there is none.

    Raises:
        ValueError: it is no time of day.

    """
    if not text:
        return None
    try:
        found = datetime.datetime.strptime(text, '%H:%M')
    except ValueError as error:
        raise ValueError(f'sleep_at is {text!r}, expected a time of day such as 22:30') from error
    return found.hour, found.minute
