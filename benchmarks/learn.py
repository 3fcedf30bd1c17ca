"""The peer of ``experiment life``: stable-baselines3 SAC in the same body, senses and reward.

    python benchmarks/learn.py --work DIR [--seeds 0 1 2] [--days 10] [--day 1500] [--cpu SECONDS]

SAC with its defaults (discount as ours) sees the composite LR state, mask and ages of every cycle
and is rewarded by the same statements; its days begin at the same moments as our agent's, and
its buffer with the same childhood. It goes
on where it was interrupted. ``--cpu`` ends a run after so many processor seconds (equal cost
instead of equal cycles). Ours is what ``experiment life`` wrote (``--life``). The last line is one
JSON object: success of the last quarter of days, cycles and processor seconds of both.
"""

import argparse
import json
from pathlib import Path
import sys
import time

import numpy as np
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dylora_ros.core import rehearsal  # noqa: E402
from dylora_ros.core.qnetwork import WIDTH  # noqa: E402
from dylora_ros.core.will import context_width, judged_anew  # noqa: E402
from dylora_ros.core.will_training import SETTINGS  # noqa: E402
from dylora_ros.experiments import one_life  # noqa: E402
from dylora_ros.experiments.agent_view import AgentEnv  # noqa: E402
from dylora_ros.experiments.days_report import last_quarter  # noqa: E402
from dylora_ros.modalities import registry  # noqa: E402
from dylora_ros.provenance import provenance, write  # noqa: E402

RESULT = ROOT / 'docs' / 'results' / 'learn.json'


class Diary(BaseCallback):
    """Counts success; saves after every day."""

    def __init__(self, folder: Path, told: list[dict], options):
        super().__init__()
        self._folder, self.told, self._options = folder, told, options
        self._success: list[bool] = []
        self._cpu, self._wall = time.process_time(), time.monotonic()

    def _on_step(self) -> bool:
        self._success.append(self.locals['infos'][0]['success'])
        if len(self._success) < self._options.day:
            return True
        self.told.append({'success': round(float(np.mean(self._success)), 4),
                          'cpu_s': round(time.process_time() - self._cpu, 1),
                          'wall_s': round(time.monotonic() - self._wall, 1)})
        self._success = []
        self._cpu, self._wall = time.process_time(), time.monotonic()
        print(f'day {len(self.told)} of SAC: {self.told[-1]}', flush=True)
        self.model.save(self._folder / 'model.zip')
        self.model.save_replay_buffer(self._folder / 'buffer.pkl')
        write(self._folder / 'days.json', self.told)
        spent = sum(d['cpu_s'] for d in self.told)
        return len(self.told) < self._options.days and not 0 < self._options.cpu <= spent


def remember(buffer, rows: np.ndarray, schema, reward):
    """Put older rows, judged by the statements of today, into SAC's buffer; as our nights do."""
    past = judged_anew(rows, np.zeros((len(rows), WIDTH), np.float32), schema, reward,
                       recollects=False)                  # SAC has no global context
    states = past.states[:, context_width(schema):]
    for t in np.flatnonzero(past.follows):
        buffer.add(states[t], states[t + 1], past.actions[t], past.rewards[t + 1],
                   np.zeros(1), [{}])


def alive(seed: int, reward, day: int, first: int) -> AgentEnv:
    """Return the body, senses and days of our agent with this seed, from day ``first`` on."""
    schema = registry.row_schema(one_life.JOINTS, registry.SHIPPED)
    senses = {'vision': registry.make('vision'), 'audio': registry.make('audio'),
              'body': registry.make('body', one_life.JOINTS)}
    return AgentEnv(senses, schema, lambda row, world: one_life.judge(reward, row, schema),
                    seed, day, first)


def newborn(seed: int, reward, day: int, cycles: int) -> SAC:
    """Return SAC with its defaults before its first day; it has room for ``cycles`` of them."""
    schema = registry.row_schema(one_life.JOINTS, registry.SHIPPED)
    childhood = rehearsal.load(registry.SHIPPED / rehearsal.FILE, schema)
    model = SAC('MlpPolicy', alive(seed, reward, day, 0), seed=seed, gamma=SETTINGS.discount,
                buffer_size=len(childhood) + cycles, learning_starts=0)
    remember(model.replay_buffer, childhood, schema, reward)
    return model


def learn(seed: int, reward, options) -> tuple[list[dict], float]:
    """Live (or go on); return the days, and the success in an exam after them."""
    folder = options.work / f'sac-{seed}'
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / 'days.json'
    told = json.loads(path.read_text()) if path.exists() else []
    if told:
        model = SAC.load(folder / 'model.zip', env=alive(seed, reward, options.day, len(told)))
        model.load_replay_buffer(folder / 'buffer.pkl')
    else:
        model = newborn(seed, reward, options.day, options.days * options.day)
    diary = Diary(folder, told, options)
    if len(told) < options.days and not 0 < options.cpu <= sum(d['cpu_s'] for d in told):
        model.learn((options.days - len(told)) * options.day, callback=diary,
                    reset_num_timesteps=False)
    model.env.close()
    env = alive(seed, reward, options.exam, one_life.EXAM)
    state, _ = env.reset()
    success = []
    while len(success) < options.exam:
        state, _, _, _, told_of_it = env.step(model.predict(state, deterministic=True)[0])
        success.append(told_of_it['success'])
    env.close()
    return diary.told, round(float(np.mean(success)), 4)


def main():
    """Run; see the module."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, required=True)
    parser.add_argument('--seeds', nargs='*', type=int, default=[0, 1, 2])
    parser.add_argument('--days', type=int, default=10)
    parser.add_argument('--day', type=int, default=1500, help='cycles a day')
    parser.add_argument('--exam', type=int, default=4500, help='cycles of the exam, as ours')
    parser.add_argument('--cpu', type=float, default=0.0, help='processor seconds; 0: no limit')
    parser.add_argument('--statements', type=Path, default=ROOT / 'config' / 'statements.yaml')
    parser.add_argument('--life', type=Path, default=ROOT / 'docs' / 'results' / 'life.json')
    options = parser.parse_args()
    torch.set_num_threads(1)
    reward = one_life.stated(options.statements)
    result = provenance('python benchmarks/learn.py', ('torch', 'stable_baselines3', 'mujoco'),
                        day=options.day, seeds=options.seeds)
    result['sac'] = {}
    for seed in options.seeds:
        told, exam = learn(seed, reward, options)
        result['sac'][seed] = {
            'awake_cycles': options.day * len(told),
            'success': last_quarter(told), 'exam': exam,
            'success_by_day': [d['success'] for d in told],
            'cpu_s': round(sum(d['cpu_s'] for d in told), 1)}
        write(RESULT, result)
    if options.life.exists():
        result['ours'] = json.loads(options.life.read_text())['gaze'].get('full')
        write(RESULT, result)
    print(json.dumps(result))


if __name__ == '__main__':
    main()
