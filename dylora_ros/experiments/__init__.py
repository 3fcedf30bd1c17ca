"""The paper's and our evidence: ``python -m dylora_ros experiment NAME``."""

from dylora_ros.command import dispatch

EXPERIMENTS = {
    'mrpc': ('dylora_ros.experiments.mrpc',
             'Figure 5: LoRA, global context, blinded with and without it'),
    'recall': ('dylora_ros.experiments.recall',
               'a cue seen once, asked for up to a million cycles later'),
    'passkey': ('dylora_ros.experiments.passkey',
                'facts in up to a million tokens of filler, read by the frozen text model'),
    'forgetting': ('dylora_ros.experiments.forgetting', 'the forgetting curves of a trained q'),
    'dreams': ('dylora_ros.experiments.dreams', 'dreams beside what really followed'),
    'nrem': ('dylora_ros.experiments.nrem',
             'what one sleep teaches after lives of several lengths'),
    'coupling': ('dylora_ros.experiments.coupling',
                 'senses that help each other: coupled, late fusion, one alone, joint'),
    'ground': ('dylora_ros.experiments.ground_learn',
               'our continuous Q on Reacher, Pusher and reacher-easy at 100 k steps'),
    'life': ('dylora_ros.experiments.days',
             'days in gaze: awake, asleep, and does it look at the named toy more'),
    'lost-toy': ('dylora_ros.experiments.lost_toy',
                 'whether a toy out of the view is found, by hearing or by memory'),
    'noisy-screen': ('dylora_ros.experiments.noisy_screen',
                     'whether a screen that nothing can predict hypnotizes the curious'),
    'hypnosis': ('dylora_ros.experiments.hypnosis',
                 'whether a will that lives on curiosity stays at that screen'),
    'understand': ('dylora_ros.experiments.understand',
                   'teach the reward anew what sentences of people say'),
    'refit': ('dylora_ros.experiments.refit', 'train q anew on a recorded log'),
}


def main(arguments: list[str] | None = None) -> int:
    """Dispatch to an experiment."""
    return dispatch(EXPERIMENTS, 'python -m dylora_ros experiment NAME', arguments)
