"""Command line: python -m dylora_ros COMMAND."""

import sys

COMMANDS = {
    'run': ('dylora_ros.run', 'live in simulation (terminal view, or --duration S --headless)'),
    'experiment': ('dylora_ros.experiments', 'repeat an experiment of the paper'),
    'pretrain': ('dylora_ros.experiments.pretrain', 'make the shipped low-rank weights anew'),
    'weights': ('dylora_ros.prepare', 'check and convert the packaged pretrained weights'),
    'docs': ('dylora_ros.docs', 'print the parameter file or the node tables'),
    'dashboard': ('dylora_ros.snapshot', 'save the running agent\'s dashboard as a picture'),
}


def main(arguments: list[str] | None = None) -> int:
    """Dispatch to a command."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ('-h', '--help') or arguments[0] not in COMMANDS:
        out = sys.stdout if arguments and arguments[0] in ('-h', '--help') else sys.stderr
        print('usage: python -m dylora_ros COMMAND ...\n', file=out)
        for name, (_, doc) in COMMANDS.items():
            print(f'  {name:12} {doc}', file=out)
        return 0 if out is sys.stdout else 2
    from importlib import import_module
    return import_module(COMMANDS[arguments[0]][0]).main(arguments[1:]) or 0


if __name__ == '__main__':
    sys.exit(main())
