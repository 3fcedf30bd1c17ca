"""Service calls with a time limit, awaitable on a single-threaded executor."""

import time

from rclpy.task import Future

_POLL = 0.05      # s
# s after which a request goes out although the service seems not to be there: endpoints of a
# process that was killed, or is going, can make the middleware say so for many seconds
_IMPATIENT = 0.5


class Caller:
    """Calls services for one node; one timer watches all time limits.

    Args:
        node: an ``AgentNode``; its reentrant group runs the timer.
    """

    def __init__(self, node):
        self._pending: list[dict] = []
        node.create_timer(_POLL, self._poll, clock=node._steady, callback_group=node.reentrant)

    async def call(self, client, request, timeout: float, again: float = 0.0):
        """Call a service.

        Args:
            client: of a reentrant callback group.
            request: to send.
            timeout: seconds for discovery and answer together.
            again: ask once more when no answer came for so many seconds (0: never; for
                questions only).

        Returns:
            The response, or None when none came in time.

        """
        now = time.monotonic()
        entry = {'client': client, 'request': request, 'sent': [], 'done': Future(),
                 'end': now + timeout, 'next': now + _IMPATIENT, 'again': again}
        self._send(entry, now)
        self._pending.append(entry)
        try:
            return await entry['done']
        finally:
            self._pending.remove(entry)
            for future in entry['sent']:
                if not future.done():
                    client.remove_pending_request(future)

    async def pause(self, seconds: float):
        """Let others go on for a while (to the next poll)."""
        entry = {'client': None, 'done': Future(),
                 'end': time.monotonic() + seconds}
        self._pending.append(entry)
        try:
            await entry['done']
        finally:
            self._pending.remove(entry)

    def _send(self, entry: dict, now: float):
        if entry['client'] is None or now < entry['next'] and (
                entry['sent'] or not entry['client'].service_is_ready()):
            return
        entry['next'] = now + entry['again'] if entry['again'] else float('inf')
        future = entry['client'].call_async(entry['request'])
        entry['sent'].append(future)
        future.add_done_callback(
            lambda f: entry['done'].done() or entry['done'].set_result(f.result()))

    def _poll(self):
        now = time.monotonic()
        for entry in list(self._pending):
            self._send(entry, now)
            if now >= entry['end'] and not entry['done'].done():
                entry['done'].set_result(None)
