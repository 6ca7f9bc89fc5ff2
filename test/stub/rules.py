"""rules.py: what Slack takes and what it refuses, in its own words.

Sizes are in characters, as Slack's reference for Block Kit gives them.  Where
Slack cuts or is lenient, the stub refuses: what passes here passes there.
"""

MAX_TEXT = 40000
MAX_BLOCKS = 50
MAX_ALL_BLOCKS = 13200      # characters of all texts; not documented, measured by users
MAX_ATTACHMENTS = 100
MAX_ID = 255
MAX_METADATA = 8000

ELEMENTS = {
    "button", "checkboxes", "datepicker", "datetimepicker", "overflow", "radio_buttons",
    "static_select", "multi_static_select", "users_select", "multi_users_select",
    "conversations_select", "multi_conversations_select", "channels_select",
    "multi_channels_select", "external_select", "multi_external_select", "timepicker",
    "workflow_button", "feedback_buttons", "icon_button",
}


class Refused(Exception):
    """Slack's code for it, and what it says besides."""

    def __init__(self, code, *details):
        super().__init__(code)
        self.code = code
        self.details = details


def bad(message, pointer):
    return Refused("invalid_blocks", f"{message} [json-pointer:{pointer}]")


def check_message(payload):
    """Raises Refused unless a message could be shown."""
    text = payload.get("text")
    blocks = payload.get("blocks")
    attachments = payload.get("attachments")
    if text is not None and not isinstance(text, str):
        raise Refused("invalid_arguments", "must be a string [json-pointer:/text]")
    if not (text or "").strip() and not blocks and not attachments:
        raise Refused("no_text")
    if text and len(text) > MAX_TEXT:
        raise Refused("msg_too_long")
    if attachments is not None:
        check_attachments(attachments)
    if blocks is not None:
        check_blocks(blocks)
    if payload.get("metadata") is not None:
        check_metadata(payload["metadata"])


def check_attachments(attachments):
    if not isinstance(attachments, list):
        raise Refused("invalid_attachments")
    if len(attachments) > MAX_ATTACHMENTS:
        raise Refused("too_many_attachments")


def check_metadata(metadata):
    if not isinstance(metadata, dict) or not isinstance(metadata.get("event_type"), str) \
            or not isinstance(metadata.get("event_payload"), dict):
        raise Refused("invalid_metadata_format")
    if len(repr(metadata)) > MAX_METADATA:
        raise Refused("metadata_too_large")


def check_blocks(blocks):
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise Refused("invalid_blocks_format")
    if len(blocks) > MAX_BLOCKS:
        raise bad(f"no more than {MAX_BLOCKS} items allowed", "/blocks")
    seen = set()
    for i, block in enumerate(blocks):
        check_block(block, f"/blocks/{i}", seen)
    if sum(len(text) for text in texts_of(blocks)) > MAX_ALL_BLOCKS:
        raise Refused("msg_blocks_too_long")


def check_block(block, at, seen):
    kind = block.get("type")
    if not isinstance(kind, str) or kind not in BLOCKS:
        raise bad(f"unsupported type: {kind}", f"{at}/type")
    keys, check = BLOCKS[kind]
    if keys is not None:
        check_keys(block, keys | {"type", "block_id"}, at)
    block_id = block.get("block_id")
    if block_id is not None:
        check_string(block_id, MAX_ID, f"{at}/block_id")
        if block_id in seen:
            raise bad(f"`block_id`: \"{block_id}\" already exists", f"{at}/block_id")
        seen.add(block_id)
    check(block, at)


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


# ---- the blocks ----

def check_section(block, at):
    if block.get("text") is None and not block.get("fields"):
        raise bad("missing required field: text or fields", at)
    if block.get("text") is not None:
        check_text(block["text"], 3000, f"{at}/text")
    if block.get("fields") is not None:
        check_items(block["fields"], 10, f"{at}/fields")
        for i, field in enumerate(block["fields"]):
            check_text(field, 2000, f"{at}/fields/{i}")
    if block.get("accessory") is not None:
        check_element(block["accessory"], f"{at}/accessory", ELEMENTS | {"image"})


def check_header(block, at):
    check_text(block.get("text"), 150, f"{at}/text", ("plain_text",))


def check_context(block, at):
    check_items(block.get("elements"), 10, f"{at}/elements")
    for i, element in enumerate(block["elements"]):
        here = f"{at}/elements/{i}"
        if isinstance(element, dict) and element.get("type") == "image":
            check_image(element, here)
        else:
            check_text(element, 3000, here)


def check_actions(block, at):
    check_items(block.get("elements"), 25, f"{at}/elements")
    seen = set()
    for i, element in enumerate(block["elements"]):
        here = f"{at}/elements/{i}"
        check_element(element, here, ELEMENTS)
        action = element.get("action_id")
        if action is not None and action in seen:
            raise bad(f"`action_id`: \"{action}\" already exists", here)
        seen.add(action)


def check_image(block, at):
    if block.get("slack_file") is None:
        check_string(block.get("image_url"), 3000, f"{at}/image_url")
    check_string(block.get("alt_text"), 2000, f"{at}/alt_text")
    if block.get("title") is not None:
        check_text(block["title"], 2000, f"{at}/title", ("plain_text",))


def check_markdown(block, at):
    check_string(block.get("text"), 12000, f"{at}/text")


def check_rich_text(block, at):
    if not isinstance(block.get("elements"), list):
        raise bad("missing required field: elements", at)


def check_nothing(_block, _at):
    """Known to Slack, and not looked at more closely here."""


def check_element(element, at, kinds):
    if not isinstance(element, dict) or str(element.get("type")) not in kinds:
        raise bad("unsupported type of element", at)
    if element.get("action_id") is not None:
        check_string(element["action_id"], MAX_ID, f"{at}/action_id")
    if element["type"] == "button":
        check_button(element, at)
    elif element["type"] == "image":
        check_image(element, at)


def check_button(button, at):
    check_keys(button, {"type", "text", "action_id", "url", "value", "style", "confirm",
                        "accessibility_label"}, at)
    check_text(button.get("text"), 75, f"{at}/text", ("plain_text",))
    if button.get("url") is not None:
        check_string(button["url"], 3000, f"{at}/url")
    if button.get("value") is not None:
        check_string(button["value"], 2000, f"{at}/value")
    if button.get("style") not in (None, "primary", "danger"):
        raise bad("must be one of primary, danger", f"{at}/style")
    if button.get("confirm") is not None:
        check_confirm(button["confirm"], f"{at}/confirm")


def check_confirm(confirm, at):
    if not isinstance(confirm, dict):
        raise bad("must be an object", at)
    check_keys(confirm, {"title", "text", "confirm", "deny", "style"}, at)
    for key, longest in (("title", 100), ("text", 300), ("confirm", 30), ("deny", 30)):
        check_text(confirm.get(key), longest, f"{at}/{key}")


# type: (its fields or None for any, its check)
BLOCKS = {
    "section": ({"text", "fields", "accessory", "expand"}, check_section),
    "header": ({"text", "level"}, check_header),
    "divider": (set(), check_nothing),
    "context": ({"elements"}, check_context),
    "actions": ({"elements"}, check_actions),
    "image": ({"image_url", "slack_file", "alt_text", "title"}, check_image),
    "markdown": ({"text"}, check_markdown),
    "rich_text": ({"elements"}, check_rich_text),
    "input": (None, check_nothing),
    "file": (None, check_nothing),
    "video": (None, check_nothing),
    "table": (None, check_nothing),
    "context_actions": (None, check_nothing),
}


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
