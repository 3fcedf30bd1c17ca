"""``python -m dylora_ros docs``: what is generated from the declarations."""

import argparse

from dylora_ros import graph


def parameters_yaml() -> str:
    """Return config/agent.yaml: every parameter with unit, range and default."""
    from dylora_ros.ros.parameters import to_yaml
    return to_yaml(graph.tables())


def nodes_page() -> str:
    """Return docs/nodes.md: the nodes with their topics, services and parameters."""
    from dylora_ros.ros.interfaces import heartbeat_topic, TOPICS
    out = ['# Nodes', '', 'Made by `make docs` from the declarations in the code; do not edit.',
           '', 'All names are relative to the namespace given at launch. Every node is a '
           'lifecycle node and beats on `heartbeat/<node>` (`std_msgs/Empty`, liveliness 0.8 s).',
           '', '## Topics', '',
           '| topic | type | quality of service | what |', '|---|---|---|---|']
    for name, topic in TOPICS.items():
        out.append(f'| `{name}` | `{type_name(topic.type)}` | {qos_words(topic.qos)} '
                   f'| {topic.doc} |')
    for name in graph.NODES:
        node = graph.node_class(name)
        out += ['', f'## {name}', '', node.DOC, '',
                f'- publishes: {_list((*node.PUBLISHES, heartbeat_topic(name)))}',
                f'- subscribes: {_list(node.SUBSCRIBES)}']
        for service, doc in node.SERVICES.items():
            out.append(f'- service `{service}`: {doc}')
        out += ['', '| parameter | default | range | meaning |', '|---|---|---|---|']
        for p in node.PARAMETERS:
            out.append(f'| `{p.name}` | `{p.default!r}` | {p.range_text()} | {p.doc} |')
    return '\n'.join(out)


def type_name(message: type) -> str:
    """Return the ROS name of a message type, such as std_msgs/msg/String."""
    package = message.__module__.split('.')[0]
    return f'{package}/msg/{message.__name__}'


def qos_words(profile) -> str:
    """Return a quality of service in words."""
    words = [profile.reliability.name.lower().replace('_', ' '), f'depth {profile.depth}']
    if profile.durability.name == 'TRANSIENT_LOCAL':
        words.append('latched')
    return ', '.join(words)


def _list(topics) -> str:
    return ', '.join(f'`{t}`' for t in topics) or 'nothing'


def main(arguments: list[str] | None = None):
    """Print a page."""
    parser = argparse.ArgumentParser(prog='dylora_ros docs', description=__doc__)
    parser.add_argument('page', choices=('yaml', 'nodes'))
    options = parser.parse_args(arguments)
    print({'yaml': parameters_yaml, 'nodes': nodes_page}[options.page]())
