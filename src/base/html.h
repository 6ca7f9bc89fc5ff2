/*
 * html.h
 *		Text in HTML.
 */
#ifndef STRIPE_SYNC_HTML_H
#define STRIPE_SYNC_HTML_H

#include "lib/stringinfo.h"

extern void html_append_escaped(StringInfo out, const char *text);

#endif /* STRIPE_SYNC_HTML_H */
