"""The lifecycle manager over real nodes on one executor."""

import pytest

pytest.importorskip('rclpy')

from lifecycle_msgs.srv import GetState  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from dylora_ros.nodes.actuator import ActuatorNode  # noqa: E402
from dylora_ros.nodes.lifecycle_manager import LifecycleManagerNode  # noqa: E402
from dylora_ros.nodes.monitor import MonitorNode  # noqa: E402
from dylora_ros.wish import RUN  # noqa: E402


class Crew:
    """A manager, and the nodes it manages."""

    def __init__(self, bench, nodes, **parameters):
        self.bench = bench
        self.phases = bench.hear('phase')
        parameters.setdefault('autostart', False)
        self.manager = bench.up(LifecycleManagerNode, nodes=list(nodes), **parameters)

    @property
    def phase(self):
        return self.phases[-1].data if self.phases else None

    def tell(self, verb):
        return self.bench.ask(f'lifecycle_manager/{verb}', Trigger)

    def state(self, node):
        return self.bench.ask(f'{node}/get_state', GetState).current_state.label

    def reaches(self, phase, timeout=15.0):
        return self.bench.spin_until(lambda: self.phase == phase, timeout)


@pytest.fixture
def crew(bench):
    """Return an agent of an actuator and a monitor, awake."""
    bench.make(ActuatorNode)
    bench.make(MonitorNode)
    out = Crew(bench, ['monitor', 'actuator'])
    assert out.tell('start').success
    assert out.reaches('AWAKE')
    return out


def test_nothing_moves_before_it_is_started(bench):
    bench.make(ActuatorNode)
    crew = Crew(bench, ['actuator'])
    bench.spin(0.5)
    assert crew.phase == 'SAFE'
    assert crew.state('actuator') == 'unconfigured'


def test_autostart_wakes_the_agent(bench):
    bench.make(ActuatorNode)
    crew = Crew(bench, ['actuator'], autostart=True)
    assert crew.reaches('AWAKE')
    assert crew.state('actuator') == 'active'


def test_sleep_deactivates_the_actuator_and_keeps_the_rest(crew):
    assert crew.tell('sleep').success
    assert crew.reaches('REM')
    assert crew.bench.spin_until(lambda: crew.state('actuator') == 'inactive')
    assert crew.state('monitor') == 'active'


def test_wake_activates_it_again(crew):
    crew.tell('sleep')
    assert crew.reaches('REM')
    assert crew.tell('wake').success
    assert crew.reaches('AWAKE')
    assert crew.state('actuator') == 'active'


def test_stop_makes_the_agent_safe(crew):
    assert crew.tell('stop').success
    assert crew.reaches('SAFE')
    assert crew.bench.spin_until(lambda: crew.state('actuator') == 'inactive')


def test_impossible_transition_is_refused_with_the_ways_there_are(crew):
    crew.tell('stop')
    assert crew.reaches('SAFE')
    answer = crew.tell('sleep')
    assert not answer.success
    assert 'AWAKE' in answer.message


def test_sleep_after_seconds_awake(bench):
    bench.make(ActuatorNode)
    crew = Crew(bench, ['actuator'], autostart=True, sleep_after=0.5)
    assert crew.reaches('REM')


def test_sleep_after_seconds_awake_comes_again_after_a_sleep(bench):
    bench.make(ActuatorNode)
    crew = Crew(bench, ['actuator'], autostart=True, sleep_after=0.5)
    for _ in range(2):
        assert crew.reaches('REM')
        crew.manager._report = {}        # as a sleep phase that is over tells it
        assert crew.reaches('NREM')
        crew.manager._report = {}
        assert crew.reaches('AWAKE')


def test_critical_node_that_cannot_be_configured_keeps_the_agent_safe(bench):
    bench.make(ActuatorNode, low=[1.0])
    crew = Crew(bench, ['actuator'], autostart=True)
    bench.spin(1.5)
    assert crew.phase == 'SAFE'
    assert crew.manager.failed == {'actuator': 'could not be configured (its log says why)'}


def test_the_agent_lives_on_without_an_optional_node(bench):
    from dylora_ros.nodes.camera import CameraNode
    bench.make(ActuatorNode)
    bench.make(CameraNode, device='no such camera')
    crew = Crew(bench, ['camera', 'actuator'], autostart=True)
    assert crew.reaches('AWAKE')
    assert 'camera' in crew.manager.failed


def test_lost_node_makes_the_agent_safe_and_its_return_wakes_it(crew, monkeypatch):
    monitor = next(n for n in crew.bench.nodes if n.NAME == 'monitor')
    crew.bench.spin(0.5)
    monkeypatch.setattr(monitor, 'healthy', lambda: False)
    assert crew.reaches('SAFE', 3.0)
    assert crew.manager.lost == {'monitor'}
    monkeypatch.undo()
    assert crew.reaches('AWAKE')
    assert crew.state('actuator') == 'active'


def test_a_loss_does_not_wake_what_somebody_stopped(crew, monkeypatch):
    """Somebody may be working at the robot; until it is started again it stays SAFE."""
    assert crew.tell('stop').success
    assert crew.reaches('SAFE')
    monitor = next(n for n in crew.bench.nodes if n.NAME == 'monitor')
    crew.bench.spin(0.5)
    monkeypatch.setattr(monitor, 'healthy', lambda: False)
    assert crew.bench.spin_until(lambda: crew.manager.lost == {'monitor'}, 3.0)
    monkeypatch.undo()
    crew.bench.spin(3.0)
    assert crew.phase == 'SAFE'
    assert crew.tell('start').success
    assert crew.reaches('AWAKE')


def test_a_node_that_failed_is_tried_again_when_it_is_started_anew(bench):
    bench.make(ActuatorNode, low=[1.0])
    crew = Crew(bench, ['actuator'], autostart=True)
    assert bench.spin_until(lambda: 'actuator' in crew.manager.failed)
    crew.tell('stop')
    actuator = next(n for n in bench.nodes if n.NAME == 'actuator')
    actuator.setup = lambda: None
    assert crew.tell('start').success
    assert bench.spin_until(lambda: crew.manager.failed == {} and crew.state('actuator')
                            in ('inactive', 'active'))


def test_what_it_does_without_is_still_told_after_a_sleep(bench):
    from dylora_ros.nodes.camera import CameraNode
    bench.make(ActuatorNode)
    bench.make(CameraNode, device='no such camera')
    crew = Crew(bench, ['camera', 'actuator'], autostart=True)
    assert crew.reaches('AWAKE')
    crew.tell('sleep')
    assert crew.reaches('REM')
    crew.tell('wake')
    assert crew.reaches('AWAKE')
    assert 'camera' in crew.manager.failed


def test_without_hardware_there_is_a_simulator_to_manage(bench):
    assert 'simulator' in Crew(bench, ['simulator', 'actuator']).manager._nodes


def test_hardware_needs_no_simulator(bench):
    crew = Crew(bench, ['simulator', 'actuator'], hardware=True)
    assert crew.manager._nodes == ('actuator',)


def test_lost_responses_do_not_hold_the_agent_up(bench):
    bench.make(ActuatorNode)
    crew = Crew(bench, ['actuator'])
    caller, call = crew.manager._caller, crew.manager._caller.call

    async def deaf(client, request, timeout, **options):
        response = await call(client, request, timeout, **options)
        if client in crew.manager._change.values():
            await caller.pause(60.0)       # the node has changed, its answer never comes
        return response

    caller.call = deaf
    assert crew.tell('start').success
    assert crew.reaches('AWAKE', 10.0)


def test_a_service_that_seems_not_to_be_there_is_asked_all_the_same(bench, monkeypatch):
    from rclpy.client import Client
    monkeypatch.setattr(Client, 'service_is_ready', lambda self: False)
    bench.make(ActuatorNode)
    crew = Crew(bench, ['actuator'], autostart=True)
    assert crew.reaches('AWAKE', 10.0)


def tired(crew, level):
    """Say how tired the agent is, again and again, as the heart does."""
    voice = crew.bench.voice('context/tiredness')
    from dylora_ros.ros import messages

    def say():
        voice.publish(messages.scalar_msg(level))
        return crew.phase == 'REM'
    return say


def test_a_tired_agent_falls_asleep(crew, monkeypatch):
    from dylora_ros.nodes import lifecycle_manager
    monkeypatch.setattr(lifecycle_manager, '_DROWSY', 0.2)
    assert crew.bench.spin_until(tired(crew, 1.0), 10.0)


def test_an_agent_that_is_not_tired_stays_awake(crew, monkeypatch):
    from dylora_ros.nodes import lifecycle_manager
    monkeypatch.setattr(lifecycle_manager, '_DROWSY', 0.2)
    assert not crew.bench.spin_until(tired(crew, 0.99), 1.0)


def test_tiredness_from_before_it_woke_does_not_send_it_back(crew, monkeypatch):
    from dylora_ros.nodes import lifecycle_manager
    monkeypatch.setattr(lifecycle_manager, '_DROWSY', 60.0)
    assert not crew.bench.spin_until(tired(crew, 1.0), 1.0)


@pytest.mark.parametrize('stays', [True, False])
def test_a_tired_agent_that_somebody_woke_stays_awake_for_a_while(crew, monkeypatch, stays):
    from dylora_ros.nodes import lifecycle_manager
    monkeypatch.setattr(lifecycle_manager, '_DROWSY', 0.2)
    monkeypatch.setattr(lifecycle_manager, '_ROUSED', 60.0 if stays else 0.5)
    for verb, phase in (('sleep', 'REM'), ('wake', 'AWAKE')):
        assert crew.tell(verb).success
        assert crew.reaches(phase)
    assert crew.bench.spin_until(tired(crew, 1.0), 1.0 if stays else 10.0) != stays


def _at(monkeypatch, hour, minute):
    """Let the manager's clock stand still at a time of day."""
    import datetime

    from dylora_ros.nodes import lifecycle_manager

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 1, hour, minute)

    class Module:
        datetime = Clock

    monkeypatch.setattr(lifecycle_manager, 'datetime', Module)


def test_it_falls_asleep_on_schedule(bench, monkeypatch):
    _at(monkeypatch, 22, 30)
    bench.make(ActuatorNode)
    crew = Crew(bench, ['actuator'], autostart=True, sleep_at='22:30')
    assert crew.reaches('REM')


def test_at_another_time_it_stays_awake(bench, monkeypatch):
    _at(monkeypatch, 22, 31)
    bench.make(ActuatorNode)
    crew = Crew(bench, ['actuator'], autostart=True, sleep_at='22:30')
    assert crew.reaches('AWAKE')
    bench.spin(1.0)
    assert crew.phase == 'AWAKE'


def test_it_sleeps_once_a_day_on_schedule(bench, monkeypatch):
    _at(monkeypatch, 22, 30)
    bench.make(ActuatorNode)
    crew = Crew(bench, ['actuator'], autostart=True, sleep_at='22:30')
    assert crew.reaches('REM')
    crew.tell('wake')
    assert crew.reaches('AWAKE')
    bench.spin(1.0)
    assert crew.phase == 'AWAKE'


def test_a_report_of_sleep_leads_on_to_training_and_to_waking(crew):
    import json

    from dylora_ros.ros import messages
    voice = crew.bench.voice('sleep/report')
    crew.tell('sleep')
    for phase, following in (('REM', 'NREM'), ('NREM', 'AWAKE')):
        assert crew.reaches(phase)
        voice.publish(messages.text_msg(json.dumps({'phase': phase})))
        assert crew.reaches(following)


def test_a_report_that_is_none_is_ignored(crew):
    from dylora_ros.ros import messages
    voice = crew.bench.voice('sleep/report')
    crew.tell('sleep')
    assert crew.reaches('REM')
    for word in ('[]', 'null', '{', '3'):
        voice.publish(messages.text_msg(word))
    crew.bench.spin(0.5)
    assert crew.phase == 'REM'
    voice.publish(messages.text_msg('{"phase": "REM"}'))
    assert crew.reaches('NREM'), 'the twin: it goes on listening'


def test_a_night_that_brought_nothing_is_told_as_an_error(crew):
    from dylora_ros.ros import messages
    errors, seen = crew.bench.errors(crew.manager), crew.bench.hear('diagnostics')
    voice = crew.bench.voice('sleep/report')
    crew.tell('sleep')
    assert crew.reaches('REM')
    voice.publish(messages.text_msg('{"phase": "REM", "error": "the disk is full"}'))
    assert crew.bench.spin_until(lambda: errors)
    assert 'the disk is full' in errors[0]

    def warned():
        return any(status.level == messages.WARN for m in seen for status in m.status
                   if status.name == 'lifecycle_manager: phase')

    assert crew.bench.spin_until(warned)


def test_a_node_that_fails_on_the_way_to_sleep_does_not_end_the_manager(crew, monkeypatch):
    """It goes SAFE, from where there is no way to REM; then it wakes again."""
    monkeypatch.setattr(crew.manager, '_drive', refuse(crew.manager._drive))
    crew.tell('sleep')
    assert crew.reaches('SAFE')
    monkeypatch.undo()
    assert crew.reaches('AWAKE')
    assert crew.tell('sleep').success
    assert crew.reaches('REM')


def refuse(drive):
    """Return a way to drive nodes that takes none down."""
    from lifecycle_msgs.msg import State

    async def refusing(node, wanted, quick=False):
        return wanted != State.PRIMARY_STATE_INACTIVE and await drive(node, wanted, quick)
    return refusing


def test_a_world_that_was_lost_asleep_is_there_again_on_waking(bench):
    from dylora_ros.nodes.simulator import SimulatorNode
    bench.make(ActuatorNode)
    world = bench.make(SimulatorNode)
    crew = Crew(bench, ['simulator', 'actuator'], autostart=True)
    assert crew.reaches('AWAKE')
    crew.tell('sleep')
    assert crew.reaches('REM')
    assert bench.spin_until(lambda: crew.state('actuator') == 'inactive')
    world.trigger_deactivate()           # as a process that was killed and came again
    world.trigger_cleanup()
    assert crew.state('simulator') == 'unconfigured'
    crew.tell('wake')
    assert crew.reaches('AWAKE')
    assert crew.state('simulator') == 'active'


def test_a_time_to_sleep_that_is_none_is_refused(bench):
    from rclpy.lifecycle import TransitionCallbackReturn
    node = bench.make(LifecycleManagerNode, nodes=['actuator'], sleep_at='half past ten')
    told = bench.errors(node)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "'half past ten', expected a time of day such as 22:30" in told[0]


def test_an_hour_of_one_digit_is_a_time_of_day():
    from dylora_ros.nodes.lifecycle_manager import time_of_day
    assert time_of_day('7:05') == time_of_day('07:05') == (7, 5)
    assert time_of_day('') is None


@pytest.mark.parametrize(('asked', 'autostart', 'phase'), [
    ('stop', True, 'SAFE'), ('start', False, 'AWAKE')])
def test_a_manager_that_comes_again_goes_on_with_what_was_asked_for(
        run, bench, asked, autostart, phase):
    """Somebody may be working at the robot; or nobody is there to start it again."""
    again = die(asked_for(bench, asked), autostart)
    assert again.reaches(phase)
    bench.spin(1.5)
    assert again.phase == phase


@pytest.mark.parametrize('other', ['another', None])
def test_what_was_asked_of_an_earlier_run_does_not_count(run, bench, monkeypatch, other):
    """The negative twin: the agent was ended and started anew."""
    crew = asked_for(bench, 'stop')
    if other:
        monkeypatch.setenv(RUN, other)
    else:
        monkeypatch.delenv(RUN)
    assert die(crew, True).reaches('AWAKE')


@pytest.fixture
def run(monkeypatch):
    """Let the processes of this test be of one run."""
    monkeypatch.setenv(RUN, 'this one')


def asked_for(bench, what):
    """Return an agent of an actuator and a monitor that was started, and then perhaps stopped."""
    bench.make(ActuatorNode)
    bench.make(MonitorNode)
    crew = Crew(bench, ['monitor', 'actuator'])
    for verb, phase in {'start': 'AWAKE', what: 'SAFE' if what == 'stop' else 'AWAKE'}.items():
        assert crew.tell(verb).success
        assert crew.reaches(phase)
    return crew


def die(crew, autostart):
    """Let the manager die, as if killed, and come again; return the crew with it."""
    bench = crew.bench
    bench.executor.remove_node(crew.manager)
    bench.nodes.remove(crew.manager)
    crew.manager.destroy_node()
    crew.phases.clear()
    return Crew(bench, ['monitor', 'actuator'], autostart=autostart)


def test_who_waits_for_nothing_that_is_lost_wakes_all_the_same(bench):
    from dylora_ros.nodes.simulator import SimulatorNode
    bench.make(ActuatorNode)
    bench.make(SimulatorNode)
    crew = Crew(bench, ['simulator', 'actuator'], autostart=True, recovery_seconds=0.0)
    assert crew.reaches('AWAKE')
