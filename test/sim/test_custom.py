"""Any MuJoCo model through a YAML file: what is mapped works, what is wrong is named."""

import numpy as np
import pytest
import yaml

from dylora_ros.sim import worlds
from dylora_ros.sim.batch import Batch
from dylora_ros.sim.world import WorldError

MODEL = """
<mujoco model="crane">
  <worldbody>
    <light pos="0 0 3"/>
    <geom name="floor" type="plane" size="3 3 .1" rgba=".5 .6 .5 1"/>
    <camera name="corner" pos="-1.5 -1.5 1.5" xyaxes=".7 -.7 0 .35 .35 .87"/>
    <body name="tower" pos="0 0 .6">
      <joint name="turn" axis="0 0 1" damping=".5"/>
      <geom name="boom" type="capsule" fromto="0 0 0 .5 0 0" size=".04" rgba=".9 .6 .1 1"/>
      <camera name="lens" pos=".1 0 .1" xyaxes="0 -1 0 0 0 1"/>
      <site name="left" pos="0 .1 0"/>
      <site name="right" pos="0 -.1 0"/>
      <body name="hook" pos=".5 0 0">
        <joint name="lift" type="slide" axis="0 0 1" range="-.4 .1" damping="5"/>
        <geom name="hook" type="sphere" size=".05" rgba=".2 .2 .2 1"/>
        <site name="tip" pos="0 0 -.05"/>
      </body>
    </body>
    <body name="red_box" pos="1.2 0 .7">
      <freejoint name="loose"/>
      <geom name="red_box" type="box" size=".1 .1 .1" rgba=".9 .1 .1 1"/>
    </body>
  </worldbody>
  <tendon>
    <fixed name="rope"><joint joint="lift" coef="1"/></fixed>
  </tendon>
  <actuator>
    <velocity name="turn_motor" joint="turn" kv="5" ctrlrange="-1 1"/>
    <position name="lift_motor" joint="lift" kp="200"/>
    <motor name="winch" tendon="rope" ctrlrange="-1 1"/>
  </actuator>
  <keyframe>
    <key name="up" qpos="0.5 0.05 1.2 0 .7 1 0 0 0"/>
  </keyframe>
</mujoco>
"""
GOOD = {
    'model': 'crane.xml', 'camera': 'lens', 'ears': ['left', 'right'],
    'actuators': ['turn_motor', 'lift_motor'], 'limits': {'lift_motor': [-0.4, 0.1]},
    'overview': 'corner', 'keyframe': 'up', 'things': ['red_box'],
    'sounds': {'red_box': {'pitch': 300, 'harmonics': [1, 0.5], 'pulse': 2, 'loudness': 0.3}},
    'task': {'near': ['tip', 'red_box'], 'within': 0.3},
}


@pytest.fixture
def write(tmp_path):
    """Return a function that writes the description with changes; None leaves a key out."""
    (tmp_path / 'crane.xml').write_text(MODEL)

    def write_one(**changes):
        content = {k: v for k, v in {**GOOD, **changes}.items() if v is not None}
        path = tmp_path / 'world.yaml'
        path.write_text(yaml.safe_dump(content))
        return path
    return write_one


@pytest.fixture
def make(write):
    made = []

    def make_one(seed=0, **changes):
        made.append(worlds.make(str(write(**changes)), seed))
        return made[-1]
    yield make_one
    for world in made:
        world.close()


def test_names_and_limits_are_those_of_the_file(make):
    world = make()
    assert world.actuators == ('turn_motor', 'lift_motor')
    assert world.names == ('turn', 'lift')
    np.testing.assert_array_equal(world.limits, [[-1, 1], [-0.4, 0.1]])


def test_commands_reach_their_own_actuators_in_the_order_of_the_file(make):
    world = make(actuators=['lift_motor', 'turn_motor'])
    world.apply(np.array([-0.3, 5.0]))
    np.testing.assert_array_equal(world.data.ctrl, [1.0, -0.3, 0.0])
    world.step(1.0)
    lift, turn = world.joints().position
    assert turn > 0.5 + 0.5
    assert lift < 0


def test_it_starts_from_the_keyframe(make):
    np.testing.assert_allclose(make().joints().position, [0.5, 0.05])
    np.testing.assert_allclose(make(keyframe=None).joints().position, 0)


def test_the_eye_is_the_named_camera(make):
    world = make()
    np.testing.assert_array_equal(world.render(48, 48), world.render(48, 48, 'lens'))
    assert world.overview == 'corner'
    assert make(overview=None).overview == 'lens'


def test_camera_and_ears_can_be_mounted_on_a_body(make):
    world = make(camera={'body': 'tower', 'pos': [0.1, 0, 0.1], 'fovy': 45},
                 ears={'body': 'tower', 'apart': 0.2}, actuators=['turn_motor'], limits=None)
    lens = make()
    np.testing.assert_array_equal(world.render(48, 48), lens.render(48, 48, 'lens'))
    ears, named = world.sources()[0].ears, lens.sources()[0].ears
    np.testing.assert_allclose(ears, named, atol=1e-9)


def test_a_mounted_camera_looks_where_its_axes_say(make):
    forward = make(camera={'body': 'tower', 'pos': [0, 0, 0.2]})
    backward = make(camera={'body': 'tower', 'pos': [0, 0, 0.2],
                            'xyaxes': [0, 1, 0, 0, 0, 1]}, keyframe=None)
    assert forward.captions()[0] != 'The red box is out of my view.'
    assert backward.captions()[0] == 'The red box is out of my view.'


def test_sound_comes_from_the_sounding_body(make):
    world = make(keyframe=None)
    world.data.joint('turn').qpos[0] = 1.2          # the box is then on the right
    world.step(0.004)
    world.listen(640)
    left, right = np.abs(world.listen(6400)).mean(1)
    assert right > 1.2 * left
    assert 'I hear the red box from the right.' in world.captions()


def test_the_task_is_nearness(make):
    world = make(keyframe=None)
    assert not world.success()
    assert 'The tip is far from the red box.' in world.captions()
    far = world.score()
    near = make(keyframe=None, task={'near': ['tip', 'red_box'], 'within': 0.9})
    assert near.success()
    assert 0 < far < near.score() == 1


def test_without_task_and_sounds_there_is_only_the_body(make):
    world = make(task=None, sounds=None, things=None)
    assert world.captions() == []
    assert world.success() is False
    assert world.score() == 0
    assert world.sources() == []
    assert np.abs(world.listen(640)).max() < 2e-3


def test_a_fallen_box_is_heard(make):
    world = make(sounds=None)
    world.step(0.1)
    world.listen(640)
    world.step(0.6)
    assert np.abs(world.listen(6400)).max() > 0.05


def test_a_tendon_is_no_trouble_where_joints_are_listed(make):
    world = make(actuators=['winch'], limits=None, joints=['lift', 'turn'])
    assert world.names == ('lift', 'turn')
    assert world.actuators == ('winch',)


def test_a_batch_of_them(write):
    batch = Batch(str(write()), 2, size=16)
    batch.reset()
    for _ in range(5):
        senses = batch.step(np.zeros((2, 2)))
    np.testing.assert_array_equal(senses.joints[0], senses.joints[1])
    batch.close()


@pytest.mark.parametrize(('changes', 'words'), [
    ({'camera': 'eye'}, 'camera.*eye.*lens'),
    ({'ears': ['left', 'top']}, 'ears.*top.*left'),
    ({'actuators': ['jump']}, 'actuators.*jump.*turn_motor'),
    ({'limits': {'winch': [0, 1]}}, 'limits.*winch.*lift_motor'),
    ({'joints': ['knee']}, 'joints.*knee.*turn'),
    ({'overview': 'roof'}, 'overview.*roof.*corner'),
    ({'keyframe': 'home'}, 'keyframe.*home.*up'),
    ({'things': ['cat']}, 'things.*cat.*red_box'),
    ({'sounds': {'cat': {'pitch': 100}}}, 'sounds.*cat.*red_box'),
    ({'task': {'near': ['tip', 'cat'], 'within': 1}}, 'task: near.*cat.*hook'),
    ({'camera': {'body': 'nose'}}, 'camera: body.*nose.*tower'),
    ({'ears': {'body': 'nose'}}, 'ears: body.*nose.*tower')])
def test_a_name_that_the_model_has_not_is_answered_with_those_it_has(make, changes, words):
    with pytest.raises(WorldError, match=f'world.yaml: {words}'):
        make(**changes)


@pytest.mark.parametrize(('changes', 'words'), [
    ({'limits': None}, 'lift_motor.*no ctrlrange.*limits'),
    ({'actuators': None}, 'winch.*no joint of its own'),
    ({'joints': ['loose']}, 'loose.*free or ball'),
    ({'model': 'castle.xml'}, 'no file.*castle.xml'),
    ({'model': None}, 'model is missing'),
    ({'camera': None, 'ears': None}, 'camera, ears is missing'),
    ({'eyes': 'lens'}, 'unknown eyes.*camera'),
    ({'camera': {'body': 'tower', 'fov': 3}}, 'unknown fov.*fovy'),
    ({'camera': {'body': 'tower', 'fovy': 200}}, 'fovy is 200.*below 170'),
    ({'camera': {'body': 'tower', 'pos': [1, 2]}}, 'pos is .*3 numbers'),
    ({'camera': {'pos': [1, 2, 3]}}, 'body is missing'),
    ({'ears': 'left'}, 'ears is .left.*2 names'),
    ({'ears': ['left']}, '2 names'),
    ({'ears': ['left', 'left']}, '2 names'),
    ({'actuators': []}, 'list of different names'),
    ({'limits': {'lift_motor': [1, -1]}}, r'\[least, greatest\]'),
    ({'limits': {'lift_motor': [0, 'high']}}, 'high.*expected a number'),
    ({'sounds': {'red_box': {'loudness': 1}}}, 'pitch is missing'),
    ({'sounds': {'red_box': 300}}, 'expected a mapping'),
    ({'sounds': {'red_box': {'pitch': -3}}}, 'pitch is -3.*above 0'),
    ({'sounds': {'red_box': {'pitch': 9}, 'hook': {'pitch': 9}}}, 'same voice'),
    ({'task': {'near': ['tip', 'hook']}}, 'within is missing'),
    ({'task': {'near': ['tip', 'hook'], 'within': True}}, 'within is True.*number')])
def test_a_faulty_description_is_an_error_that_names_the_key(make, changes, words):
    with pytest.raises(WorldError, match=words):
        make(**changes)


@pytest.mark.parametrize(('text', 'words'), [
    ('[1, 2', 'not YAML'), ('just words', 'expected a mapping'), ('', 'expected a mapping')])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text, words):
    path = tmp_path / 'odd.yaml'
    path.write_text(text)
    with pytest.raises(WorldError, match=f'odd.yaml.*{words}'):
        worlds.make(str(path))


def test_a_missing_file_is_named():
    with pytest.raises(WorldError, match='nowhere.yaml'):
        worlds.make('nowhere.yaml')


def test_a_broken_model_is_named(write, tmp_path):
    path = write()
    (tmp_path / 'crane.xml').write_text('<mujoco><worldbody><geom type="egg"/></worldbody>'
                                        '</mujoco>')
    with pytest.raises(WorldError, match='crane.xml'):
        worlds.make(str(path))


@pytest.mark.parametrize('line', ['model: &a crane.xml\nmodle: *a', 'model: crane.xml\n1: 2'])
def test_odd_keys_are_named(tmp_path, line):
    (tmp_path / 'crane.xml').write_text(MODEL)
    path = tmp_path / 'odd.yaml'
    path.write_text(f'{line}\ncamera: lens\nears: [left, right]\n')
    with pytest.raises(WorldError, match='unknown'):
        worlds.make(str(path))
