import pytest

pytest.importorskip('rclpy')

from dylora_ros import graph  # noqa: E402
from dylora_ros.ros.parameters import (  # noqa: E402
    overrides,
    Param,
    ParameterError,
    read_file,
)

TABLES = {
    'eye': (Param('rate', 5.0, 'Hz.', 1.0, 10.0), Param('memory', '', 'Folder.')),
    'ear': (Param('device', '', 'Device.', choices=('', 'default')),
            Param('memory', '', 'Folder.')),
}


def write(tmp_path, text):
    path = tmp_path / 'p.yaml'
    path.write_text(text)
    return path


def test_file_is_read_by_node(tmp_path):
    path = write(tmp_path, 'eye:\n  ros__parameters:\n    rate: 2.0\n')
    assert read_file(path, TABLES) == {'eye': {'rate': 2.0}}


def test_shared_keys_go_to_every_node_that_knows_them(tmp_path):
    path = write(tmp_path, '/**:\n  ros__parameters:\n    memory: /m\n    use_sim_time: true\n')
    assert read_file(path, TABLES) == {
        'eye': {'memory': '/m', 'use_sim_time': True},
        'ear': {'memory': '/m', 'use_sim_time': True}}


def test_nodes_are_found_in_any_namespace(tmp_path):
    path = write(tmp_path, '/robot1/eye:\n  ros__parameters:\n    rate: 3.0\n')
    assert read_file(path, TABLES) == {'eye': {'rate': 3.0}}


@pytest.mark.parametrize(('text', 'words'), [
    ('eye:\n  ros__parameters:\n    raet: 2.0\n', 'raet.*rate'),
    ('/**:\n  ros__parameters:\n    memmory: x\n', 'memmory'),
    ('nose:\n  ros__parameters:\n    rate: 2.0\n', 'nose.*ear, eye'),
    ('eye:\n  rate: 2.0\n', 'ros__parameters'),
    ('eye:\n  ros__parameters:\n    rate: 2\n', 'expected float'),
    ('eye:\n  ros__parameters:\n    rate: 20.0\n', '1.0 .. 10.0'),
    ('ear:\n  ros__parameters:\n    device: drum\n', 'not one of'),
    ('eye: [\n', 'cannot read'),
    ('', 'holds no parameters'),
])
def test_mistakes_in_a_file_are_named(tmp_path, text, words):
    with pytest.raises(ParameterError, match=words):
        read_file(write(tmp_path, text), TABLES)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ParameterError, match='nowhere.yaml'):
        read_file(tmp_path / 'nowhere.yaml', TABLES)


def test_rules_win_over_files_wherever_they_stand(tmp_path):
    path = write(tmp_path, 'eye:\n  ros__parameters:\n    rate: 2.0\n')
    rest, values = overrides(['-p', 'eye:rate:=4.0', '--params-file', str(path),
                              '-r', '__ns:=/a'], TABLES)
    assert rest == ['-r', '__ns:=/a']
    assert values == {'eye': {'rate': 4.0}}


def test_rule_without_a_node_goes_to_all_that_know_it():
    assert overrides(['-p', 'memory:=/m'], TABLES)[1] == {
        'eye': {'memory': '/m'}, 'ear': {'memory': '/m'}}


def test_malformed_rule_is_refused():
    with pytest.raises(ParameterError, match='name:=value'):
        overrides(['-p', 'rate=3'], TABLES)


def test_shipped_file_is_current_and_valid(root):
    from dylora_ros.docs import parameters_yaml
    path = root / 'config' / 'agent.yaml'
    assert path.read_text().strip() == parameters_yaml().strip(), 'run: make docs'
    read_file(path, graph.tables())


def test_node_page_is_current(root):
    from dylora_ros.docs import nodes_page
    page = (root / 'docs' / 'nodes.md').read_text()
    assert page.strip() == nodes_page().strip(), 'run: make docs'


@pytest.mark.parametrize('node', graph.NODES)
def test_every_parameter_is_described(node):
    for param in graph.node_class(node).PARAMETERS:
        assert param.doc.endswith('.'), f'{node}.{param.name}'
        if isinstance(param.default, (int, float)) and not isinstance(param.default, bool):
            assert param.low is not None, f'{node}.{param.name} has no range'


def test_descriptor_carries_range_and_description():
    descriptor = TABLES['eye'][0].descriptor()
    assert descriptor.description == 'Hz.'
    assert descriptor.floating_point_range[0].to_value == 10.0
    assert descriptor.read_only


@pytest.mark.parametrize('value', [[-1.0, 1], [-1, -1], [-1.0, 'a']])
def test_a_list_of_other_things_is_refused_by_name(value):
    with pytest.raises(ParameterError, match='low: .* expected float'):
        Param('low', [-2.0, -1.5], 'Least command.').check(value)


def test_a_list_of_the_right_things_is_taken():
    Param('low', [-2.0, -1.5], 'Least command.').check([-1.0])
