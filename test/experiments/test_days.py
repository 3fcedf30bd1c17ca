"""What can be asked of ``experiment life``."""

import pytest

from dylora_ros.experiments.days import main


@pytest.mark.parametrize(('asked', 'told'), [
    (['--young', '100'], '--young 100: a sleep learns from 128 cycles at least'),
    (['--day', '20'], '--day 20: a sleep learns from 128 cycles at least'),
    (['--scene', 'forage'], 'the weights that ship are of gaze')])
def test_what_cannot_be_lived_is_told_at_the_start(asked, told, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([*asked, '--work', str(tmp_path / 'w'), '--out', str(tmp_path / 'o.json')])
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
