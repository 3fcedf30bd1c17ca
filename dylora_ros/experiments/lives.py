"""Several lives in lockstep: each its own world and log, one shared sight and hearing.

A frame or a chunk of sound of all lives goes through the frozen encoders as one batch. Decoders
rest, so nothing is expected and nothing surprises; the body alone predicts.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from dylora_ros.core.agent import Agent
from dylora_ros.core.precision import narrow, narrowed
from dylora_ros.experiments.babble import AUDIO_EVERY, felt, PERIOD, VISION_EVERY
from dylora_ros.modalities.audio import encode_mel
from dylora_ros.modalities.base import Percept
from dylora_ros.modalities.keyframes import Keyframes
from dylora_ros.modalities.specs import EARS, RATE
from dylora_ros.modalities.vision import pixels

SIZE = 64             # of the frames
MOMENTS = 20          # cycles between two moments that dreams can start from
REMEMBERED = 75       # of them: a minute


class Shared:
    """A sense whose frozen encoder several lives share: it is given x, and keeps its bias.

    Args:
        sites: s.
        rank: r.
        biased: whether q's predictions bias it.
    """

    def __init__(self, sites: int, rank: int, biased: bool = True):
        self.q, self._biased = np.zeros((sites, rank), np.float32), biased
        self.body: np.ndarray | None = None

    def bias(self, q: np.ndarray, body: np.ndarray | None = None):
        """Keep the bias for the next batch, and the body's LR state."""
        self.body = self.body if body is None else np.array(body, np.float32).ravel()
        if self._biased:
            self.q = np.array(q, np.float32)

    def observe(self, x: np.ndarray) -> Percept:
        """Take what the shared encoder made of the signal."""
        return Percept(x, None, None)


@dataclass
class Life:
    """One life.

    Attributes:
        world: it lives in.
        agent: with :class:`Shared` vision and audio, and a body of its own.
        judge: (row, world) -> reward of that state.
        deaf: it hears nothing.
        success: of every cycle lived.
        rewards: of every cycle lived.
        born: ns, stamp of the world's beginning.
        judged: the newest reward, and the stamp of the state that it judges (0: of none).
        sound: the last moments, what hearing needs.
        moments: what dreams start from, by sense.
        seen: the last two frames, and the body's LR states at them.
    """

    world: object
    agent: Agent
    judge: Callable[[np.ndarray, object], float]
    deaf: bool = False
    success: list[bool] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    born: int = 0
    judged: tuple[float, int] = (0.0, 0)
    sound: np.ndarray = field(default_factory=lambda: np.zeros((EARS, 0), np.float32))
    moments: dict[str, Keyframes] = field(
        default_factory=lambda: {n: Keyframes(MOMENTS * PERIOD, REMEMBERED)
                                 for n in ('vision', 'audio', 'body')})
    seen: list[tuple[np.ndarray, np.ndarray | None]] = field(default_factory=list)

    def begin(self, audio):
        """Start the world anew; nothing was heard yet."""
        self.world.reset()
        self.sound = np.zeros((EARS, audio.samples), np.float32)
        self.judged = 0.0, 0
        self.seen = []

    def wake(self, stamp: int):
        """Go on after a nap, at ``stamp`` (ns); the world has waited."""
        self.born = stamp - round(self.world.time * 1e9)
        self.judged = 0.0, 0
        self.agent.wake()

    def remember(self, vision, signal: np.ndarray):
        """Keep the present moment, so that a dream can start from it (see ``local_context``)."""
        if len(self.seen) < 2 or self.seen[0][1] is None:
            return
        stamp = self.born + round(self.world.time * 1e9)
        (before, then), (frame, now) = self.seen
        self.moments['vision'].put(stamp, {'signal': frame, 'before': vision.target(before),
                                           'bodies': np.stack([then, now])})
        self.moments['audio'].put(stamp, {'signal': self.sound})
        self.moments['body'].put(stamp, {'signal': signal.astype(np.float32)})


def live(lives: list[Life], vision, audio, cycles: int,
         say: Callable[[int], None] = lambda cycle: None):
    """Live ``cycles`` cycles of all lives, from a new beginning of their worlds on.

    Args:
        lives: at least one.
        vision: the frozen encoder of sight.
        audio: the frozen encoder of hearing.
        cycles: how many.
        say: called with the number of cycles done.

    """
    for life in lives:
        life.begin(audio)
    vision, audio = narrowed(vision), narrowed(audio)
    for i in range(cycles):
        for life, signals in zip(lives, perceive(lives, vision, audio, i), strict=True):
            _cycle(life, signals)
            if i % MOMENTS == MOMENTS - 16:          # a cycle of both sight and hearing
                life.remember(vision, signals['body'])
        say(i + 1)


def perceive(lives: list[Life], vision, audio, i: int) -> list[dict[str, np.ndarray]]:
    """Return what comes in to each life in its cycle ``i``: LR states, and the body's signal."""
    seen = see(vision, lives) if i % VISION_EVERY == 0 else None
    heard = hear(audio, lives) if i % AUDIO_EVERY == AUDIO_EVERY - 1 else None
    out = []
    for n, life in enumerate(lives):
        signals = {'body': felt(life.world, life.agent.guard)}
        if seen is not None:
            signals['vision'] = seen[n]
        if heard is not None and not life.deaf:
            signals['audio'] = heard[n]
        out.append(signals)
    return out


def see(vision, lives: list[Life]) -> np.ndarray:
    """Take in what every life has before its eyes; returns x (lives, s, r).

    Matrix products are in bfloat16 where that is fast: a frame of a batch then costs half of one
    alone, and x differs by 0.005 (it has unit variance).
    """
    images = [life.world.render(SIZE, SIZE) for life in lives]
    frames = torch.cat([pixels(image) for image in images])
    for life, image in zip(lives, images, strict=True):
        life.seen = [*life.seen[-1:], (image, life.agent.senses['vision'].body)]
    q = torch.from_numpy(np.stack([life.agent.senses['vision'].q for life in lives]))
    vision.adapter.set_state(q, gamma=0.0)
    with torch.inference_mode(), narrow():
        vision.adapter.reach(lambda: vision.encoder(frames))
        return vision.adapter.read_x().float().numpy()


def hear(audio, lives: list[Life]) -> np.ndarray:
    """Take in the last chunk of every life's sound; returns x (lives, s, r)."""
    mels = []
    for life in lives:
        new = life.world.listen(round(RATE * PERIOD * AUDIO_EVERY))
        life.sound = np.concatenate([life.sound, new], 1)[:, -audio.samples:]
        mels.append(audio.log_mel(torch.from_numpy(life.sound)))
    q = torch.from_numpy(np.stack([life.agent.senses['audio'].q for life in lives]))
    audio.adapter.set_state(q.reshape(len(lives) * EARS, -1, audio.spec.rank), gamma=0.0)
    with torch.inference_mode(), narrow():
        audio.adapter.reach(lambda: encode_mel(audio.encoder, torch.cat(mels)))
        x = audio.adapter.read_x().float()
    return x.reshape(len(lives), audio.spec.sites, audio.spec.rank).numpy()


def _cycle(life: Life, signals: dict[str, np.ndarray]):
    """Live one cycle: decide, move; then the state just lived is judged."""
    world, agent = life.world, life.agent
    reward, judged = life.judged
    stamp = life.born + round(world.time * 1e9)
    life.success.append(bool(world.success()))
    command = agent.step(stamp, signals, reward, judged)
    reward = life.judge(agent.log.take(np.array([agent.log.committed - 1]))[0], world)
    life.judged = reward, stamp
    life.rewards.append(reward)
    world.apply(command)
    world.step(PERIOD)
