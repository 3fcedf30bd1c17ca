"""Shapes of the senses are known before any framework or weight is loaded."""

import subprocess
import sys

import pytest

from dylora_ros.modalities.specs import ORDER, specs


def run(code, root):
    """Run Python in a process of its own; return what it printed."""
    done = subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_shapes_and_row_need_no_torch(root):
    code = ('import sys\n'
            'from dylora_ros.modalities import registry\n'
            'print(registry.row_schema(2).width)\n'
            'print("torch" in sys.modules, "transformers" in sys.modules)\n')
    assert run(code, root).split() == ['96', 'False', 'False']


def test_graph_says_all_parameters_without_torch(root):
    pytest.importorskip('rclpy')
    code = ('import sys\n'
            'from dylora_ros import graph\n'
            'print(len(graph.tables()) == len(graph.NODES))\n'
            'print("torch" in sys.modules)\n')
    assert run(code, root).split() == ['True', 'False']


def test_graph_can_be_imported_without_ros(root):
    code = ('import sys\n'
            'from dylora_ros import graph\n'
            'print(any(m.split(".")[0] == "rclpy" for m in sys.modules))\n')
    assert run(code, root).split() == ['False']


def test_order_of_the_composite_is_that_of_the_specs():
    assert tuple(specs(2)) == ORDER
    assert all(spec.name == name for name, spec in specs(2).items())


@pytest.mark.parametrize('name', ORDER)
def test_every_sense_has_at_least_four_adapted_sites(name):
    assert specs(2)[name].sites >= 4


@pytest.mark.parametrize('rank', [1, 4, 8])
def test_rank_is_the_same_for_all(rank):
    assert {spec.rank for spec in specs(2, rank).values()} == {rank}


def test_words_alone_are_not_decoded():
    assert [n for n, spec in specs(2).items() if not spec.decodes] == ['text']
