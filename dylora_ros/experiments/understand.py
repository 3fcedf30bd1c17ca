"""Teach a projector anew which captions people's sentences say, and judge it.

The one command after ``ways.py`` or ``core.understanding`` changed; how states lie to captions
stays as it was fitted. Judged on worlds in which things are shown, of which the last taught
nothing; ``--work`` keeps them, as ``pretrain`` does in ``shown``. The projector and what is told
of it in ``pretrain.json`` are replaced; the last line is one JSON object.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file
import torch

from dylora_ros.core.features import inner_states
from dylora_ros.core.files import whole
from dylora_ros.core.reward import Projector
from dylora_ros.experiments.agreement import things
from dylora_ros.experiments.pretrain import SHOWN_CYCLES, SHOWN_JUDGES, SHOWN_WORLDS
from dylora_ros.experiments.progress import say
from dylora_ros.experiments.shown import record, recorded
from dylora_ros.experiments.teaching import judge_things, said, understanding
from dylora_ros.modalities import registry
from dylora_ros.modalities.text import SentenceEncoder
from dylora_ros.provenance import write


def main(arguments: list[str] | None = None):
    """Teach and judge; see the module."""
    parser = argparse.ArgumentParser(prog='dylora_ros experiment understand', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, required=True)
    parser.add_argument('--weights', type=Path, default=registry.SHIPPED)
    parser.add_argument('--seed', type=int, default=0, help='of the worlds')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    record(options.work, options.weights, SHOWN_WORLDS + SHOWN_JUDGES, SHOWN_CYCLES,
           options.seed, say)
    rows, captions, world, schema = recorded(options.work)
    sentences, path = SentenceEncoder(), options.weights / 'projector.safetensors'
    known = understanding(said(captions)[0], sentences.embed)
    tensors = {k: v for k, v in load_file(str(path)).items()
               if not k.startswith('understanding.')}
    tensors |= {f'understanding.{k}': v for k, v in known.state_dict().items()}
    projector = Projector.of(tensors, schema.width, len(schema.modalities))
    last = int(np.searchsorted(world, SHOWN_WORLDS))
    judged = judge_things(projector, 'shown', inner_states(rows[last:], schema),
                          captions[last:], sentences, things(captions))
    with whole(path) as part:
        save_file(tensors, str(part))
    told = options.weights / 'pretrain.json'
    before = json.loads(told.read_text())
    write(told, before | {'projector': before['projector'] | judged})
    print(json.dumps({'command': 'python -m dylora_ros experiment understand', **judged}))


if __name__ == '__main__':
    main()
