"""places.py: channels and the messages in them.  See workspace.py."""

import time

from shown import pings, shown

TEAM, BOT, USER, APP = "T0STUB000", "B0STUB000", "U0STUB000", "A0STUB000"


class Message:
    def __init__(self, ts, payload, bot=None):
        self.ts = ts
        self.bot = bot          # who may update it; None: nobody may (a webhook's)
        self.at = time.time()
        self.thread_ts = payload.get("thread_ts")
        self.text = payload.get("text")
        self.blocks = payload.get("blocks")
        self.attachments = payload.get("attachments")
        self.metadata = payload.get("metadata")
        self.former = []        # blocks before the updates
        self.updates = 0
        self.updated_at = None
        self.replies = []

    def update(self, payload):
        self.former.append(self.blocks)
        self.text = payload.get("text")
        self.blocks = payload.get("blocks")
        self.updates += 1
        self.updated_at = time.time()

    def api(self):
        """As the Web API tells it."""
        value = {"type": "message", "ts": self.ts, "text": self.text or "", "user": USER,
                 "bot_id": BOT, "app_id": APP, "team": TEAM}
        if self.thread_ts:
            value["thread_ts"] = self.thread_ts
        if self.blocks:
            value["blocks"] = with_ids(self.blocks)
        return value

    def element(self, action_id, stale=False):
        """A button or menu of it, with the block's id; stale: of any of its versions."""
        for blocks in (self.blocks, *(reversed(self.former) if stale else ())):
            for block in with_ids(blocks or []):
                for element in (*block.get("elements", ()), block.get("accessory")):
                    if isinstance(element, dict) and element.get("action_id") == action_id:
                        return {**element, "block_id": block["block_id"]}
        raise KeyError(f"no {action_id} in message {self.ts}")

    def as_seen(self, channel):
        """As a person sees it."""
        return {"channel": channel, "ts": self.ts, "at": self.at, "thread_ts": self.thread_ts, "text": self.text,
                "blocks": self.blocks, "attachments": self.attachments,
                "metadata": self.metadata, "updates": self.updates,
                "updated_at": self.updated_at,
                "shown": shown(self.text, self.blocks), "pings": pings(self.text, self.blocks),
                "replies": [reply.as_seen(channel) for reply in self.replies]}


class Place:
    """A channel: one of the Web API's, or the one behind a webhook."""

    def __init__(self, name):
        self.name = name
        self.messages = {}

    def add(self, message):
        self.messages[message.ts] = message
        parent = self.messages.get(message.thread_ts)
        if parent:
            parent.replies.append(message)

    def remove(self, message):
        self.messages.pop(message.ts, None)
        for other in self.messages.values():
            if message in other.replies:
                other.replies.remove(message)

    def as_seen(self, key):
        return [message.as_seen(key) for message in self.messages.values()
                if message.thread_ts not in self.messages]


def with_ids(blocks):
    return [{"block_id": f"b{i}", **block} for i, block in enumerate(blocks)]
