"""Load with a memory: senders that keep what was acknowledged, receivers that keep what came, and the comparison.

A sender pipelines; when anything but an acknowledgement comes it makes a new connection and sends everything unanswered
again, in order, with the same ids: what a careful client does. So the promise to check is exact: nothing acknowledged is
missing, and each sender's messages come in the order they were first sent; a message that was refused in between may stand
behind those that were not.
"""
import threading
import time

import rawmqtt
from rawmqtt import PUBACK, Closed, Device

LOST = (Closed, OSError, AssertionError)  # the connection, not the message


# Load without pause would fill mailboxes of the usual bound, and a full mailbox refuses for good.
ROOMY = {"router-1": {"limits.mailbox_messages_max": 1000000}}


def endpoint(self):
    return self.playground.endpoint(gateway=self.gateways[self.reconnects % len(self.gateways)])


class Sender(threading.Thread):
    def __init__(self, playground, person, recipients, window=16, pause_s=0.0, gateways=("gateway-1",), patience_s=30):
        super().__init__(daemon=True)
        self.patience_s = patience_s # without an answer: the next gateway
        self.gateways = gateways # in turn, one after each lost connection
        self.playground, self.person, self.recipients = playground, person, recipients
        self.window, self.pause_s = window, pause_s
        self.sent = []           # (id, recipient) in sending order
        self.acknowledged = set()
        self.refused = set()     # answered with anything but 0 at least once: their place is the sender's choice
        self.stopping = threading.Event()
        self.reconnects = 0
        self.last_refusal = None
        self.error = None

    def run(self):
        try:
            unanswered = []      # [id, recipient, payload] in order
            while not (self.stopping.is_set() and not unanswered):
                try:
                    self._session(unanswered)
                except LOST:
                    self.reconnects += 1
                    time.sleep(0.05)
        except Exception as error:  # reported by finish()
            self.error = error

    def _session(self, unanswered):
        with Device(endpoint(self), *self.person, timeout=20) as device:
            if device.connack.code != 0:
                self.reconnects += 1
                time.sleep(0.2)
                return
            open_ids = {}
            for row in unanswered:
                open_ids[self._submit(device, row)] = row
            failed = False           # after a refusal: hear the other answers, then all again on a new connection
            while True:
                while not failed and not self.stopping.is_set() and len(open_ids) < self.window:
                    number = len(self.sent)
                    recipient = self.recipients[number % len(self.recipients)]
                    row = [rawmqtt.new_id(), recipient, f"{self.person[0]} {number}"]
                    self.sent.append((row[0], recipient))
                    unanswered.append(row)
                    open_ids[self._submit(device, row)] = row
                    time.sleep(self.pause_s)
                if not open_ids:
                    time.sleep(0.05 if failed else 0)
                    return
                answer = device.wait(PUBACK, self.patience_s)
                row = open_ids.pop(answer.id)
                if answer.code != 0:
                    self.refused.add(row[0])
                    self.last_refusal = f"0x{answer.code:02x} {answer.reason}"
                    failed = True
                    continue
                self.acknowledged.add(row[0])
                unanswered.remove(row)

    @staticmethod
    def _submit(device, row):
        return device.submit(row[1], row[2], extra=[(0x26, ("wp-id", row[0]))])

    def finish(self, timeout_s=60):
        self.stopping.set()
        self.join(timeout_s)
        assert not self.is_alive(), f"a sender got no answer any more; last refusal: {self.last_refusal}"
        if self.error:
            raise self.error


class Receiver(threading.Thread):
    """Takes and acknowledges every delivery until stopped, over as many connections as it needs."""

    def __init__(self, playground, person, gateways=("gateway-1",)):
        super().__init__(daemon=True)
        self.playground, self.person, self.gateways, self.reconnects = playground, person, gateways, 0
        self.got = []            # (id, payload, dup)
        self.places = {}         # id -> packet identifiers; each is of one place in the mailbox, so two are a message kept twice
        self.stopping = threading.Event()

    def run(self):
        while not self.stopping.is_set():
            try:
                self._session()
            except TimeoutError:
                continue
            except LOST:
                self.reconnects += 1
                time.sleep(0.05)

    def _session(self):
        with Device(endpoint(self), *self.person, timeout=20) as device:
            if device.connack.code != 0:
                self.reconnects += 1
                time.sleep(0.2)
                return
            device.send(rawmqtt.subscribe("wp/v1/inbox/#", 65000))
            while not self.stopping.is_set():
                packet = device.receive(0.5)
                if packet.kind == rawmqtt.PUBLISH:
                    self.got.append((packet.user("wp-id"), packet.payload.decode(), packet.dup))
                    self.places.setdefault(packet.user("wp-id"), set()).add(packet.id)
                    device.send(rawmqtt.puback(packet.id))

    def finish(self, quiet_s=1.5, timeout_s=90):
        """Waits until nothing more comes, ends, answers what came."""
        end, count = time.monotonic() + timeout_s, -1
        while count != len(self.got):
            assert time.monotonic() < end, "the mailbox does not get empty"
            count = len(self.got)
            time.sleep(quiet_s)
        self.stopping.set()
        self.join(30)
        return self.got


def drain(playground, person):
    """All deliveries that wait for a device, acknowledged: [(id, payload, dup)]."""
    receiver = Receiver(playground, person)
    receiver.start()
    return receiver.finish()


def drain_all(playground, persons, quiet_s=1.5, timeout_s=90):
    """The same for several at a time: {user: [(id, payload, dup)]}."""
    receivers = [Receiver(playground, person) for person in persons]
    for receiver in receivers:
        receiver.start()
    end, count = time.monotonic() + timeout_s, -1
    while count != sum(len(receiver.got) for receiver in receivers):
        assert time.monotonic() < end, "the mailboxes do not get empty"
        count = sum(len(receiver.got) for receiver in receivers)
        time.sleep(quiet_s)
    for receiver in receivers:
        receiver.stopping.set()
    for receiver in receivers:
        receiver.join(30)
    return {receiver.person[0].split("/")[0]: receiver.got for receiver in receivers}


def compare(senders, received):
    """`received`: {recipient: [(id, payload, dup), ...]}. Asserts the promise; answers how many were acknowledged."""
    acknowledged = 0
    for recipient, rows in received.items():
        first = {}
        for place, (message_id, _, _) in enumerate(rows):
            first.setdefault(message_id, place)
        for sender in senders:
            mine = [message_id for message_id, to in sender.sent if to == recipient]
            lost = [m for m in mine if m in sender.acknowledged and m not in first]
            assert not lost, f"{len(lost)} acknowledged messages of {sender.person[0]} to {recipient} are lost, first {lost[0]}"
            places = [first[m] for m in mine if m in first and m not in sender.refused]
            assert places == sorted(places), f"messages of {sender.person[0]} to {recipient} came out of order"
            acknowledged += len([m for m in mine if m in sender.acknowledged])
        known = {m for s in senders for m, to in s.sent if to == recipient}
        foreign = [m for m in first if m not in known]
        assert not foreign, f"{recipient} got messages that nobody sent him: {foreign[:3]}"
    return acknowledged
