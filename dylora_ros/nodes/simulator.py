"""Simulator node: a MuJoCo world in real time, with the last line of defence for the joints."""

import time

import numpy as np

from dylora_ros.graph import SCENES
from dylora_ros.nodes.actuator import RATE
from dylora_ros.ros import messages
from dylora_ros.ros.node import AgentNode
from dylora_ros.ros.parameters import Param
from dylora_ros.ros.transforms import TransformSender

TICK = 0.008          # s of physics at a time (125 Hz; /clock beats at this rate)
COMMAND_TIMEOUT = 0.2  # s without a command after which the joints stop by themselves
_CATCH_UP = 5         # ticks made up at once; more are given up and show in the factor


class SimulatorNode(AgentNode):
    """The world. It knows nothing of phases: it goes on while the agent sleeps."""

    NAME = 'simulator'
    DOC = 'The MuJoCo world: joints, camera, ears, clock.'
    PARAMETERS = (
        RATE,
        Param('scene', 'gaze', 'World to live in.', choices=SCENES),
        Param('seed', 0, 'Seed of the world.', 0, 2**31 - 1),
        Param('camera_rate', 12.5, 'Frames rendered a second, Hz.', 0.1, 60.0),
        Param('width', 128, 'Pixels of the camera.', 16, 640),
        Param('height', 128, 'Pixels of the camera.', 16, 480),
        Param('viewer', False, 'Open MuJoCo\'s viewer window (needs a display).'),
        Param('words_every', 8.0, 'Seconds between true sentences that a bystander in the world '
              'says on text/words; 0: nobody speaks.', 0.0, 3600.0))
    PUBLISHES = ('camera/image_raw', 'microphone/audio', 'joint_states', 'text/words',
                 '/clock')
    SUBSCRIBES = ('commands',)
    SERVICES = {'~/pause': 'SetBool: stop or go on.', '~/step': 'Trigger: one cycle while paused.',
                '~/reset': 'Trigger: start the world anew.',
                '~/report': 'Trigger: real-time factor and ground truth, JSON.'}

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._paused = False
        self._offered: list = []
        self._count_anew()

    def setup(self):
        """Load the scene; render once, so that a missing GL shows now."""
        from dylora_ros.sim import worlds
        v = self.values
        self.world = worlds.make(v['scene'], v['seed'])
        self.world.render(v['width'], v['height'])
        self.transforms = TransformSender(self, self.world)
        self._viewer = self._open_viewer() if v['viewer'] else None
        self._add_services()

    def _open_viewer(self):
        import mujoco.viewer
        try:
            return mujoco.viewer.launch_passive(self.world.model, self.world.data)
        except Exception as error:     # no display, no GLFW: the world goes on unseen
            self.get_logger().warning(f'no viewer window: {error}')
            return None

    def _add_services(self):
        import json

        from std_srvs.srv import SetBool, Trigger

        def pause(request, response):
            self._paused = request.data
            response.success, response.message = True, 'paused' if request.data else 'running'
            return response

        def step(_, response):
            response.success = self._paused
            response.message = '' if self._paused else 'pause first (~/pause)'
            if self._paused:
                for _ in range(self._per_cycle):
                    self._advance()
            return response

        def reset(_, response):
            self.world.reset()
            self._spoken = self.world.time
            response.success, response.message = True, 'reset'
            return response

        def report(_, response):
            response.success = True
            response.message = json.dumps({
                'real_time_factor': self.real_time_factor(),
                'success': self._hits / max(1, self._counted),
                'hits': self._hits, 'counted': self._counted})
            return response

        if not self._offered:
            self._offered = [self.create_service(SetBool, '~/pause', pause),
                              self.create_service(Trigger, '~/step', step),
                              self.create_service(Trigger, '~/reset', reset),
                              self.create_service(Trigger, '~/report', report)]

    def start(self):
        """Let time pass."""
        self._per_cycle = max(1, round(1 / self.values['rate'] / TICK))
        self._per_frame = max(1, round(1 / self.values['camera_rate'] / TICK))
        self._count_anew()
        self._spoken = self.world.time
        self._last_command = -1e9
        self.listen('commands', self._on_command)
        self.every(TICK, self._tick)

    def _count_anew(self):
        self._ticks = self._done = self._hits = self._counted = 0
        self._begin = time.monotonic()

    def stop(self):
        """Stand still."""
        if getattr(self, 'world', None) is not None:
            self.world.apply(np.zeros(len(self.world.actuators)))

    def release(self):
        """Free the renderers."""
        if getattr(self, 'world', None) is not None:
            if self._viewer is not None:
                self._viewer.close()
                self._viewer = None
            self.world.close()
            self.world = None

    def real_time_factor(self) -> float:
        """Return simulated over real seconds since the start."""
        return self._done * TICK / max(1e-9, time.monotonic() - self._begin)

    def _on_command(self, message):
        self.world.apply(messages.commands(message))
        self._last_command = time.monotonic()

    def _tick(self):
        if self._paused:
            self._begin = time.monotonic() - self._done * TICK
            return
        due = int((time.monotonic() - self._begin) / TICK) - self._ticks
        if due > _CATCH_UP:
            self._ticks += due - _CATCH_UP      # given up: simulated time falls behind
            due = _CATCH_UP
        for _ in range(due):
            self._advance()

    def _speak(self):
        every = self.values['words_every']
        if every and self.world.time >= self._spoken + every:
            self._spoken = self.world.time
            said = self.world.captions()
            self.publish('text/words', messages.text_msg(said[int(self._spoken) % len(said)]))

    def _step(self):
        from dylora_ros.sim.world import WorldError
        try:
            self.world.step(TICK)
        except WorldError as error:        # it was reset: life goes on from its start
            self.complain('world', str(error))
            self._spoken = self.world.time

    def _advance(self):
        if time.monotonic() - self._last_command > COMMAND_TIMEOUT:
            self.world.apply(np.zeros(len(self.world.actuators)))
        self._step()
        self._ticks += 1
        self._done += 1
        simulated = bool(self.get_parameter('use_sim_time').value)
        stamp = int(self.world.time * 1e9) if simulated else self.now()
        if simulated:
            self.publish('/clock', messages.clock_msg(stamp))
        if self._done % self._per_cycle == 0:
            state = self.world.joints()
            self.publish('joint_states', messages.joints_msg(
                state.names, state.position, state.velocity, stamp))
            samples = round(16000 * TICK * self._per_cycle)
            sound = self.world.listen(samples)
            if self.wanted('microphone/audio'):
                self.publish('microphone/audio', messages.tensor_msg(sound, stamp, 'ears'))
            self.transforms.send(stamp)
            if self._viewer is not None and self._viewer.is_running():
                self._viewer.sync()
            self._hits += self.world.success()
            self._counted += 1
            self._speak()
        # half a cycle after the joints, so that the work is spread
        if (self._done - self._per_cycle // 2) % self._per_frame == 0 and self.wanted(
                'camera/image_raw'):
            image = self.world.render(self.values['width'], self.values['height'])
            self.publish('camera/image_raw',
                         messages.rgb_msg(image, stamp, 'camera_optical_frame'))
