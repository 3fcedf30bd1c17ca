"""Lessons of the passkey experiment: contexts of at most 512 tokens.

Legend: b contexts, k rows of a context, n = b * k, h heads, w composite width.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from dylora_ros.core.qnetwork import QNetwork
from dylora_ros.experiments.descent import Descent
from dylora_ros.experiments.exact import exact_logits
from dylora_ros.experiments.passkey_read import PERIOD, read_all, row_features, SCHEMA, States
from dylora_ros.experiments.passkey_text import answers, chains, filler, mentions_held_out

TRAIN_TOKENS = 512
LONGEST = 3600.0         # s, ages in training
ROWS = 75_000            # of a context of a million tokens, about
NEAR = 0.97              # cosine of a question's key and its fact's
_CHAINS, _LURES, _FILLER = 3, 4, 26      # in a context, about 490 tokens together
_PLACE, _OWNER = 0, _CHAINS              # rows of the chain that is asked for
_ASKED = ('one', 'two')


@dataclass
class Lesson:
    """Contexts, each with a chain that is asked for.

    Attributes:
        inputs: (b, k, sites * width) of the rows: places and owners of the chains, lures, filler.
        asked: what the one-fact and the two-fact questions read, (b, sites * width) each.
        city: (b,) answers.
        thing: (b, k) number of the thing whose place the row tells, -1 where it tells none.
        person: (b, k) number of the person whose belonging it tells, likewise.
    """

    inputs: torch.Tensor
    asked: dict[str, torch.Tensor]
    city: torch.Tensor
    thing: torch.Tensor
    person: torch.Tensor


class Course:
    """Training contexts: three chains among filler that likes to name the same things.

    Args:
        work: folder where encodings are kept.
        seed: of the text.
    """

    def __init__(self, work: Path, seed: int):
        self.rng = rng = np.random.default_rng(seed)
        self.chains = chains(rng, 2000, held_out=False)
        some = (filler(rng) for _ in iter(int, 1))
        some = (text for text in some if not mentions_held_out(text))
        groups = {'filler': [next(some) for _ in range(6000)], 'answers': answers()}
        for kind in ('place', 'owner', *_ASKED):
            groups[kind] = [getattr(c, kind) for c in self.chains]
        groups['about_thing'] = [filler(rng, adjective=c.thing.split()[0],
                                        noun=c.thing.split()[1]) for c in self.chains]
        groups['about_person'] = [filler(rng, first=c.person.split()[0],
                                         last=c.person.split()[1]) for c in self.chains]
        inputs, _ = read_all([t for g in groups.values() for t in g], work / 'course.npz')
        self.inputs, at = {}, 0
        for kind, group in groups.items():
            self.inputs[kind] = torch.from_numpy(inputs[at:at + len(group)].astype(np.float32))
            at += len(group)
        self.city = torch.tensor([c.city for c in self.chains])
        self._thing, self._person = (
            torch.from_numpy(np.unique([getattr(c, kind) for c in self.chains],
                                       return_inverse=True)[1]) for kind in ('thing', 'person'))

    def draw(self, batch: int) -> Lesson:
        """Return contexts in which no thing and no person has two facts."""
        rng = self.rng
        some = torch.from_numpy(rng.integers(0, len(self.chains), (batch, _CHAINS)))
        while True:
            clash = sum((ids[some[:, i]] == ids[some[:, j]]) for ids in
                        (self._thing, self._person) for i in range(_CHAINS) for j in range(i))
            if not clash.any():
                break
            again = int((clash > 0).sum())
            some[clash > 0] = torch.from_numpy(rng.integers(0, len(self.chains),
                                                            (again, _CHAINS)))
        other = torch.from_numpy(rng.integers(0, len(self.inputs['filler']), (batch, _FILLER)))
        # two lures speak of the chain that is asked for, two of another
        lures = [self.inputs[kind][some[:, i]][:, None] for i in (0, 1)
                 for kind in ('about_thing', 'about_person')]
        inputs = torch.cat([self.inputs['place'][some], self.inputs['owner'][some], *lures,
                            self.inputs['filler'][other]], 1)
        thing = torch.full(inputs.shape[:2], -1)
        person = thing.clone()
        thing[:, _PLACE:_PLACE + _CHAINS] = self._thing[some]
        person[:, _OWNER:_OWNER + _CHAINS] = self._person[some]
        return Lesson(inputs, {kind: self.inputs[kind][some[:, 0]] for kind in _ASKED},
                      self.city[some[:, 0]], thing, person)

    def age(self, batch: int, k: int) -> torch.Tensor:
        """Return ages (b, k) in s: rows in random order, read at a random pace."""
        order = np.argsort(self.rng.random((batch, k)), 1) + 1
        pace = np.exp(self.rng.uniform(np.log(PERIOD * 1e-9), np.log(LONGEST / k), (batch, 1)))
        return torch.from_numpy((order * pace).astype(np.float32))


def _readable(network: QNetwork, query: torch.Tensor, keys: torch.Tensor, age: torch.Tensor,
              own: torch.Tensor, rival: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Judge whether questions would find their facts among a million tokens.

    The rows of all contexts of the batch stand for those of a long one, each for many.

    Args:
        network: the q.
        query: (b, d) keys of the questions.
        keys: (n, d) keys of all rows.
        age: (n,) seconds.
        own: (b,) number of the row that answers.
        rival: (b, n) rows that do not.

    Returns:
        loss and mean cosine of questions and their facts.

    """
    logits = exact_logits(network, query, keys, age)                        # (b, h, n)
    mine = logits.gather(2, own[:, None, None].expand(-1, logits.shape[1], 1))[..., 0]
    rest = (logits + np.log(ROWS / len(keys))).masked_fill(~rival[:, None], float('-inf'))
    # every head: what the answer needs must fit through all of them together
    leak = F.relu(rest.logsumexp(-1) - mine + 4.0).mean()
    near = (query * keys[own]).sum(1)
    alike = (query @ query.T).square().mean() - 1 / len(query)
    return 0.1 * leak + 0.3 * alike + F.relu(NEAR - near).mean(), near.mean()


def train(course: Course, steps: int, batch: int = 48) -> tuple[States, QNetwork]:
    """Train A and q to answer."""
    states = States(torch.cat([v[:2000] for k, v in course.inputs.items() if k != 'answers']))
    network = QNetwork(SCHEMA)
    descent = Descent('passkey', network, steps, 2e-3, (list(states.parameters()), 1e-3))
    while descent.done < steps:
        lesson = course.draw(batch)
        k = lesson.inputs.shape[1]
        past = row_features(states(lesson.inputs.flatten(0, 1))).view(batch, k, -1)
        age = course.age(batch, k)
        valid = torch.ones(batch, k, dtype=torch.bool)
        target = states(course.inputs['answers'])
        asked = {kind: states(inputs) for kind, inputs in lesson.asked.items()}
        first, second = row_features(asked['one']), row_features(asked['two'])
        one = network(first, past, age, valid)
        thought = network(second, past, age, valid)
        again = row_features(thought.q)
        two = network(again, past, age, valid)
        said = [q @ target.T / SCHEMA.width ** 0.5 for q in (one.q, two.q)]
        loss = sum(F.cross_entropy(s, lesson.city) for s in said) \
            + F.smooth_l1_loss(thought.q, asked['one'].detach())
        keys, shown = network.keys(past).flatten(0, 1), {}
        at = torch.arange(batch) * k
        for name, now, place, told in (('place', first, _PLACE, lesson.thing),
                                       ('owner', second, _OWNER, lesson.person),
                                       ('thought', again, _PLACE, lesson.thing)):
            rival = told.flatten()[None] != told[:, place, None]
            term, shown[name] = _readable(network, network.keys(now), keys, age.flatten(),
                                          at + place, rival)
            loss = loss + term
        right = [(s.argmax(1) == lesson.city).float().mean() for s in said]
        descent.step(loss, one=right[0], two=right[1], **shown)
    return states.eval(), network.eval()
