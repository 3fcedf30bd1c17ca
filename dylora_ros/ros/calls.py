"""Service calls with a time limit, awaitable on a single-threaded executor."""

from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.task import Future


async def call(node, client, request, timeout: float):
    """Call a service.

    Args:
        node: whose reentrant group the timer runs in (an ``AgentNode``).
        client: of a reentrant callback group.
        request: to send.
        timeout: seconds for discovery and answer together.

    Returns:
        The response, or None when none came in time.

    """
    done = Future()
    sent = []
    polls = max(1, round(timeout / 0.05))

    def poll():
        nonlocal polls
        if not sent and client.service_is_ready():
            sent.append(client.call_async(request))
            sent[0].add_done_callback(lambda f: done.done() or done.set_result(f.result()))
        polls -= 1
        if polls <= 0 and not done.done():
            done.set_result(None)

    timer = node.create_timer(0.05, poll, clock=node._steady, callback_group=node.reentrant)
    if client.service_is_ready():
        poll()
    try:
        response = await done
    finally:
        try:
            node.destroy_timer(timer)
            if sent and not sent[0].done():
                client.remove_pending_request(sent[0])
        except rclpy_implementation.InvalidHandle:      # the node was destroyed while it waited
            pass
    return response
