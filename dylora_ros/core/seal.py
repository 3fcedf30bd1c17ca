"""The seal of the reward: what shows that a message, a row or a file comes from the agent's judge.

The judge (statements, projector) may not be moved by what it judges (design, section 7). All
processes of one agent that have to trust each other hold one :class:`Secret` of this life. Who
does not hold it cannot make a row that is judged, a reward that is logged, or a logged row that
is learned from; what it tries is noted (:mod:`dylora_ros.core.audit`).
"""

from dataclasses import dataclass
import hashlib
import hmac
import mmap
import os
from pathlib import Path

import numpy as np

from dylora_ros.core.context import FLAG_FORGOTTEN, GlobalContext, SLACK
from dylora_ros.core.files import whole

_TAG = 16             # bytes of a message's tag
_SESSIONS = 64        # senders remembered by a receiver
ADOPTED = 65_536      # newest rows of earlier lives that a new life vouches for (0.2 s)
_WORD = 8             # bytes of a row's tag
_HEAD = 24            # bytes before the tags: first row, rows in the ring, tag of both


class SealError(ValueError):
    """What came does not carry the seal of this agent."""


class Secret:
    """A key that only the processes of one agent's life know.

    Args:
        key: 32 bytes; a new one when None.
    """

    def __init__(self, key: bytes | None = None):
        self.key = os.urandom(32) if key is None else key
        if len(self.key) != 32:
            raise ValueError(f'a secret has 32 bytes, not {len(self.key)}')

    def tag(self, purpose: str, *parts: bytes, size: int = _TAG) -> bytes:
        """Return the tag of the parts (keyed BLAKE2b, RFC 7693); another purpose, another tag."""
        state = hashlib.blake2b(key=self.key, digest_size=size, person=purpose.encode()[:16])
        for part in parts:
            state.update(len(part).to_bytes(4, 'little'))
            state.update(part)
        return state.digest()


@dataclass(frozen=True)
class Ticket:
    """Which message of which sender: ``session/number``."""

    session: str
    number: int

    def __bytes__(self):
        return f'{self.session}/{self.number}'.encode()

    def sealed(self, secret: Secret, purpose: str, payload: bytes) -> str:
        """Return the text that travels beside the payload."""
        return (f'{purpose}/{self.session}/{self.number}/'
                f'{secret.tag(purpose, bytes(self), payload).hex()}')

    @classmethod
    def opened(cls, text: str, secret: Secret, purpose: str, payload: bytes) -> 'Ticket':
        """Return the ticket that :meth:`sealed` wrote.

        Raises:
            SealError: no seal, or it does not fit the payload.

        """
        parts = text.split('/')
        if len(parts) != 4 or parts[0] != purpose or not parts[2].isdecimal() \
                or len(parts[2]) > 18:
            raise SealError('it carries no seal')
        ticket = cls(parts[1], int(parts[2]))
        if not hmac.compare_digest(ticket.sealed(secret, purpose, payload).encode(),
                                   text.encode()):
            raise SealError('its seal is not of this agent (nodes started one by one share no '
                            'secret)')
        return ticket


class Sender:
    """Numbers and seals messages of one purpose.

    Args:
        secret: of this life.
        purpose: such as ``context``.
    """

    def __init__(self, secret: Secret, purpose: str):
        self._secret, self._purpose = secret, purpose
        self.session = os.urandom(8).hex()
        self.number = 0

    def seal(self, payload: bytes) -> str:
        """Return the next ticket as text."""
        self.number += 1
        return Ticket(self.session, self.number).sealed(self._secret, self._purpose, payload)


class Receiver:
    """Lets each sealed message in once, and in order.

    Args:
        secret: of this life.
        purpose: of the messages.
    """

    def __init__(self, secret: Secret, purpose: str):
        self._secret, self._purpose = secret, purpose
        self._last: dict[str, int] = {}

    def open(self, text: str, payload: bytes) -> Ticket:
        """Return the ticket of a message.

        Raises:
            SealError: it is forged, or was here already.

        """
        ticket = Ticket.opened(text, self._secret, self._purpose, payload)
        if ticket.number <= self._last.get(ticket.session, 0):
            raise SealError('it was here already')
        self._last.pop(ticket.session, None)
        self._last[ticket.session] = ticket.number
        if len(self._last) > _SESSIONS:
            del self._last[next(iter(self._last))]
        return ticket


class Verdicts:
    """Rewards on their way from the judge to the log: each belongs to one row, once.

    Args:
        secret: of this life.
    """

    _PURPOSE = 'judged'

    def __init__(self, secret: Secret):
        self._secret = secret
        self._last = 0

    @staticmethod
    def _payload(value: float, stamp: int) -> bytes:
        return np.float32(value).tobytes() + np.int64(stamp).tobytes()

    def seal(self, ticket: Ticket, value: float, stamp: int) -> str:
        """Return the text beside a reward (float32) of the row that came with this ticket."""
        return ticket.sealed(self._secret, self._PURPOSE, self._payload(value, stamp))

    def open(self, text: str, value: float, stamp: int, rows: Sender) -> Ticket:
        """Return the ticket of the judged row, which ``rows`` has sent.

        Raises:
            SealError: forged, of a row that was never sent, or of one already judged.

        """
        ticket = Ticket.opened(text, self._secret, self._PURPOSE, self._payload(value, stamp))
        if ticket.session != rows.session or ticket.number > rows.number:
            raise SealError('it judges no row of this log')
        if ticket.number <= self._last:
            raise SealError('its row is judged already')
        self._last = ticket.number
        return ticket


class RowTags:
    """A tag for every row of the log, beside it: what another hand has written is not learned.

    The log's own checksum shows damage, not intent: whoever can write the file can compute it.
    These tags need the secret. Rows older than ``first`` are of earlier lives, for which nobody
    can vouch.

    Args:
        path: of the tags, beside the log.
        secret: of this life.
        log: whose rows they are; its writer's process makes the file with :meth:`create`.
    """

    def __init__(self, path: Path, secret: Secret, log: GlobalContext, writable: bool = False):
        self._secret, self._log = secret, log
        self._slots = log.capacity + SLACK
        size = _HEAD + _WORD * self._slots
        with open(path, 'r+b' if writable else 'rb') as file:
            if os.fstat(file.fileno()).st_size < size:
                raise SealError(f'{path} is truncated: expected {size} bytes')
            self._map = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_WRITE if writable
                                  else mmap.ACCESS_READ)
        self._first: int | None = None       # known to the writer

    @classmethod
    def create(cls, path: Path, secret: Secret, log: GlobalContext, again: bool) -> 'RowTags':
        """Open the tags as the log's writer.

        Args:
            path: of the tags.
            secret: of this life.
            log: open for writing.
            again: whether this life has had a writer before, who died; then nothing is adopted,
                or killing it would be a way to have forged rows vouched for.

        """
        if again:
            try:
                out = cls(path, secret, log, True)
                out._first = out.first()
                return out
            except (OSError, SealError):
                pass             # vouch for no row there is: they may be what the kill was for
        with whole(path) as part, part.open('wb') as file:
            # not a hole: where the disk is full it shows here, not as SIGBUS while it lives
            os.posix_fallocate(file.fileno(), 0, _HEAD + _WORD * (log.capacity + SLACK))
        out = cls(path, secret, log, True)
        out._first = 0 if again else max(log.first, log.committed - ADOPTED)
        out.confirm()
        if not again:
            for number, row in enumerate(log.rows(out._first, log.committed), out._first):
                out.put(number, row)
        return out

    def _head(self, first: int) -> bytes:
        raw = first.to_bytes(8, 'little')
        return raw + self._secret.tag('first', raw)

    def first(self) -> int:
        """Return the number of the first row vouched for.

        Raises:
            SealError: the file is another's.

        """
        head = self._map[:_HEAD]
        first = int.from_bytes(head[:8], 'little')
        if not hmac.compare_digest(head, self._head(first)):
            raise SealError('the tags of the log are not of this life')
        return first

    def confirm(self) -> bool:
        """Write the head again (the writer); returns whether another hand had changed it."""
        head = self._head(self._first)
        changed = self._map[:_HEAD] != head
        self._map[:_HEAD] = head
        return changed

    def _tag(self, number: int, row: np.ndarray) -> bytes:
        return self._secret.tag('row', number.to_bytes(8, 'little'), row.tobytes()[4:],
                                size=_WORD)

    def put(self, number: int, row: np.ndarray):
        """Vouch for a row that is committed with this number, right before it is."""
        at = _HEAD + number % self._slots * _WORD
        self._map[at:at + _WORD] = self._tag(number, row)

    def genuine(self, rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Tell which rows (n,) are as they were committed; (n,) bool.

        Raises:
            SealError: the tags are not of this life.

        """
        first = self.first()
        out = np.ones(len(rows), bool)
        for i, number in enumerate(numbers.tolist()):
            at = _HEAD + number % self._slots * _WORD
            out[i] = number < first or self._map[at:at + _WORD] == self._tag(number, rows[i])
        return out

    def withhold(self, rows: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows (n,) with the forged ones forgotten, and the numbers of those."""
        forged = ~self.genuine(rows, numbers)
        rows = rows.copy()
        for i in np.flatnonzero(forged):
            stamp = rows['stamp'][i - 1] if i else 0
            rows[i] = np.zeros((), rows.dtype)
            rows['stamp'][i], rows['flags'][i] = stamp, FLAG_FORGOTTEN
        return rows, numbers[forged]

    def close(self):
        """Release the file."""
        self._map.close()


def write_bundle(path: Path, secret: Secret, content: bytes):
    """Keep what is sealed for a process of the same life that has to start again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        part.write_bytes(secret.tag('bundle', content) + content)


def read_bundle(path: Path, secret: Secret) -> bytes:
    """Return what :func:`write_bundle` kept.

    Raises:
        SealError: it is missing, or not of this life.

    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SealError(f'{path} is missing ({error}); what was sealed is not known any more. '
                        'Start the agent anew') from error
    if not hmac.compare_digest(raw[:_TAG], secret.tag('bundle', raw[_TAG:])):
        raise SealError(f'{path} is not what was sealed in this life; nothing else will do. '
                        'Start the agent anew')
    return raw[_TAG:]
