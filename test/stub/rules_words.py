"""rules_words.py: the words of rules.py, rules_elements.py and rules_views.py."""


class Refused(Exception):
    """Slack's code for it, and what it says besides."""

    def __init__(self, code, *details, **more):
        super().__init__(code)
        self.code = code
        self.details = details
        self.more = more        # members of the answer


def bad(message, pointer):
    return Refused("invalid_blocks", f"{message} [json-pointer:{pointer}]")


def check_keys(value, allowed, at):
    for key in value:
        if key not in allowed:
            raise bad(f"invalid additional property: {key}", at)


def check_string(value, longest, at):
    if not isinstance(value, str):
        raise bad("must be a string", at)
    if not value:
        raise bad("must be more than 0 characters", at)
    if len(value) > longest:
        raise bad(f"must be less than {longest + 1} characters", at)


def check_items(value, most, at):
    if not isinstance(value, list):
        raise bad("must be an array", at)
    if not value:
        raise bad("no less than 1 items allowed", at)
    if len(value) > most:
        raise bad(f"no more than {most} items allowed", at)


def check_text(value, longest, at, kinds=("plain_text", "mrkdwn")):
    if not isinstance(value, dict):
        raise bad("missing required field: text", at)
    if value.get("type") not in kinds:
        raise bad(f"must be one of {', '.join(kinds)}", f"{at}/type")
    own = "emoji" if value["type"] == "plain_text" else "verbatim"
    check_keys(value, {"type", "text", own}, at)
    check_string(value.get("text"), longest, f"{at}/text")


def texts_of(value):
    """Every string under a key "text", however deep."""
    if isinstance(value, list):
        for item in value:
            yield from texts_of(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "text" and isinstance(item, str):
                yield item
            elif isinstance(item, (dict, list)):
                yield from texts_of(item)
