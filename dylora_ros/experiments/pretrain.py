"""Make the shipped weights: babble in a world, fit A, B, decoders, q and the reward projector.

1. Babble: random smooth commands; record frames, sound, joints and captions.
2. Body: forward and inverse model from the babble.
3. A and centre of every site: the principal directions of its pooled input, whitened.
4. q on the recorded LR states.
5. Decoders (and B of vision) to predict the next input under q's own predictions.
6. A second life with everything in the loop; q and the projector are fitted on its log.

Resumable: every step leaves a file in the work folder and is skipped when it is there.
"""

import argparse
import json
from pathlib import Path
import time

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

from dylora_ros.core.agent import Agent
from dylora_ros.core.context import GlobalContext
from dylora_ros.core.cycle import Composer
from dylora_ros.core.motor import Exploration, Guard, Limits
from dylora_ros.core.predictor import Predictor, QNetwork
from dylora_ros.core.reward import Projector
from dylora_ros.core.sleep import Experience, train
from dylora_ros.modalities import registry
from dylora_ros.modalities.audio import encode_mel
from dylora_ros.modalities.specs import body_signal, EARS, ORDER
from dylora_ros.modalities.vision import pixels
from dylora_ros.sim.worlds import make as make_world

PERIOD = 0.04
VISION_EVERY, AUDIO_EVERY = 4, 5
SLEW = 12.0


def say(text: str):
    """Print progress at once."""
    print(f'[pretrain {time.strftime("%H:%M:%S")}] {text}', flush=True)


def guard_for(world) -> Guard:
    """Return the guard of a world's actuators."""
    low, high = world.limits.T
    return Guard(Limits(low, high, np.full(len(low), SLEW)), PERIOD)


def babble(world, cycles: int, seed: int) -> dict[str, np.ndarray]:
    """Move at random and record what comes in, one entry a cycle."""
    rng = np.random.default_rng(seed)
    guard, joints = guard_for(world), len(world.names)
    frames, sounds, signals, commands = [], [], [], []
    captions: list[list[str]] = []
    wish, centre = np.zeros(joints), np.zeros(joints)
    world.reset()
    for i in range(cycles):
        if i % 50 == 0:         # wander around a changing centre, so that all angles are seen
            centre = rng.uniform(-0.6, 0.6, joints)
        state = world.joints()
        signals.append(body_signal(state.position, state.velocity, guard.normalise(guard.last)))
        sounds.append(world.listen(round(16000 * PERIOD)))
        if i % VISION_EVERY == 0:
            frames.append(world.render())
        captions.append(world.captions())
        pull = np.tanh(0.6 * (centre - state.position / np.array([2.2, 0.6][:joints])))
        wish = 0.93 * wish + 0.25 * rng.standard_normal(joints)
        commands.append(np.clip(wish + 0.5 * pull, -1, 1))
        applied = guard.command(commands[-1])
        commands[-1] = guard.normalise(applied)
        world.apply(applied)
        world.step(PERIOD)
    return {'frames': np.stack(frames), 'sounds': np.stack(sounds).astype(np.float16),
            'signals': np.stack(signals), 'commands': np.stack(commands).astype(np.float32),
            'captions': np.array([json.dumps(c) for c in captions])}


def whiten(adapter, inputs: dict[str, np.ndarray]):
    """Set A and centre of every site to the whitened principal directions of its inputs."""
    for name, layer in adapter.layers.items():
        data = inputs[name].astype(np.float64)
        mean = data.mean(0)
        _, values, directions = np.linalg.svd(data - mean, full_matrices=False)
        scale = values[:layer.rank] / np.sqrt(len(data)) + 1e-6
        a = directions[:layer.rank] / scale[:, None]
        with torch.no_grad():
            layer.A.copy_(torch.from_numpy(a).float().view_as(layer.A))
            layer.centre.copy_(torch.from_numpy(a @ mean).float())


def gather(adapter, runs) -> dict[str, np.ndarray]:
    """Run each thunk and collect the pooled inputs of every site."""
    kept: dict[str, list] = {name: [] for name in adapter.layers}
    for layer in adapter.layers.values():
        layer.calibrating = True
    with torch.inference_mode():
        for run in runs:
            run()
            for name, layer in adapter.layers.items():
                kept[name].append(layer.inputs.numpy().copy())
    for layer in adapter.layers.values():
        layer.calibrating, layer.inputs = False, None
    return {name: np.concatenate(v) for name, v in kept.items()}


def fit(module: nn.Module, loss, steps: int, lr: float, parameters=None, label: str = ''):
    """Adam with cosine decay on ``loss(step)``; prints a few losses."""
    parameters = list(parameters if parameters is not None else module.parameters())
    for p in parameters:
        p.requires_grad_(True)
    optimizer = torch.optim.Adam(parameters, lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    shown = 0.0
    for step in range(steps):
        value = loss(step)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        shown += value.item()
        if (step + 1) % max(1, steps // 5) == 0:
            say(f'{label} {step + 1}/{steps} loss {shown / max(1, steps // 5):.5f}')
            shown = 0.0
    for p in parameters:
        p.requires_grad_(False)


def fit_body(body, signals: np.ndarray, commands: np.ndarray, rng):
    """Forward model, whitened A, then the inverse model."""
    now = torch.from_numpy(signals[:-1])
    after = torch.from_numpy(signals[1:])

    def forward_loss(_):
        i = rng.integers(0, len(now), 256)
        body.adapter.set_state(None, gamma=0.0)
        return 100 * F.mse_loss(body.encoder(now[i]), after[i] - now[i])

    fit(body.encoder, forward_loss, 3000, 2e-3,
        [p for n, p in body.encoder.named_parameters() if '.base.' in n], 'body forward')
    body.adapter.set_state(None, gamma=0.0)
    whiten(body.adapter, gather(body.adapter, [lambda: body.encoder(now)]))
    body.encoder(now)
    x = body.adapter.read_x().detach()
    command = torch.from_numpy(commands[:-1])

    def inverse_loss(_):
        i = rng.integers(0, len(now) - 1, 256)
        noisy = x[i + 1] + 0.1 * torch.randn_like(x[i])
        return F.mse_loss(body.decoder(now[i], noisy), command[i])

    fit(body.decoder, inverse_loss, 3000, 2e-3, label='body inverse')


def hear(audio, sounds: np.ndarray):
    """Yield (cycle, log-mel of the window, target spectrum of this hop) every AUDIO_EVERY."""
    wave = sounds.astype(np.float32).transpose(1, 0, 2).reshape(EARS, -1)
    size, length = sounds.shape[2], audio._sound.shape[1]
    for i in range(AUDIO_EVERY - 1, len(sounds), AUDIO_EVERY):
        end = (i + 1) * size
        if end >= length:
            yield i, audio.log_mel(torch.from_numpy(wave[:, end - length:end].copy()))


def first_states(senses, data, folder: Path):
    """Whiten vision, audio and text; return x of every sense on the babble, by cycle."""
    vision, audio, text = senses['vision'], senses['audio'], senses['text']
    vision.adapter.set_state(None, gamma=0.0)
    frames = [pixels(f) for f in data['frames']]
    batches = [torch.cat(frames[i:i + 16]) for i in range(0, len(frames), 16)]
    say(f'vision: {len(frames)} frames')
    whiten(vision.adapter, gather(
        vision.adapter, [lambda b=b: vision.encoder(b) for b in batches]))
    mels = list(hear(audio, data['sounds']))
    audio.adapter.set_state(None, gamma=0.0)
    say(f'audio: {len(mels)} windows')
    whiten(audio.adapter, gather(
        audio.adapter, [lambda m=m: encode_mel(audio.encoder, m) for _, m in mels]))
    sentences = sorted({s for c in data['captions'] for s in json.loads(c)})
    text.adapter.set_state(None, gamma=0.0)
    whiten(text.adapter, gather(
        text.adapter, [lambda s=s: text.sentences.forward([s]) for s in sentences]))
    for name, sense in senses.items():
        sense.save(folder / f'{name}.safetensors')


def live(agent: Agent, world, cycles: int, caption: list) -> dict:
    """Let an agent live in lockstep; ``caption`` takes the captions of every row.

    Returns the mean squared error of every sense's next-input prediction, and that of "nothing
    changes" on the same inputs.
    """
    start = time.time()
    errors: dict[str, list] = {n: [] for n in agent.senses if agent.senses[n].spec.decodes}
    last: dict[str, np.ndarray] = {}
    world.reset()
    sound = []
    for i in range(cycles):
        state = world.joints()
        signals = {'body': body_signal(state.position, state.velocity,
                                       agent.guard.normalise(agent.guard.last))}
        sound.append(world.listen(round(16000 * PERIOD)))
        if i % VISION_EVERY == 0:
            signals['vision'] = world.render()
        if i % AUDIO_EVERY == AUDIO_EVERY - 1:
            signals['audio'] = np.concatenate(sound, 1)
            sound = []
        said = world.captions()
        caption.append(said)
        if i % 200 == 100:             # a person names something true now and then
            signals['text'] = said[(i // 200) % len(said)]
        for name in errors:
            if name in signals and agent.senses[name].expected is not None:
                target = agent.senses[name].target(signals[name])
                if name in last:
                    errors[name].append([
                        float(np.mean((target - agent.senses[name].expected) ** 2)),
                        float(np.mean((target - last[name]) ** 2))])
                last[name] = target
        world.apply(agent.step(int(world.time * 1e9), signals))
        world.step(PERIOD)
        if i % 2000 == 1999:
            say(f'life {i + 1}/{cycles}, {1e3 * (time.time() - start) / (i + 1):.1f} ms a cycle')
    means = {n: np.mean(e, 0) for n, e in errors.items()}
    return {n: {'predicted': float(m[0]), 'unchanged': float(m[1])} for n, m in means.items()}


def fit_decoders(senses, agent_rows, data, vision_b: bool, rng):
    """Fit the decoders (and B of vision) under q's predictions recorded in the log."""
    schema, rows = agent_rows
    vision, audio = senses['vision'], senses['audio']
    q_v = torch.from_numpy(rows['q'][:, schema.slices['vision']].astype(np.float32)).view(
        -1, *schema.modalities['vision'])
    q_a = torch.from_numpy(rows['q'][:, schema.slices['audio']].astype(np.float32)).view(
        -1, *schema.modalities['audio'])
    frames = torch.from_numpy(np.stack([vision.target(f) for f in data['frames']]))
    halfway = _cache_blocks(vision, data['frames'])
    count = min(len(frames), len(rows) // VISION_EVERY)

    def vision_loss(step):
        i = rng.integers(1, count - 1, 12)
        state = q_v[i * VISION_EVERY - 1]
        vision.adapter.set_state(state, gamma=0.0)
        hidden = halfway[i].float()
        if step < vision_steps // 3 or not vision_b:       # the decoder first, then B with it
            with torch.no_grad():
                tokens = _upper_blocks(vision, hidden)
        else:
            tokens = _upper_blocks(vision, hidden)
        x = vision.adapter.read_x()
        seen = vision.decoder(tokens[:, 1:], frames[i], q_v[i * VISION_EVERY], x.detach())
        return 100 * F.mse_loss(seen, frames[i + 1])

    vision_steps = 1500
    parameters = list(vision.decoder.parameters())
    if vision_b:
        for layer in vision.adapter.layers.values():
            parameters.append(layer.B)
    fit(vision.decoder, vision_loss, vision_steps, 1.5e-3, parameters, 'vision decoder')

    mels = list(hear(audio, data['sounds']))
    cached = []
    hop = audio.hop // 160
    with torch.inference_mode():
        for cycle, mel in mels:
            audio.adapter.set_state(q_a[cycle].view(EARS, -1, q_a.shape[2]), gamma=0.0)
            tokens = encode_mel(audio.encoder, mel)
            x = audio.adapter.read_x().reshape(-1, q_a.shape[2])
            means = torch.stack([mel[:, :, -2 * hop:-hop].mean(2), mel[:, :, -hop:].mean(2)], 1)
            cached.append((tokens[:, -hop // 2:].mean(1), means, x, q_a[cycle]))
    pooled, means, x, q = (torch.stack(t).clone() for t in zip(*cached, strict=True))

    def audio_loss(_):
        i = rng.integers(0, len(pooled) - 1, 64)
        guess = audio.decoder(pooled[i], means[i], q[i], x[i])
        return 10 * F.mse_loss(guess, means[i + 1][:, :, 1])

    fit(audio.decoder, audio_loss, 3000, 1e-3, label='audio decoder')


def _cache_blocks(vision, images) -> torch.Tensor:
    """Return the hidden states before the first adapted block, (n, tokens, d) half precision."""
    out = []
    encoder = vision.encoder
    with torch.inference_mode():
        for i in range(0, len(images), 16):
            hidden = encoder.embeddings(torch.cat([pixels(f) for f in images[i:i + 16]]))
            for block in encoder.encoder.layer[:4]:
                got = block(hidden)
                hidden = got[0] if isinstance(got, tuple) else got
            out.append(hidden.half())
    return torch.cat(out).clone()


def _upper_blocks(vision, hidden: torch.Tensor) -> torch.Tensor:
    for block in vision.encoder.encoder.layer[4:]:
        got = block(hidden)
        hidden = got[0] if isinstance(got, tuple) else got
    return vision.encoder.layernorm(hidden)


def fit_projector(rows, schema, captions: list[list[str]], sentences, rng) -> Projector:
    """Fit state -> sentence space so that true captions are near and untrue ones far."""
    vocabulary = sorted({s for c in captions for s in c})
    vectors = torch.from_numpy(sentences.embed(vocabulary))
    number = {s: i for i, s in enumerate(vocabulary)}
    truth = torch.zeros(len(captions), len(vocabulary))
    for i, said in enumerate(captions):
        truth[i, [number[s] for s in said]] = 1
    bits = np.arange(len(schema.modalities))
    mask = (rows['mask'][:, None] >> bits) & 1
    state = torch.from_numpy(np.concatenate([rows['x'], mask], 1).astype(np.float32))
    projector = Projector(schema.width, len(bits))
    cut = int(0.9 * len(state))

    def loss(_):
        # each true sentence against all untrue ones: they differ in a word, so must the scores
        i = rng.integers(0, cut, 256)
        score = 25 * projector(state[i] + 0.05 * torch.randn_like(state[i])) @ vectors.T
        untrue = score.masked_fill(truth[i] > 0, float('-inf')).logsumexp(1, keepdim=True)
        return (truth[i] * F.softplus(untrue - score)).sum(1).mean()

    fit(projector, loss, 3000, 1e-3, label='projector')
    with torch.inference_mode():
        score = (projector(state[cut:]) @ vectors.T).numpy()
    for name in ('The red ball is in the middle of my view.',
                 'The red ball is out of my view.'):
        if name in number:
            true = truth[cut:, number[name]].numpy()
            say(f'held-out AUC of {name!r}: {_auc(score[:, number[name]], true):.3f}')
    return projector


def _auc(score: np.ndarray, true: np.ndarray) -> float:
    rank = np.argsort(np.argsort(score)) + 1
    positive = true.sum()
    negative = len(true) - positive
    if positive * negative == 0:
        return float('nan')
    return float((rank[true > 0].sum() - positive * (positive + 1) / 2) / (positive * negative))


def fresh_agent(senses, folder: Path, name: str, cycles: int, network=None, seed: int = 0,
                noise: float = 0.7, world=None):
    """Return (agent, log) with an empty log in the work folder."""
    schema = registry.row_schema(2, folder)
    path = folder / f'{name}.gc'
    path.unlink(missing_ok=True)
    log = GlobalContext.open(path, schema, cycles)
    torch.manual_seed(seed)
    network = network or QNetwork(schema)
    body = schema.modalities['body']
    agent = Agent(senses, log, Predictor(network, log), guard_for(world),
                  Exploration(body[0] * body[1], noise, period=PERIOD, seed=seed))
    return agent, log


def replay_rows(senses, data, folder: Path):
    """Put the babble through the encoders (no bias yet) into a log."""
    schema = registry.row_schema(2, folder)
    path = folder / 'babble.gc'
    path.unlink(missing_ok=True)
    log = GlobalContext.open(path, schema, len(data['signals']))
    composer = Composer(schema)
    for i in range(len(data['signals'])):
        stamp = int((i + 1) * PERIOD * 1e9)
        feed = {'body': data['signals'][i]}
        if i % VISION_EVERY == 0:
            feed['vision'] = data['frames'][i // VISION_EVERY]
        if i % AUDIO_EVERY == AUDIO_EVERY - 1:
            part = data['sounds'][i - AUDIO_EVERY + 1:i + 1].astype(np.float32)
            feed['audio'] = np.concatenate(list(part), 1)
        for name, signal in feed.items():
            percept = senses[name].observe(signal)
            composer.put(name, percept.x, stamp, percept.surprise)
        row = composer.compose(stamp)
        row['action'] = data['commands'][i]
        log.append_row(row)
    return log


def main(arguments: list[str] | None = None):
    """Run the steps; see the module."""
    parser = argparse.ArgumentParser(prog='dylora_ros pretrain', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, default=Path('pretrain'))
    parser.add_argument('--out', type=Path, default=registry.SHIPPED)
    parser.add_argument('--cycles', type=int, default=12000)
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    options.work.mkdir(parents=True, exist_ok=True)
    world = make_world('gaze', options.seed)
    recorded = options.work / 'babble.npz'
    if not recorded.exists():
        say('babbling')
        np.savez(recorded, **babble(world, options.cycles, options.seed))
    data = dict(np.load(recorded))
    senses = {name: registry.make(name, weights=None) for name in ORDER}
    stage = options.work / 'first'
    stage.mkdir(exist_ok=True)
    if not (stage / 'text.safetensors').exists():
        fit_body(senses['body'], data['signals'], data['commands'], rng)
        first_states(senses, data, stage)
    for name, sense in senses.items():
        sense.load(stage / f'{name}.safetensors')
    second = options.work / 'second'
    second.mkdir(exist_ok=True)
    if not (second / 'body.safetensors').exists():
        log = replay_rows(senses, data, stage)
        network = QNetwork(log.schema)
        rows = log.rows(0, log.committed)
        report = train(network, Experience(rows, log.schema), 150, options.seed, batch=128)
        say(f'q on babble: {report.as_dict()}')
        rows['q'] = predict_all(network, rows, log.schema)
        fit_decoders(senses, (log.schema, rows), data, True, rng)
        for name, sense in senses.items():
            sense.save(second / f'{name}.safetensors')
        log.close()
    for name, sense in senses.items():
        sense.load(second / f'{name}.safetensors')
        sense.forget_expectation()
    options.out.mkdir(parents=True, exist_ok=True)
    world = make_world('gaze', options.seed + 1)
    captions: list[list[str]] = []
    agent, log = fresh_agent(senses, second, 'life', options.cycles, world=world)
    errors = live(agent, world, options.cycles, captions)
    say(f'one-step error: {errors}')
    rows = log.rows(0, log.committed)
    network = agent.predictor.network
    report = train(network, Experience(rows, log.schema), 150, options.seed, batch=128)
    say(f'q on life: {report.as_dict()}')
    projector = fit_projector(rows, log.schema, captions, senses['text'].sentences, rng)
    for name, sense in senses.items():
        sense.save(options.out / f'{name}.safetensors')
    network.save(options.out / 'q.safetensors')
    from safetensors.torch import save_file
    save_file(projector.state_dict(), str(options.out / 'projector.safetensors'))
    (options.out / 'pretrain.json').write_text(json.dumps(
        {'command': 'python -m dylora_ros pretrain', 'seed': options.seed,
         'cycles': options.cycles, 'q': report.as_dict(), 'one_step_error': errors},
        indent=1) + '\n')
    log.close()
    say(f'wrote {options.out}')


@torch.inference_mode()
def predict_all(network: QNetwork, rows: np.ndarray, schema) -> np.ndarray:
    """Return q's prediction at every row (n, w), read as in training."""
    data = Experience(rows, schema)
    data.refresh(network.eval())
    index = np.arange(len(rows))
    out = [network(*data.batch(part)).q.numpy() for part in np.array_split(
        index, max(1, len(index) // 256))]
    return np.concatenate(out)


if __name__ == '__main__':
    main()
