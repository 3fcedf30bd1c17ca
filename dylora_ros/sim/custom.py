"""Any MuJoCo model as a world, through a YAML file that maps its names (docs/worlds.md)."""

from collections.abc import Iterable
from pathlib import Path

import mujoco
import numpy as np

from dylora_ros.sim import description, view
from dylora_ros.sim.sound import Source
from dylora_ros.sim.world import World, WorldError

_JOINTS = (int(mujoco.mjtTrn.mjTRN_JOINT), int(mujoco.mjtTrn.mjTRN_JOINTINPARENT))
_SCALAR = (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))
_EYE, _EARS = 'agent_eye', ('agent_ear_left', 'agent_ear_right')    # where the file adds them


class Custom(World):
    """A world from a YAML file.

    Args:
        path: the YAML file.
        seed: of the sound's noise floor.
        options: of every world.

    Raises:
        WorldError: a faulty file, or names that the model has not; names what exists.
    """

    def __init__(self, path: str | Path, seed: int = 0, **options):
        self._said = said = description.read(path)
        if isinstance(said.camera, str):
            options.setdefault('camera', said.camera)
        else:
            options.setdefault('camera', _EYE)
        self.ears = said.ears if isinstance(said.ears, tuple) else _EARS
        super().__init__(said.model, seed, **options)

    def _load(self, path):
        spec = mujoco.MjSpec.from_file(str(path))
        said = self._said
        if not isinstance(said.camera, str):
            camera = self._mount_on(spec, 'camera', said.camera).add_camera(
                name=_EYE, pos=said.camera.pos, fovy=said.camera.fovy)
            camera.alt.type = mujoco.mjtOrientation.mjORIENTATION_XYAXES
            camera.alt.xyaxes = said.camera.xyaxes
        if not isinstance(said.ears, tuple):
            body = self._mount_on(spec, 'ears', said.ears)
            for name, side in zip(_EARS, (1, -1), strict=True):
                at = np.array(said.ears.pos) + [0, side * said.ears.apart / 2, 0]
                body.add_site(name=name, pos=at, size=[0.01] * 3, group=4)
        model = spec.compile()
        # cheap frames on a CPU, as sim/common/visual.xml says for our own scenes
        model.vis.quality.offsamples = 0
        model.vis.quality.shadowsize = 0
        return model

    def _mount_on(self, spec, key: str, mount: description.Mount):
        names = [body.name for body in spec.bodies]
        self._check(f'{key}: body', [mount.body], names)
        return spec.body(mount.body)

    def _check(self, key: str, wanted: Iterable[str], existing: Iterable[str]):
        existing = [name for name in existing if name]
        for name in wanted:
            if name not in existing:
                there = ', '.join(existing) or 'none with a name'
                raise WorldError(f'{self._said.path}: {key}: {name!r} is not in '
                                 f'{self._said.model.name}; there are: {there}')

    def _names(self, kind: str) -> list[str]:
        """Return the names of all elements of a kind (``camera``, ``site``, ...)."""
        count = {'camera': self.model.ncam, 'site': self.model.nsite, 'body': self.model.nbody,
                 'geom': self.model.ngeom, 'joint': self.model.njnt, 'actuator': self.model.nu,
                 'key': self.model.nkey}[kind]
        return [getattr(self.model, kind)(i).name for i in range(count)]

    def _choose_actuators(self) -> list[int]:
        said = self._said
        self._check('camera', [self.camera], self._names('camera'))
        self._check('ears', self.ears, self._names('site'))
        self._check('overview', [said.overview] if said.overview else [], self._names('camera'))
        self._check('keyframe', [said.keyframe] if said.keyframe else [], self._names('key'))
        self._check('sounds', said.sounds, self._names('body'))
        self._check('things', said.things, self._names('body'))
        self.overview = said.overview or self.camera
        # sites are the most exact: they win over a body or geom of the same name
        self._kinds = {name: kind for kind in ('geom', 'body', 'site')
                       for name in self._names(kind)}
        self._check('task: near', said.task.near if said.task else (), self._kinds)
        names = self._names('actuator')
        if not names:
            raise WorldError(f'{said.path}: {said.model.name} has no actuators')
        self._check('actuators', said.actuators or (), names)
        chosen = list(range(len(names))) if said.actuators is None else [
            names.index(name) for name in said.actuators]
        if any(not names[i] for i in chosen):
            raise WorldError(f'{said.path}: actuators: {said.model.name} has some without a name; '
                             'name them there, or list here those to use')
        return chosen

    def _choose_limits(self) -> np.ndarray:
        said, limits = self._said, []
        self._check('limits', said.limits, self.actuators)
        for i, name in zip(self._commanded, self.actuators, strict=True):
            if name in said.limits:
                limits.append(said.limits[name])
            elif self.model.actuator_ctrllimited[i]:
                limits.append(self.model.actuator_ctrlrange[i])
            else:
                raise WorldError(f'{said.path}: actuator {name!r} has no ctrlrange in '
                                 f'{said.model.name}; give limits: {{{name}: [least, greatest]}}')
        return np.array(limits, float)

    def _choose_joints(self) -> list:
        said = self._said
        if said.joints is not None:
            self._check('joints', said.joints, self._names('joint'))
            joints = [self.model.joint(name) for name in said.joints]
        else:
            for i, name in zip(self._commanded, self.actuators, strict=True):
                if self.model.actuator_trntype[i] not in _JOINTS:
                    raise WorldError(f'{said.path}: actuator {name!r} drives no joint of its own '
                                     '(a tendon, a site or a body); list joints: to feel, or '
                                     'leave it out of actuators:')
            joints = super()._choose_joints()
        for joint in joints:
            if joint.type[0] not in _SCALAR:
                raise WorldError(f'{said.path}: joints: {joint.name!r} is a free or ball joint; '
                                 'only hinges and slides can be felt')
            if not joint.name:
                raise WorldError(f'{said.path}: joints: one in {said.model.name} has no name')
        return joints

    def _on_reset(self):
        if self._said.keyframe:
            mujoco.mj_resetDataKeyframe(self.model, self.data,
                                        self.model.key(self._said.keyframe).id)

    def _impact_now(self) -> float:
        return self._knock(frozenset(), 100.0)

    def sources(self) -> list[Source]:
        """Return the bodies that sound."""
        return [self._source(voice, loudness, self.data.body(body).xpos)
                for body, (voice, loudness) in self._said.sounds.items()]

    def captions(self) -> list[str]:
        """Say where the listed things are in the view, and where the sounds come from."""
        said = self._said
        out = [view.seen(body, *view.direction(self, body)) for body in said.things]
        out += [view.heard(body, view.direction(self, body)[0]) for body in said.sounds]
        if said.task is not None:
            names = [name.replace('_', ' ') for name in said.task.near]
            word = 'near' if self.success() else 'far from'
            out.append(f'The {names[0]} is {word} the {names[1]}.')
        return out

    def _place(self, name: str) -> np.ndarray:
        return getattr(self.data, self._kinds[name])(name).xpos

    def distance(self) -> float:
        """Return the distance between the two things of the task, m; infinite without a task."""
        if self._said.task is None:
            return np.inf
        return float(np.linalg.norm(np.subtract(*map(self._place, self._said.task.near))))

    def success(self) -> bool:
        """Whether the two things of the task are near; never without a task."""
        return self._said.task is not None and self.distance() <= self._said.task.within

    def score(self) -> float:
        """Return 1 on success, less with the distance; 0 without a task."""
        if self.success():
            return 1.0
        return float(0.5 * np.exp(-self.distance()))
