"""Commands by name: what ``python -m dylora_ros`` and its experiments share."""

from importlib import import_module
import sys


def dispatch(table: dict[str, tuple[str, str]], usage: str,
             arguments: list[str] | None = None) -> int:
    """Run the command that the first argument names.

    Args:
        table: name -> (module with a ``main(arguments)``, one line of help).
        usage: what stands before the name, such as ``python -m dylora_ros``.
        arguments: the process's own when None.

    Returns:
        The exit code; 2, with the names there are, for a name that is not one of them.

    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments and arguments[0] in table:
        return import_module(table[arguments[0]][0]).main(arguments[1:]) or 0
    asked = bool(arguments) and arguments[0] in ('-h', '--help')
    out = sys.stdout if asked else sys.stderr
    print(f'usage: {usage} ...\n', file=out)
    for name, (_, doc) in table.items():
        print(f'  {name:12} {doc}', file=out)
    return 0 if asked else 2
