"""Markers for rviz: the phase in words, gauges, sparklines of reward and surprise."""

from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from dylora_ros.ros.dashboard import COLOURS, MODALITY_COLOURS, View
from dylora_ros.ros.messages import header

_LEFT, _WIDTH, _HEIGHT = 0.8, 1.6, 0.25      # m: where curves stand beside base_link
_POINTS = 120


def _colour(rgb, alpha: float = 1.0) -> ColorRGBA:
    return ColorRGBA(r=rgb[0] / 255.0, g=rgb[1] / 255.0, b=rgb[2] / 255.0, a=float(alpha))


class MarkerFactory:
    """Make the marker array of a view.

    Args:
        frame: fixed frame that the markers stand beside.
        seconds: their lifetime; longer than the publishing period.
    """

    def __init__(self, frame: str = 'base_link', seconds: float = 2.0):
        self.frame = frame
        self._life = Duration(sec=int(seconds), nanosec=int(seconds % 1 * 1e9))

    def _marker(self, space: str, number: int, kind: int, colour, ns: int) -> Marker:
        marker = Marker(header=header(ns, self.frame), ns=space, id=number, type=kind,
                        action=Marker.ADD, color=_colour(colour), lifetime=self._life)
        marker.pose.orientation.w = 1.0
        return marker

    def text(self, space, number, text, at, size, colour, ns) -> Marker:
        """A text that faces the viewer."""
        marker = self._marker(space, number, Marker.TEXT_VIEW_FACING, colour, ns)
        marker.text = text
        p = marker.pose.position
        p.x, p.y, p.z = (float(v) for v in at)
        marker.scale.z = float(size)
        return marker

    def gauge(self, number, share, at, colour, ns) -> Marker:
        """A bar that grows to the left of the robot."""
        marker = self._marker('gauges', number, Marker.CUBE, colour, ns)
        length = max(0.01, _WIDTH * min(max(float(share), 0.0), 1.0))
        p = marker.pose.position
        p.x, p.y, p.z = float(at[0]), float(at[1] - length / 2), float(at[2])
        marker.scale.x, marker.scale.y, marker.scale.z = 0.03, length, 0.06
        return marker

    def curve(self, number, values, at, low, high, colour, ns) -> Marker:
        """A sparkline of the newest values."""
        marker = self._marker('curves', number, Marker.LINE_STRIP, colour, ns)
        marker.scale.x = 0.012
        values = list(values)[-_POINTS:]
        span = max(high - low, 1e-6)
        for i, value in enumerate(values):
            level = min(max((value - low) / span, 0.0), 1.0)
            marker.points.append(Point(
                x=float(at[0]), y=float(at[1] - _WIDTH * i / max(len(values) - 1, 1)),
                z=float(at[2] + _HEIGHT * level)))
        if len(marker.points) < 2:           # rviz complains about a line of one point
            marker.action = Marker.DELETE
        return marker

    def make(self, view: View, ns: int) -> MarkerArray:
        """Return all markers of this moment."""
        white = (235, 235, 235)
        colour = COLOURS.get(view.phase, white)
        words = view.phase
        if view.phase in ('REM', 'NREM'):
            words += f'  {100 * view.progress:.0f} %, {view.time_left:.0f} s left'
        out = [self.text('phase', 0, words, (0, 0, 1.6), 0.22, colour, ns)]
        for i, (name, share) in enumerate((('context', view.fill), ('tired', view.tiredness))):
            z = 1.35 - 0.14 * i
            out.append(self.gauge(i, share, (0, -_LEFT, z), colour, ns))
            out.append(self.text('labels', i, f'{name} {100 * share:.0f} %',
                                 (0, -_LEFT - _WIDTH - 0.35, z), 0.1, white, ns))
        curves = [('reward', view.reward, (250, 215, 90))]
        curves += [(n, view.surprise.get(n, []), c) for n, c in MODALITY_COLOURS.items()]
        for i, (name, values, tint) in enumerate(curves):
            at = (0, -_LEFT, 0.85 - 0.3 * i)
            low, high = (min(values, default=0.0), max(values, default=1.0)) \
                if name == 'reward' else (0.0, 4.0)
            out.append(self.curve(i, values, at, low, high, tint, ns))
            number = f' {values[-1]:.2f}' if values else ' -'
            out.append(self.text('labels', 10 + i, name + number,
                                 (0, -_LEFT - _WIDTH - 0.35, at[2] + 0.1), 0.1, tint, ns))
        return MarkerArray(markers=out)
