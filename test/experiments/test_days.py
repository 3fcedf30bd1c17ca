"""What can be asked of ``experiment life``."""

from types import SimpleNamespace

import pytest

from dylora_ros.experiments.days import differences, main, SETTINGS
from dylora_ros.modalities import registry


@pytest.mark.parametrize(('asked', 'told'), [
    (['--young', '100'], '--young 100: a sleep learns from 128 cycles at least'),
    (['--day', '20'], '--day 20: a sleep learns from 128 cycles at least'),
    (['--day', '500'], '--day 500: success is told of every 150 cycles'),
    (['--statements', 'none.yaml'], 'none.yaml: no such file'),
    (['--scene', 'forage'], 'the weights that ship are of gaze')])
def test_what_cannot_be_lived_is_told_at_the_start(asked, told, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([*asked, '--work', str(tmp_path / 'w'), '--out', str(tmp_path / 'o.json')])
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(('change', 'told'), [
    ({}, []), ({'toy': 'green_cube'}, ['toy: red_ball there, green_cube asked for'])])
def test_lives_of_other_settings_are_not_gone_on_with(change, told, tmp_path):
    statements = tmp_path / 'statements.yaml'
    statements.write_text('good: [a]')
    asked = {**dict.fromkeys(SETTINGS, 1), 'toy': 'red_ball', 'statements': statements,
             'weights': registry.SHIPPED}
    assert differences(tmp_path / 'work', SimpleNamespace(**asked)) == []
    assert differences(tmp_path / 'work', SimpleNamespace(**{**asked, **change})) == told


def test_other_statements_are_other_settings(tmp_path):
    statements = tmp_path / 'statements.yaml'
    asked = SimpleNamespace(**dict.fromkeys(SETTINGS, 1), statements=statements,
                            weights=registry.SHIPPED)
    for wish, count in (('a', 0), ('a', 0), ('b', 1)):
        statements.write_text(f'good: [{wish}]')
        assert len(differences(tmp_path / 'work', asked)) == count


def test_lives_that_do_not_tell_their_settings_are_not_gone_on_with(tmp_path):
    statements = tmp_path / 'statements.yaml'
    statements.write_text('good: [a]')
    (tmp_path / 'full-0').mkdir()
    (tmp_path / 'full-0' / 'days.json').write_text('[]')
    asked = SimpleNamespace(**dict.fromkeys(SETTINGS, 1), statements=statements,
                            weights=registry.SHIPPED)
    assert len(differences(tmp_path, asked)) == 1
    assert not (tmp_path / 'settings.json').exists()
