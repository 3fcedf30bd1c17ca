"""Service calls with a time limit, awaitable on a single-threaded executor."""

import time

from rclpy.task import Future

_POLL = 0.05      # s


class Caller:
    """Calls services for one node; one timer watches all time limits.

    Args:
        node: an ``AgentNode``; its reentrant group runs the timer.
    """

    def __init__(self, node):
        self._pending: list[dict] = []
        node.create_timer(_POLL, self._poll, clock=node._steady, callback_group=node.reentrant)

    async def call(self, client, request, timeout: float):
        """Call a service.

        Args:
            client: of a reentrant callback group.
            request: to send.
            timeout: seconds for discovery and answer together.

        Returns:
            The response, or None when none came in time.

        """
        entry = {'client': client, 'request': request, 'sent': None, 'done': Future(),
                 'end': time.monotonic() + timeout}
        self._send(entry)
        self._pending.append(entry)
        try:
            return await entry['done']
        finally:
            self._pending.remove(entry)
            if entry['sent'] is not None and not entry['sent'].done():
                client.remove_pending_request(entry['sent'])

    async def pause(self, seconds: float):
        """Let others go on for a while (to the next poll)."""
        entry = {'client': None, 'sent': None, 'done': Future(),
                 'end': time.monotonic() + seconds}
        self._pending.append(entry)
        try:
            await entry['done']
        finally:
            self._pending.remove(entry)

    def _send(self, entry: dict):
        if entry['client'] is None or entry['sent'] is not None:
            return
        if entry['client'].service_is_ready():
            entry['sent'] = entry['client'].call_async(entry['request'])
            entry['sent'].add_done_callback(
                lambda f: entry['done'].done() or entry['done'].set_result(f.result()))

    def _poll(self):
        now = time.monotonic()
        for entry in list(self._pending):
            self._send(entry)
            if now >= entry['end'] and not entry['done'].done():
                entry['done'].set_result(None)
