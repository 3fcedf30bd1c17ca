"""Command line: python -m dylora_ros COMMAND."""

import sys

from dylora_ros.command import dispatch

COMMANDS = {
    'run': ('dylora_ros.run', 'live in simulation (terminal view, or --duration S --headless)'),
    'experiment': ('dylora_ros.experiments', 'repeat an experiment of the paper'),
    'context': ('dylora_ros.context_tool', 'info, verify, export or forget: a memory on disk'),
    'pretrain': ('dylora_ros.experiments.pretrain', 'make the shipped low-rank weights anew'),
    'reward': ('dylora_ros.reward_tool', 'train, explain or check the reward models'),
    'weights': ('dylora_ros.prepare', 'check and convert the packaged pretrained weights'),
    'docs': ('dylora_ros.docs', 'print the parameter file or the node tables'),
    'dashboard': ('dylora_ros.snapshot', 'save the running agent\'s dashboard as a picture'),
}


def main(arguments: list[str] | None = None) -> int:
    """Dispatch to a command."""
    return dispatch(COMMANDS, 'python -m dylora_ros COMMAND', arguments)


if __name__ == '__main__':
    sys.exit(main())
