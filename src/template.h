/*
 * template.h
 *		Templates: placeholders as parsed, values as filtered, and the state of
 *		rendering.
 *
 *	{{ path or path or path | filter | filter:argument }}
 *
 * A path is relative to the event's data.object, or to the event itself if it
 * begins with "event.".  A part with characters other than letters, digits, _
 * and - is quoted: metadata."order id".
 */
#ifndef STRIPE_SYNC_TEMPLATE_H
#define STRIPE_SYNC_TEMPLATE_H

#include "stripe_sync.h"

#include "lib/stringinfo.h"

#define TEMPLATE_MAX_BYTES	 (64 * 1024)
#define TEMPLATE_MAX_RESULT	 (128 * 1024)
#define TEMPLATE_VALUE_CHARS 500
#define TEMPLATE_JSON_CHARS	 200
#define TEMPLATE_NONE		 "(none)"

/* Where a string is put, which decides how Slack reads it */
typedef enum TemplateTarget
{
	TARGET_MRKDWN,
	TARGET_PLAIN, /* a plain_text object: no links, no dates */
	TARGET_URL	  /* an address, such as a button's url */
} TemplateTarget;

typedef struct Render
{
	Event *event;
	TemplateTarget target;
	int written; /* bytes, over all strings of a message */
	List *rows;	 /* of MirrorFinding: objects that were read already */
	Oid reader;	 /* whose rights on the mirror count; InvalidOid: reads all */
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
		ARGUMENT_TEXT
	} argument;
	void (*apply)(Render *render, const TemplateFilter *filter,
				  TemplateValue *value);
} TemplateFilterKind;

struct TemplateFilter
{
	const TemplateFilterKind *kind;
	char *argument; /* or NULL */
	List *path;		/* the argument as a path */
};

typedef struct TemplatePlaceholder
{
	List *paths;   /* alternatives: of lists of char *, a path's parts */
	List *filters; /* of TemplateFilter */
} TemplatePlaceholder;

/* ---- in template.c, template_blocks.c ---- */
extern char *template_render_in(Render *render, const char *text);
extern Jsonb *template_render_blocks_in(Render *render, Jsonb *blocks);

/* ---- in template_parse.c ---- */
extern TemplatePlaceholder *template_next(const char *whole, const char *from,
										  const char **begin, const char **end);

/* ---- in template_path.c ---- */
extern void template_find(Render *render, List *path, TemplateValue *value);
extern JsonbContainer *template_mirrored(Render *render, const char *field,
										 const char *id);
extern char *template_text(const JsonbValue *json);

/* ---- in template_filter.c ---- */
extern const TemplateFilterKind *template_filter_kind(const char *name);
extern const char *template_filter_names(void);

/* ---- in template_link.c ---- */
extern char *template_link(Render *render, const char *id,
						   JsonbContainer *holder);

#endif /* STRIPE_SYNC_TEMPLATE_H */
