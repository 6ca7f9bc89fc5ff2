/*
 * block_kit.c
 *		The payload of a message: fallback text and blocks, within Slack's
 *		limits.
 *
 * "text" is what notifications show when there are blocks; Slack advises 4,000
 * characters at most.  A section has 3,000 characters, an element of a context
 * block 2,000.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"

#include "base/base.h"
#include "base/compat.h"
#include "message/message.h"
#include "message/internal.h"

#define MAX_FALLBACK 4000
#define MAX_SECTION	 3000
#define MAX_STATUS	 2000

/* ---- the fallback text ---- */

/* The first "text" that isn't blank, in the order of the blocks; NULL if none */
static char *
first_text(JsonbContainer *container)
{
	JsonbIterator *iterator = JsonbIteratorInit(container);
	char *text = json_get_string(container, "text");
	JsonbValue value;
	JsonbIteratorToken token;

	check_stack_depth();
	if (text != NULL && !mrkdwn_is_blank(text))
		return text;
	text = NULL;
	(void) JsonbIteratorNext(&iterator, &value, true);
	while (text == NULL &&
		   (token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
		if ((token == WJB_VALUE || token == WJB_ELEM) && value.type == jbvBinary)
			text = first_text(value.val.binary.data);
	return text;
}

/* Never empty: Slack rejects a message without text (no_text). */
static char *
fallback_text(const char *head, const MessageParts *parts)
{
	const char *text = parts->text;

	if (text == NULL || mrkdwn_is_blank(text))
		text = parts->blocks ? first_text(&parts->blocks->root) : NULL;
	/* stripping links makes it shorter, so more than the limit is kept first */
	text = mrkdwn_strip(mrkdwn_cut(text ? text : "", 4 * MAX_FALLBACK));
	if (mrkdwn_is_blank(text))
		text = "A message without text";
	return mrkdwn_cut(psprintf("%s%s", mrkdwn_strip(head), text), MAX_FALLBACK);
}

/* ---- the payload ---- */

/* The sign of a resolved incident; a text of its own for a bad end has one. */
static const char *
check_mark(const MessageParts *parts)
{
	if (!parts->ended_badly)
		return ":white_check_mark: ";
	return parts->ending != NULL ? "" : ":x: ";
}

/* How severe it is, or how it ended */
static const char *
sign_of(const MessageParts *parts)
{
	if (parts->resolved && parts->ending != NULL)
		return psprintf("%s%s\n", check_mark(parts), parts->ending);
	if (parts->resolved)
		return psprintf("%s%s", check_mark(parts),
						parts->ended_badly ? "*Closed:* " : "*Resolved:* ");
	if (parts->severity == NULL)
		return "";
	if (strcmp(parts->severity, "critical") == 0)
		return ":rotating_light: ";
	if (strcmp(parts->severity, "warning") == 0)
		return ":warning: ";
	if (strcmp(parts->severity, "info") == 0)
		return ":information_source: ";
	return "";
}

/* A user or a user group, as Slack writes a mention; "" for NULL */
static const char *
mention_of(const char *who)
{
	if (who == NULL)
		return "";
	return psprintf(who[0] == 'S' ? "<!subteam^%s> " : "<@%s> ",
					mrkdwn_escape(who));
}

/* What the message begins with */
static char *
head_of(const MessageParts *parts)
{
	return psprintf("%s%s%s", parts->is_test ? "[TEST] " : "", sign_of(parts),
					mention_of(parts->mention));
}

/* With blocks of the user's own, the line below them says what the head would. */
static char *
head_below(const MessageParts *parts)
{
	const char *end = "";

	if (parts->resolved && parts->ending != NULL)
		end = psprintf("%s%s\n", check_mark(parts), parts->ending);
	else if (parts->resolved)
		end = psprintf("%s%s", check_mark(parts),
					   parts->status ? "" : "*Resolved*");
	return psprintf("%s%s%s", parts->is_test ? "[TEST] " : "", end,
					mention_of(parts->mention));
}

/* The text of the context block below; NULL if there is none. */
static char *
context_text(const MessageParts *parts)
{
	char *head = parts->blocks != NULL ? head_below(parts) : "";
	const char *status = parts->status ? parts->status : "";

	if (mrkdwn_is_blank(head) && status[0] == '\0')
		return NULL;
	return mrkdwn_cut(psprintf("%s%s", head, status), MAX_STATUS);
}

/* The user's blocks, or a section with the text. */
static void
push_body(JsonbInState *state, const MessageParts *parts, const char *head,
		  BlocksRoom room)
{
	const char *text = parts->text;

	if (parts->blocks != NULL)
	{
		blocks_push_fitting(state, parts->blocks, room);
		return;
	}
	if (text == NULL || mrkdwn_is_blank(text))
		text = "(none)";
	blocks_push_section(state,
						mrkdwn_cut(psprintf("%s%s", head, text), MAX_SECTION));
}

/* Escape each line; the line breaks stay. */
static char *
escape_lines(const char *text)
{
	StringInfoData out;

	initStringInfo(&out);
	for (;;)
	{
		int length = strcspn(text, "\n");

		appendStringInfoString(&out, mrkdwn_escape(pnstrdup(text, length)));
		if (text[length] == '\0')
			return out.data;
		appendStringInfoChar(&out, '\n');
		text += length + 1;
	}
}

/*
 * The payload of notify() and test_destination(): plain text, and blocks of the
 * caller's or NULL.  Raises 22023 if the blocks are no array of blocks.
 */
Jsonb *
blocks_plain(const char *text, Jsonb *blocks)
{
	JsonbInState state = {0};

	compat_push_jsonb(&state, WJB_BEGIN_OBJECT, NULL);
	blocks_push_string(&state, "text",
					   mrkdwn_cut(escape_lines(text), MAX_FALLBACK));
	if (blocks != NULL && !blocks_are_none(blocks))
	{
		blocks_push_key(&state, "blocks");
		compat_push_jsonb(&state, WJB_BEGIN_ARRAY, NULL);
		blocks_push_fitting(&state, blocks, blocks_room);
		compat_push_jsonb(&state, WJB_END_ARRAY, NULL);
	}
	compat_push_jsonb(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(state.result);
}

/* Blocks that are complete, as elements of the array */
static void
push_complete(JsonbInState *state, Jsonb *blocks)
{
	for (uint32 i = 0; i < JB_ROOT_COUNT(blocks); i++)
		compat_push_jsonb(state, WJB_ELEM,
						  getIthJsonbValueFromContainer(&blocks->root, i));
}

/* What blocks that are complete take of the room */
static void
take_room(BlocksRoom *room, Jsonb *blocks)
{
	room->blocks -= JB_ROOT_COUNT(blocks);
	room->characters -= mrkdwn_length(
		JsonbToCString(NULL, &blocks->root, VARSIZE(blocks)));
}

/*
 * The payload of an alert's message, within Slack's limits whatever the parts
 * are.  Raises 22023 if the user's blocks are no array of blocks.
 */
Jsonb *
blocks_message(const MessageParts *given)
{
	MessageParts parts = *given;
	JsonbInState state = {0};
	const char *head = head_of(given);
	BlocksRoom room = blocks_room;
	Jsonb *buttons = NULL;
	char *status;

	if (parts.blocks != NULL && blocks_are_none(parts.blocks))
		parts.blocks = NULL;
	status = context_text(&parts);
	if (status != NULL)
	{
		room.blocks--;
		room.characters -= 2 * mrkdwn_length(status) + BLOCKS_CONTEXT_SIZE;
	}
	if (parts.buttons != NULL)
	{
		buttons = blocks_of_buttons(parts.buttons);
		take_room(&room, buttons);
	}
	compat_push_jsonb(&state, WJB_BEGIN_OBJECT, NULL);
	blocks_push_string(&state, "text", fallback_text(head, &parts));
	blocks_push_key(&state, "blocks");
	compat_push_jsonb(&state, WJB_BEGIN_ARRAY, NULL);
	push_body(&state, &parts, head, room);
	if (status != NULL)
		blocks_push_context(&state, status);
	if (buttons != NULL)
		push_complete(&state, buttons);
	compat_push_jsonb(&state, WJB_END_ARRAY, NULL);
	if (!parts.is_update) /* chat.update has no such arguments */
	{
		blocks_push_bool(&state, "unfurl_links", false);
		blocks_push_bool(&state, "unfurl_media", false);
	}
	compat_push_jsonb(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(state.result);
}
