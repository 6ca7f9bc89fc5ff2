/*
 * text.h
 *		Small operations on text.
 */
#ifndef STRIPE_SYNC_TEXT_H
#define STRIPE_SYNC_TEXT_H

#include "lib/stringinfo.h"

extern char *text_clip(const char *text, int most);
extern void text_clip_into(char *to, size_t size, const char *from);
extern void text_copy_utf8(char *to, size_t size, const char *from,
						   size_t length);

/* Stands the character for itself in an encoded text? */
typedef bool (*TextKeeps)(unsigned char c);

extern void text_append_percent_encoded(StringInfo out, const char *text,
										TextKeeps keeps);
extern char *text_percent_encode(const char *text, TextKeeps keeps);
extern bool text_is_unreserved(unsigned char c);

#endif /* STRIPE_SYNC_TEXT_H */
