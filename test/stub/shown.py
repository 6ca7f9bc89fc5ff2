"""shown.py: what a person would read of a message, and who is pinged by it."""

import re

LINK = re.compile(r"<([^<>|]*)(?:\|([^<>]*))?>")
PING = re.compile(r"<(![a-z]+(?:\^[^<>|]*)?|@[UW][A-Z0-9]+)(?:\|[^<>]*)?>")
NO_PING = ("!date",)


def unescape(text):
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def read_link(match):
    target, label = match.groups()
    if label is not None:
        return label
    if target[:1] == "!":
        return "@" + target[1:]
    return target


def read_mrkdwn(text):
    return unescape(LINK.sub(read_link, text))


def text_objects(value):
    """(text, is it mrkdwn?) of everything in blocks, in reading order."""
    if isinstance(value, list):
        for item in value:
            yield from text_objects(item)
    elif isinstance(value, dict):
        if isinstance(value.get("text"), str):
            yield value["text"], value.get("type") != "plain_text"
        for item in value.values():
            if isinstance(item, (dict, list)):
                yield from text_objects(item)


def shown(text, blocks):
    """Blocks stand in the text's place where there are any."""
    if not blocks:
        return read_mrkdwn(text or "")
    return "\n".join(read_mrkdwn(each) if mrkdwn else unescape(each)
                     for each, mrkdwn in text_objects(blocks))


def pings(text, blocks):
    """Mentions that would ring: <!channel>, <@U...>; in the fallback text too."""
    sources = [text or ""] + [each for each, mrkdwn in text_objects(blocks or []) if mrkdwn]
    return sorted({name for source in sources for name in PING.findall(source)
                   if not name.startswith(NO_PING)})
