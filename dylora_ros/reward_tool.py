"""The reward models: python -m dylora_ros reward train|explain|check.

``train`` lives in several worlds, is told what is true there, and fits the decoder model's small
weights; worlds it has not seen judge it. ``explain`` says in words what the agent thinks it
perceives, and which statement moved the reward. ``check`` tells how well the sentence model and
the decoder model agree, and how each orders what is true.
"""

import argparse
import json
from pathlib import Path
import sys
import time

import numpy as np
from safetensors.torch import load_file
import torch

from dylora_ros.core.context import ContextError, GlobalContext
from dylora_ros.core.decoder import DecoderReward
from dylora_ros.core.features import inner_states
from dylora_ros.core.judging import RewardModel
from dylora_ros.core.lowrank import SchemaError
from dylora_ros.core.reward import Projector, StatementError, StatementReward, Statements
from dylora_ros.core.speaker import Speaker
from dylora_ros.experiments import agreement, explaining, speaking
from dylora_ros.experiments.progress import say
from dylora_ros.experiments.shown import pretrained, record, recorded
from dylora_ros.experiments.teaching import said
from dylora_ros.modalities import registry
from dylora_ros.modalities.language import load_language_model, SOURCE
from dylora_ros.modalities.weights import WeightsError
from dylora_ros.paths import memory_dir, share_file
from dylora_ros.provenance import provenance, write

FILE = 'decoder.safetensors'
EVERY = 4             # rows between two looks: what is judged is not judged twice


def train(options) -> int:
    """Live, listen, fit, judge, write."""
    start = time.process_time()
    life = options.life or options.work / 'life'
    if options.life is None:
        record(life, options.weights, options.worlds + options.judges, options.cycles,
               options.seed, say)
    rows, captions, world, schema = recorded(life)
    _same(schema, options.weights, life)
    cut = _first_judge(world, options.judges, options.pretrain is not None)
    worlds = int(world[-1]) + 1 - options.judges
    if options.pretrain is not None:
        older, told = pretrained(options.pretrain, schema)
        rows, captions = np.concatenate([older, rows]), told + captions
        cut += len(older)
    say(f'{cut} moments to learn from ({worlds} worlds of {life}), {len(rows) - cut} of '
        f'{options.judges} other worlds to judge')
    vocabulary, truth = said(captions[:cut])
    state = inner_states(rows, schema)
    tokenizer, model = load_language_model(options.model)
    torch.manual_seed(options.seed)
    speaker = Speaker(model, schema, options.model)
    lesson = speaking.Lesson(state[:cut], vocabulary, truth, schema.width)
    speaker.topics = speaking.topics(captions[:cut], lesson.rarity)
    ways = speaker.read(speaking.tokens(tokenizer, lesson.ways))
    speaker.learn_words(ways)
    options.work.mkdir(parents=True, exist_ok=True)
    speaking.fit(speaker, lesson, ways, options.steps, options.seed, options.work, say)
    out = options.out or options.weights / FILE
    out.parent.mkdir(parents=True, exist_ok=True)
    speaker.save(out)
    speaker.load(out)                    # what is judged is what was written: half precision
    say(f'wrote {out}, {out.stat().st_size / 2**20:.2f} MiB')
    told = _judged(speaker, tokenizer, options, state[cut:], captions[cut:])
    told['learned'] = {'moments': cut, 'worlds': worlds, 'pretrain': options.pretrain is not None}
    told['processor_seconds'] = round(time.process_time() - start)
    write(out.with_suffix('.json'), {**provenance(
        'python -m dylora_ros reward train', seed=options.seed, steps=options.steps,
        cycles=options.cycles), **told})
    print(json.dumps(told))
    return 0


def check(options) -> int:
    """Judge both models on a told life's last worlds."""
    rows, captions, world, schema = recorded(options.life)
    _same(schema, options.weights, options.life)
    speaker, tokenizer = _speaker(schema, options)
    cut = _first_judge(world, options.judges, True)
    print(json.dumps(_judged(speaker, tokenizer, options, inner_states(rows[cut:], schema),
                             captions[cut:])))
    return 0


def _judged(speaker: Speaker, tokenizer, options, state: np.ndarray,
            captions: list[list[str]]) -> dict:
    """Return both models' order of moments, by statements and by thing, and their agreement."""
    state, captions = state[::EVERY], captions[::EVERY]
    models = _Models(speaker, tokenizer, options.weights)
    statements = _statements(options)
    known = agreement.things(captions)
    told: dict = {'things': {}}
    for thing in known:
        grade = agreement.grades(captions, thing)
        chosen = agreement.drawn(grade, options.moments, options.seed)
        told['things'][thing] = {
            name: agreement.agree(models.of([tuple(good)], [tuple(bad)]), state[chosen],
                                  grade[chosen])
            for name, (good, bad) in agreement.ways(thing).items()}
        say(f'{thing}: {json.dumps(told["things"][thing])}')
    # what the statements are about, if the truth of that is known
    about = [t for t in known if any(t in s for group in statements.good for s in group)]
    grade = agreement.grades(captions, about[0]) if about else None
    chosen = np.arange(0, len(state), max(1, len(state) // options.moments)) if grade is None \
        else agreement.drawn(grade, options.moments, options.seed)
    told['statements'] = {
        'about': about[0] if about else None, 'digest': statements.digest,
        **agreement.agree(models.of(statements.good, statements.bad), state[chosen],
                          None if grade is None else grade[chosen])}
    told['naming'] = explaining.naming(speaker, tokenizer, state, captions, options.moments,
                                       options.seed)
    told['agreement'] = told['statements']['sentence_and_decoder']
    return told


def explain(options) -> int:
    """Say what the agent perceives in rows of its memory."""
    path = memory_dir(options.memory) / 'context.gc'
    if not path.exists():
        raise ContextError(f'{path} is missing; let the agent live first (python -m dylora_ros '
                           'run), or give its memory folder with --memory')
    with GlobalContext.read(path) as log:
        schema = log.schema
        numbers = explaining.chosen(log, options.row, options.last)
        rows = log.take(numbers)
        usual = log.take(explaining.spread(log, options.usual))
        newest = int(log.rows(log.committed - 1, log.committed)['stamp'][0])
    _same(schema, options.weights, path)
    speaker, tokenizer = _speaker(schema, options)
    statements = _statements(options)
    models = _Models(speaker, tokenizer, options.weights).of(statements.good, statements.bad)
    explaining.explain(speaker, tokenizer, models, statements, inner_states(rows, schema),
                       inner_states(usual, schema), [
                           f'row {n}, {(newest - int(row["stamp"])) * 1e-9:.2f} s before the '
                           f'newest' for n, row in zip(numbers, rows, strict=True)])
    return 0


class _Models:
    """Builds both reward models from statements.

    Raises:
        FileNotFoundError: the projector's weights are missing.

    """

    def __init__(self, speaker: Speaker, tokenizer, weights: Path):
        from dylora_ros.modalities.text import SentenceEncoder
        self._speaker, self._tokenizer = speaker, tokenizer
        path = weights / 'projector.safetensors'
        if not path.exists():
            raise FileNotFoundError(f'{path} is missing; make it with python -m dylora_ros '
                                    'pretrain')
        schema = speaker.schema
        self._projector = Projector.of(load_file(str(path)), schema.width,
                                       len(schema.modalities))
        self._sentences = SentenceEncoder()

    def of(self, good, bad) -> dict[str, RewardModel]:
        """Return both models of groups of paraphrases."""
        embed, tokens = self._sentences.embed, speaking.tokens
        return {'sentence': StatementReward(self._projector, [embed(list(g)) for g in good],
                                            [embed(list(b)) for b in bad], 0.0),
                'decoder': DecoderReward(self._speaker,
                                         [tokens(self._tokenizer, list(g)) for g in good],
                                         [tokens(self._tokenizer, list(b)) for b in bad])}


def _statements(options) -> Statements:
    return Statements.load(options.statements or share_file('config/statements.yaml'))


def _speaker(schema, options) -> tuple[Speaker, object]:
    path = options.decoder or options.weights / FILE
    if not path.exists():                        # before the language model is loaded
        raise FileNotFoundError(f'{path} is missing; make it with python -m dylora_ros reward '
                                'train')
    tokenizer, model = load_language_model(options.model)
    speaker = Speaker(model, schema, options.model)
    speaker.load(path)
    return speaker, tokenizer


def _first_judge(world: np.ndarray, judges: int, all_may: bool = False) -> int:
    """Return the first row of the last ``judges`` worlds.

    Raises:
        ValueError: not so many worlds, or none left (where not ``all_may`` judge).

    """
    count = int(world[-1]) + 1
    if not 0 < judges < count + all_may:
        raise ValueError(f'{judges} of {count} worlds cannot judge; at least one must, and one '
                         'be left to learn from')
    return int(np.searchsorted(world, count - judges))


def _same(schema, weights: Path, where: Path):
    """Raise SchemaError where a log was made by other senses than those of ``weights``."""
    expected = registry.row_schema(schema.actions, weights)
    if schema != expected:
        raise SchemaError(f'{where} was lived with senses {schema.adapters or "unknown"}, '
                          f'{weights} holds {expected.adapters}; give the --weights that it was '
                          'lived with, or live anew')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='dylora_ros reward', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    for name, run, doc in (('train', train, 'fit the decoder model\'s small weights'),
                           ('explain', explain, 'say what the agent perceives and what moved the '
                            'reward'),
                           ('check', check, 'how well the two models agree, and with the truth')):
        command = commands.add_parser(name, help=doc, description=doc)
        command.set_defaults(run=run)
        command.add_argument('--weights', type=Path, default=registry.SHIPPED,
                             help='folder of the senses\' low-rank weights (the shipped ones)')
        command.add_argument('--model', default=SOURCE,
                             help='language model: package:, hub: or file: (%(default)s)')
        command.add_argument('--statements', type=Path,
                             help='YAML of statements (the installed config/statements.yaml)')
        if name != 'train':
            command.add_argument('--decoder', type=Path,
                                 help=f'the decoder model\'s small weights (WEIGHTS/{FILE})')
        if name != 'explain':
            command.add_argument('--judges', type=int, default=3,
                                 help='last worlds of the life, not learned from')
            command.add_argument('--moments', type=int, default=240, help='to judge, at most')
            command.add_argument('--seed', type=int, default=0)
    command = commands.choices['train']
    command.add_argument('--work', type=Path, default=Path('reward'),
                         help='folder of life and checkpoints; goes on where it was stopped')
    command.add_argument('--life', type=Path,
                         help='folder of a told life to learn from, instead of a new one')
    command.add_argument('--pretrain', type=Path,
                         help='work folder of "pretrain": its told babble and life also teach')
    command.add_argument('--worlds', type=int, default=8, help='to live and learn in')
    command.add_argument('--cycles', type=int, default=1500, help='in each world')
    command.add_argument('--steps', type=int, default=speaking.STEPS)
    command.add_argument('--out', type=Path, help=f'file to write (WEIGHTS/{FILE})')
    commands.choices['check'].add_argument('--life', type=Path, default=Path('reward/life'),
                                           help='folder of a told life (%(default)s)')
    command = commands.choices['explain']
    command.add_argument('--memory', default='', help='folder of the memory (XDG data folder)')
    command.add_argument('--row', type=int, nargs='*', default=[], help='numbers of rows')
    command.add_argument('--last', type=int, default=1, help='newest rows, where no --row')
    command.add_argument('--usual', type=int, default=48,
                         help='rows of the memory that tell what is usual')
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns 0, or 2 if it cannot be done, with the reason."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    try:
        return options.run(options)
    except (ContextError, SchemaError, StatementError, WeightsError, OSError,
            ValueError) as error:
        print(f'dylora_ros reward: {error}', file=sys.stderr)
        return 2


if __name__ == '__main__':
    sys.exit(main())
