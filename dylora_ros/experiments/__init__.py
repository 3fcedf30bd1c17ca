"""The paper's and our evidence: ``python -m dylora_ros experiment NAME``."""

from importlib import import_module
import sys

EXPERIMENTS = {
    'mrpc': ('dylora_ros.experiments.mrpc',
             'Figure 5: LoRA, global context, blinded with and without it'),
    'recall': ('dylora_ros.experiments.recall',
               'a cue seen once, asked for up to a million cycles later'),
    'passkey': ('dylora_ros.experiments.passkey',
                'facts in up to a million tokens of filler, read by the frozen text model'),
    'forgetting': ('dylora_ros.experiments.forgetting', 'the forgetting curves of a trained q'),
    'dreams': ('dylora_ros.experiments.dreams', 'dreams beside what really followed'),
    'refit': ('dylora_ros.experiments.refit', 'train q anew on a recorded log'),
}


def main(arguments: list[str] | None = None) -> int:
    """Dispatch to an experiment."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] not in EXPERIMENTS:
        out = sys.stdout if arguments and arguments[0] in ('-h', '--help') else sys.stderr
        print('usage: python -m dylora_ros experiment NAME ...\n', file=out)
        for name, (_, doc) in EXPERIMENTS.items():
            print(f'  {name:12} {doc}', file=out)
        return 0 if out is sys.stdout else 2
    return import_module(EXPERIMENTS[arguments[0]][0]).main(arguments[1:]) or 0
