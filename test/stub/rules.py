"""rules.py: what Slack takes and what it refuses, in its own words.

Sizes are in characters, as Slack's reference for Block Kit gives them.  Where
Slack cuts or is lenient, the stub refuses: what passes here passes there.

Blocks and messages are here, what stands in blocks in rules_elements.py, modals in
rules_views.py, tables, charts and cards in rules_newer.py.
"""

from rules_elements import ELEMENTS, INPUTS, check_element, check_image
from rules_newer import (check_alert, check_card, check_carousel, check_chart, check_data_table,
                         check_table)
from rules_words import Refused, bad, check_items, check_keys, check_string, check_text, texts_of

MAX_TEXT = 40000
MAX_BLOCKS = 50
MAX_ALL_BLOCKS = 13200      # characters of all texts; not documented, measured by users
MAX_ATTACHMENTS = 100
MAX_ID = 255
MAX_METADATA = 8000
MAX_CELLS = 10000           # characters in all cells of a message's tables
MAX_MARKDOWN = 12000        # in all markdown blocks of a message
MAX_CHARTS = 2              # not documented: what Slack told users


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


def check_blocks(blocks, most=MAX_BLOCKS):
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise Refused("invalid_blocks_format")
    if len(blocks) > most:
        raise bad(f"no more than {most} items allowed", "/blocks")
    seen = set()
    for i, block in enumerate(blocks):
        check_block(block, f"/blocks/{i}", seen)
    check_together(blocks)
    if sum(len(text) for text in texts_of(blocks)) > MAX_ALL_BLOCKS:
        raise Refused("msg_blocks_too_long")


def check_together(blocks):
    """What a message may have of the newer blocks, those in containers included."""
    flat = blocks + [child for block in blocks if block["type"] == "container"
                     for child in block["child_blocks"]]
    tables = [block for block in flat if block["type"] in ("table", "data_table")]
    markdown = [block["text"] for block in flat if block["type"] == "markdown"]
    if sum(block["type"] == "table" for block in tables) > 1:
        raise bad("only_one_table_allowed", "/blocks")
    if sum(len(text) for table in tables for text in texts_of(table["rows"])) > MAX_CELLS:
        raise bad(f"more than {MAX_CELLS} characters in tables", "/blocks")
    if sum(len(text) for text in markdown) > MAX_MARKDOWN:
        raise bad(f"more than {MAX_MARKDOWN} characters of markdown", "/blocks")
    if sum(block["type"] == "data_visualization" for block in flat) > MAX_CHARTS:
        raise bad(f"no more than {MAX_CHARTS} charts allowed", "/blocks")


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


def check_input(block, at):
    check_text(block.get("label"), 2000, f"{at}/label", ("plain_text",))
    check_element(block.get("element"), f"{at}/element", INPUTS)
    if block.get("hint") is not None:
        check_text(block["hint"], 2000, f"{at}/hint", ("plain_text",))


def check_markdown(block, at):
    check_string(block.get("text"), 12000, f"{at}/text")


def check_rich_text(block, at):
    if not isinstance(block.get("elements"), list):
        raise bad("missing required field: elements", at)


def check_container(block, at):
    if block.get("title") is None and block.get("rich_text_title") is None:
        raise bad("missing required field: title or rich_text_title", at)
    if block.get("title") is not None:
        check_text(block["title"], 150, f"{at}/title", ("plain_text",))
    if block.get("subtitle") is not None:
        check_text(block["subtitle"], 150, f"{at}/subtitle")
    check_items(block.get("child_blocks"), 10, f"{at}/child_blocks")
    for i, child in enumerate(block["child_blocks"]):
        here = f"{at}/child_blocks/{i}"
        if not isinstance(child, dict) or child.get("type") not in IN_CONTAINER:
            raise bad("unsupported type in a container", here)
        check_block(child, here, set())


def check_nothing(_block, _at):
    """Known to Slack, and not looked at more closely here."""


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
    "input": ({"label", "element", "dispatch_action", "hint", "optional"}, check_input),
    "file": (None, check_nothing),
    "video": (None, check_nothing),
    "table": ({"rows", "column_settings"}, check_table),
    "data_table": ({"rows", "caption", "page_size", "row_header_column_index"},
                   check_data_table),
    "data_visualization": ({"title", "chart"}, check_chart),
    "card": ({"hero_image", "icon", "slack_icon", "title", "subtitle", "body", "subtext",
              "actions"}, check_card),
    "carousel": ({"elements"}, check_carousel),
    "container": ({"title", "rich_text_title", "subtitle", "child_blocks", "width", "icon",
                   "is_collapsible", "default_collapsed", "has_header_divider"},
                  check_container),
    "alert": ({"text", "level"}, check_alert),
    "context_actions": (None, check_nothing),
}

IN_CONTAINER = {"actions", "context", "divider", "file", "header", "image", "input",
                "rich_text", "section", "table", "video"}
