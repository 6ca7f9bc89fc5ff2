#!/usr/bin/env python3
"""slack.py CONTROL show | trouble TEXT | press BUTTON USER | command USER TEXT:
controls the demo's stub of Slack.

show        prints every channel as a person would see it, for a terminal of
            STRIPE_SYNC_COLUMNS columns
trouble     the next message that holds TEXT is answered 429, then 500
press       the person presses the button of the last message that has it
command     the person writes /stripe TEXT in the first channel

The last two print what Slack sends for it, for receive_slack(): the body, and the
headers as JSON, a line each.
"""

import json
import os
import re
import sys
import textwrap
import time
import urllib.request

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "stub"))
from shown import shown  # pylint: disable=wrong-import-position

# The demo indents by four, and an emoji may be two columns wide.
WIDTH = min(104, int(os.environ.get("STRIPE_SYNC_COLUMNS") or 80)) - 6
EMOJI = {"warning": "⚠", "rotating_light": "🚨", "white_check_mark": "✅", "repeat": "🔁",
         "information_source": "ℹ"}


def ask(control, call, body=None):
    """The answer's JSON, as text."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{control}/{call}", body and body.encode(), timeout=10) as answer:
        return answer.read().decode()


def plain(text):
    """Slack shows *this* bold and `that` as code; a terminal shows neither."""
    text = re.sub(r":([a-z_]+):", lambda m: EMOJI.get(m[1], m[0]), text)
    text = re.sub(r"\*([^*\n]+)\*", r"\1", text)
    return re.sub(r"`([^`\n]+)`", r"\1", text)


def wrapped(text, indent):
    for line in plain(text).split("\n"):
        yield from textwrap.wrap(line, WIDTH - len(indent), initial_indent=indent,
                                 subsequent_indent=indent) or [indent]


def buttons(message):
    for block in message["blocks"] or []:
        if block["type"] == "actions":
            yield from block["elements"]


def label(button):
    if button["type"] == "button":
        return f"[{button['text']['text']}]"
    return f"[{button['placeholder']['text']} ▾]"


def said(message):
    """What is shown, with a line for the buttons in place of all that they hold."""
    blocks = [block for block in message["blocks"] or [] if block["type"] != "actions"]
    if not blocks:
        return message["shown"]
    return "\n".join(filter(None, [shown(message["text"], blocks),
                                   " ".join(map(label, buttons(message)))]))


def message_lines(message, head, rest):
    at = time.strftime("%H:%M:%S", time.gmtime(message["at"]))
    edited = " (edited)" if message["updates"] else ""
    yield f"{head}{at}{edited}"
    yield from wrapped(said(message), rest)
    for reply in message["replies"]:
        yield from message_lines(reply, "│   ↳ reply  ", "│     ")


def show(control):
    channels = json.loads(ask(control, "messages"))["channels"].values()
    for channel in channels:
        yield f"# {channel['name']}"
        for number, message in enumerate(channel["messages"]):
            if number:
                yield "│"
            yield from message_lines(message, "│ stripe_sync  ", "│ ")
    if not channels:
        yield "nothing yet"


def trouble(control, text):
    match = {"text": re.escape(text)}
    limited = {"status": 429, "headers": {"Retry-After": "1"},
               "body": '{"ok":false,"error":"ratelimited"}'}
    ask(control, "faults/add", json.dumps([{"match": match, "times": 1, "fault": limited},
                                           {"match": match, "times": 1, "fault": {"status": 500}}]))
    return ()


def channels_of(control):
    return json.loads(ask(control, "messages"))["channels"]


def request(control, what, how):
    made = json.loads(ask(control, what, json.dumps(how)))
    yield made["body"]
    yield json.dumps(made["headers"])


def press(control, text, user):
    for channel, messages in channels_of(control).items():
        for message in reversed(messages["messages"]):
            for button in buttons(message):
                if text in label(button):
                    return request(control, "press", {
                        "channel": channel, "ts": message["ts"], "user": user,
                        "action_id": button["action_id"]})
    sys.exit(f"no message has the button {text}")


def command(control, user, text):
    channel = next(iter(channels_of(control)))
    return request(control, "command", {"command": "/stripe", "text": text, "user": user,
                                        "channel": channel})


def main():
    sys.stdout.reconfigure(encoding="utf-8")
    calls = {"show": show, "trouble": trouble, "press": press, "command": command}
    control, call, *arguments = sys.argv[1:]
    for line in calls[call](control, *arguments):
        print(line)


if __name__ == "__main__":
    main()
