/*
 * internal.h
 *		What the files of this folder share.
 */
#ifndef STRIPE_SYNC_MESSAGE_INTERNAL_H
#define STRIPE_SYNC_MESSAGE_INTERNAL_H

#include "lib/stringinfo.h"

#include "base/base.h"
#include "base/compat.h"
#include "inbox/event.h"
#include "message/message.h"

/* ---- template.c ---- */

#define TEMPLATE_MAX_BYTES	 (64 * 1024)
#define TEMPLATE_MAX_RESULT	 (128 * 1024)
#define TEMPLATE_VALUE_CHARS 500
#define TEMPLATE_JSON_CHARS	 200
#define TEMPLATE_NONE		 "(none)"

/* Where a string is put, which decides how Slack reads it */
typedef enum TemplateTarget
{
	TARGET_MRKDWN,
	TARGET_PLAIN,	 /* a plain_text object: no links, no dates */
	TARGET_MARKDOWN, /* a block of type markdown */
	TARGET_URL		 /* an address, such as a button's url */
} TemplateTarget;

typedef struct Render
{
	Event *event;
	TemplateTarget target;
	int written; /* bytes, over all strings of a message */
	List *rows;	 /* of MirrorFinding: objects that were read already */
	Oid reader;	 /* whose rights on the mirror count; InvalidOid: reads all */
	bool for_customer; /* the message is for the customer that it is about */
} Render;

typedef enum TemplateValueKind
{
	VALUE_MISSING, /* absent, null or '' */
	VALUE_JSON,
	VALUE_TEXT,	 /* still to be escaped */
	VALUE_MARKUP /* made by a filter, escaped */
} TemplateValueKind;

typedef struct TemplateValue
{
	TemplateValueKind kind;
	JsonbValue json;		/* before any filter */
	JsonbContainer *holder; /* the object that it is a field of, or NULL */
	char *currency;			/* of the nearest enclosing object, or NULL */
	char *text;
} TemplateValue;

typedef struct TemplateFilter TemplateFilter;

typedef struct TemplateFilterKind
{
	const char *name;
	enum
	{
		ARGUMENT_NONE,
		ARGUMENT_PATH, /* optional */
		ARGUMENT_TEXT,
		ARGUMENT_MAP /* key=text;... */
	} argument;
	void (*apply)(Render *render, const TemplateFilter *filter,
				  TemplateValue *value);
} TemplateFilterKind;

struct TemplateFilter
{
	const TemplateFilterKind *kind;
	char *argument; /* or NULL */
	List *path;		/* the argument as a path */
	List *map;		/* or as a map, see template_map.c */
};

typedef struct TemplatePlaceholder
{
	List *paths;   /* alternatives: of lists of char *, a path's parts */
	List *filters; /* of TemplateFilter */
} TemplatePlaceholder;

extern char *template_render_in(Render *render, const char *text);
extern char *template_markdown(const char *text); /* safe in Markdown */

/* ---- template_blocks.c ---- */

extern Jsonb *template_render_blocks_in(Render *render, Jsonb *blocks);

/* ---- template_parse.c ---- */

extern TemplatePlaceholder *template_next(const char *whole, const char *from,
										  const char **begin, const char **end);

/* ---- template_path.c ---- */

extern void template_find(Render *render, List *path, TemplateValue *value);
extern JsonbContainer *template_mirrored(Render *render, const char *field,
										 const char *id);
extern char *template_text(const JsonbValue *json);
extern char *template_value_text(TemplateValue *value);
extern void template_value_set(TemplateValue *value, char *text);

/* ---- template_filter.c ---- */

extern const TemplateFilterKind *template_filter_kind(const char *name);
extern const char *template_filter_names(void);

/* ---- template_map.c ---- */

extern List *template_map_parse(const char *text, const char **error);
extern void template_map_apply(Render *render, const TemplateFilter *filter,
							   TemplateValue *value);

/* ---- template_who.c ---- */

extern void template_who_apply(Render *render, const TemplateFilter *filter,
							   TemplateValue *value);

/* ---- template_monthly.c ---- */

extern void template_monthly_apply(Render *render, const TemplateFilter *filter,
								   TemplateValue *value);

/* ---- dashboard_link.c ---- */

extern char *template_link(Render *render, const char *id,
						   JsonbContainer *holder);

/* ---- mrkdwn.c ---- */

extern int mrkdwn_length(const char *text);
extern char *mrkdwn_strip(const char *mrkdwn);
extern char *mrkdwn_unescape(const char *text);
extern char *mrkdwn_escape_once(const char *text);

/* ---- block_json.c ---- */

extern void blocks_push_key(JsonbInState *state, const char *key);
extern void blocks_push_string(JsonbInState *state, const char *key,
							   const char *text);
extern void blocks_push_bool(JsonbInState *state, const char *key, bool boolean);
extern void blocks_push_context(JsonbInState *state, const char *text);
extern void blocks_push_plain(JsonbInState *state, const char *key,
							  const char *text);

/* ---- block_buttons.c ---- */

extern Jsonb *blocks_of_buttons(const MessageButtons *buttons);

/* ---- block_limits.c ---- */

extern bool block_is_unusable(const JsonbValue *object);
extern Jsonb *block_fit(JsonbContainer *block, int longest);

/* ---- block_newer.c ---- */

extern bool block_is(JsonbContainer *block, const char *type);
extern JsonbContainer *block_array(JsonbContainer *object, const char *field);
extern JsonbContainer *block_element(JsonbContainer *array, int i);
extern JsonbContainer *table_row(JsonbContainer *rows, int i);
extern bool block_is_newer(JsonbContainer *block, bool *is_valid);

/* ---- block_plain.c ---- */

extern void block_push_plain(JsonbInState *state, JsonbValue *block);

/* ---- block_table.c ---- */

extern void rich_text_append(StringInfo out, JsonbContainer *element);
extern bool block_is_table(JsonbContainer *block);
extern int table_characters(JsonbContainer *block);
extern Jsonb *table_cut(Jsonb *table, int characters, int *cut);

/* ---- block_fitting.c ---- */

/* What is left of Slack's limits on a message */
typedef struct BlocksRoom
{
	int blocks;
	int characters; /* of the blocks' JSON */
	int cells;		/* characters of tables' cells */
	int markdown;	/* characters of markdown blocks */
} BlocksRoom;

#define BLOCKS_CONTEXT_SIZE 120 /* characters of a context block's JSON */

extern const BlocksRoom blocks_room; /* of a whole message */
extern void blocks_push_fitting(JsonbInState *state, Jsonb *blocks,
								BlocksRoom room);
extern bool blocks_are_none(Jsonb *blocks);

#endif /* STRIPE_SYNC_MESSAGE_INTERNAL_H */
